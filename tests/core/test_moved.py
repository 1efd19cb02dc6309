"""What a domain keeps, gets anew and loses in a move: crypto units (R02, R43), NIU (R40 to R42)."""

from dataclasses import replace

import pytest

from lodom.cli.render import render
from lodom.core.commands.domains import new_mac
from lodom.core.errors import MigrationRefused
from lodom.core.events import CommandGiven
from lodom.core.units import GIB
from lodom.core.views import Live, view
from lodom.grammar.parser import parse
from lodom.sim.world import World


@pytest.fixture
def world():
    return World(seed=1)


@pytest.fixture
def a(world):
    return served(world.hosts["a"])


@pytest.fixture
def b(world):
    return served(world.hosts["b"])


def served(host, units=1):
    host.ldm("set-mau", number=units, ldom="primary")
    host.ldm("set-vcpu", number=4, ldom="primary")
    host.ldm("set-memory", size=GIB, ldom="primary")
    host.ldm("add-vconscon", low=5000, high=5100, name="vcc0", ldom="primary")
    host.ldm("add-vswitch", name="vsw0", ldom="primary")
    return host


def guest(world, host, *, vcpus=1, mau=0, mode=""):
    host.ldm("add-domain", ldoms=["ldg1"])
    host.ldm("set-vcpu", number=vcpus, ldom="ldg1")
    host.ldm("set-memory", size=GIB, ldom="ldg1")
    if mau:
        host.ldm("set-mau", number=mau, ldom="ldg1")
    host.ldm("add-vnet", name="net0", switch="vsw0", mode=mode, ldom="ldg1")
    host.ldm("bind-domain", ldom="ldg1")
    host.ldm("start-domain", ldoms=["ldg1"])
    world.run(seconds=5)
    return host.engine.inventory.named("ldg1")


def moved(world, host, to="b"):
    result = host.ldm("migrate-domain", ldom="ldg1", host=to)
    world.run(seconds=10)
    return result, world.hosts[to].engine.inventory.named("ldg1")


def cores_of_units(host, units):
    return {u.core for u in host.facts.crypto if u.id in units}


def test_r43_one_strand_takes_its_unit_to_one_of_the_target(world, a, b):
    guest(world, a, mau=1)
    _, there = moved(world, a)
    (unit,) = there.bound.crypto
    core = b.facts.core_of(there.bound.vcpus[0].pid)
    assert cores_of_units(b, {unit}) == {core}
    assert there.runtime.crypto_ports == 1


def test_r43_no_free_unit_there_is_a_warning_and_the_ports_stay(world, a, b):
    """Another domain on the target could have all units; here its machine has none left."""
    guest(world, a, mau=1)
    b.engine.inventory = b.inventory = _without_units(b.engine.inventory)
    result, there = moved(world, a)
    assert result["warnings"] == [
        "b has 0 free cryptographic units on the cores for LDom ldg1, which has 1 bound"
    ]
    assert (there.bound.crypto, there.constraints.mau) == ((), 1)
    assert there.runtime.crypto_ports == 1
    _, back = moved(world, b, "a")
    assert back.runtime.crypto_ports == 1


@pytest.mark.parametrize("rules", ["1.2", "3.x"])
def test_r43_a_core_with_a_free_unit_is_taken_first(world, a, b, rules):
    """The lowest free core has none: the unit was left behind on the way."""
    for host in (a, b):
        machine = replace(host.engine.inventory.machine, rules=rules)
        host.engine.inventory = host.inventory = replace(host.engine.inventory, machine=machine)
    guest(world, a, mau=1)
    machine = b.engine.inventory.machine
    machine = replace(machine, crypto=(machine.crypto[0], *machine.crypto[2:]))
    b.engine.inventory = b.inventory = replace(b.engine.inventory, machine=machine)
    result, there = moved(world, a)
    assert (result["warnings"], len(there.bound.crypto)) == ([], 1)


def test_l21_a_free_unit_out_of_reach_is_a_warning(world, a, b):
    """It lies in the core of which a bound domain has a strand."""
    guest(world, a, mau=1)
    b.ldm("add-domain", ldoms=["x"])
    b.ldm("set-vcpu", number=1, ldom="x")
    b.ldm("set-memory", size=GIB, ldom="x")
    b.ldm("bind-domain", ldom="x")
    machine = b.engine.inventory.machine
    used = machine.core_of(b.engine.inventory.named("x").bound.vcpus[0].pid)
    units = tuple(u for u in machine.crypto if u.core in (0, used))
    machine = replace(machine, crypto=units)
    b.engine.inventory = b.inventory = replace(b.engine.inventory, machine=machine)
    result, there = moved(world, a)
    assert result["warnings"] == [
        "b has 0 free cryptographic units on the cores for LDom ldg1, which has 1 bound"
    ]
    assert there.bound.crypto == ()


def test_a_unit_is_bound_with_a_strand_of_its_core(world, a):
    """The lowest free strand lies in a core whose unit is the control domain's."""
    a.ldm("set-vcpu", number=3, ldom="primary")
    bound = guest(world, a, mau=1).bound
    assert cores_of_units(a, bound.crypto) == {a.facts.core_of(bound.vcpus[0].pid)}


def test_r12_a_bound_domain_gets_whole_pages_of_the_target(world, a, b):
    """A block that ends inside a page could never be started there."""
    machine = replace(b.engine.inventory.machine, page=GIB)
    b.engine.inventory = b.inventory = replace(b.engine.inventory, machine=machine)
    a.ldm("add-domain", ldoms=["ldg1"])
    a.ldm("set-vcpu", number=1, ldom="ldg1")
    a.ldm("set-memory", size=GIB // 2, ldom="ldg1")
    a.ldm("bind-domain", ldom="ldg1")
    _, there = moved(world, a)
    assert [block.size for block in there.bound.blocks] == [GIB]


def _without_units(inventory):
    machine = replace(inventory.machine, crypto=inventory.machine.crypto[:1])
    return replace(inventory, machine=machine)


def test_r43_units_and_several_strands_refuse(world, a, b):
    guest(world, a, vcpus=2, mau=1)
    with pytest.raises(MigrationRefused) as refusal:
        a.ldm("migrate-domain", ldom="ldg1", host="b")
    assert "R43" in [f.rule for f in refusal.value.findings]


@pytest.mark.parametrize("units", [1, 2])
def test_r43_what_the_remedy_says_can_be_done(world, a, b, units):
    """ldm refused it: the units of an active domain do not change."""
    guest(world, a, vcpus=5, mau=units)
    with pytest.raises(MigrationRefused) as refusal:
        a.ldm("migrate-domain", ldom="ldg1", host="b")
    (finding,) = (f for f in refusal.value.findings if f.rule == "R43")
    for typed in finding.remedy.split(", "):
        order = parse(typed.removeprefix("ldm ").split())
        a.ldm(order.verb, **order.arguments)
        world.run(seconds=5)
    _, there = moved(world, a)
    assert len(there.bound.vcpus) == (1 if units == 1 else 5)


def test_r34_what_a_domain_took_along_is_given_to_no_other(world, a, b):
    guest(world, a)
    _, domain = moved(world, a)
    gone = [domain.mac, *(v.mac for v in domain.constraints.vnets)]
    assert len(gone) == 2
    here = a.engine.inventory
    order = CommandGiven("r1", "add-domain", {}, {"macs": [*gone, "00:14:4f:f8:00:01"]}, 0)
    assert new_mac(here, order) == "00:14:4f:f8:00:01"
    _, back = moved(world, b, "a")
    assert [back.mac, *(v.mac for v in back.constraints.vnets)] == gone
    a.ldm("stop-domain", ldoms=["ldg1"], force=True)
    world.run(seconds=5)
    a.ldm("unbind-domain", ldom="ldg1")
    a.ldm("remove-domain", ldoms=["ldg1"])
    assert new_mac(a.engine.inventory, order) == gone[0]


def test_r02_the_report_says_how_many_streams(world, a, b):
    b.ldm("set-mau", number=0, ldom="primary")
    guest(world, a)
    checked = a.ldm("migrate-domain", ldom="ldg1", host="b", dry_run=True)
    assert checked["streams"] == 2
    assert [f.rule for f in checked["findings"]] == ["R02"]
    result, _ = moved(world, a)
    assert result["numbers"]["streams"] == 2


@pytest.mark.parametrize("rule", ["R40", "R41", "R42"])
def test_hybrid_is_a_wish(world, a, b, rule):
    """R40: the domain moves.  R41: nothing refuses it.  R42: asked for there, and not given."""
    guest(world, a, mode="hybrid")
    found = a.ldm("migrate-domain", ldom="ldg1", host="b", dry_run=True)["findings"]
    _, there = moved(world, a)
    if rule == "R40":
        assert there.state == "active"
    elif rule == "R41":
        assert {f.severity for f in found} <= {"note"}
    else:
        assert shown(b, "list-constraints")[-1].endswith("hybrid")
        assert not [line for line in shown(b, "list-bindings") if "hybrid" in line]
        assert [f.text for f in found if f.rule == "R42"] == [
            "mode=hybrid of net0 is kept and not fulfilled on b"
        ]


def shown(host, verb):
    arguments = {"ldoms": ["ldg1"]}
    document = view(verb, arguments, host.engine.inventory, Live())
    return [line for line in render(verb, arguments, document) if line.strip()]
