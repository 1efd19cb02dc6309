"""Delayed reconfiguration of the control domain, and saved configurations: R45, R46."""

from dataclasses import replace

import pytest

from lodom.cli.render import render
from lodom.core.errors import (
    AlreadyExists,
    Busy,
    InUse,
    InvalidValue,
    MemoryExhausted,
    MigrationRefused,
    NotSupported,
    ObjectUnknown,
    WrongState,
)
from lodom.core.lifecycle import reconf
from lodom.core.model.domain import State
from lodom.core.model.host import Bus, PciDevice
from lodom.core.model.inventory import Ownership
from lodom.core.units import GIB
from lodom.core.views import Live, view
from lodom.sim.world import World, machine

BUSES = (Bus("pci@400", "pci_0"), Bus("pci@500", "pci_1"))


@pytest.fixture
def world():
    facts = (replace(machine("a"), buses=BUSES), replace(machine("b"), buses=BUSES))
    return World(seed=1, machines=facts)


@pytest.fixture
def a(world):
    return served(world.hosts["a"])


@pytest.fixture
def b(world):
    return served(world.hosts["b"])


def served(host):
    host.ldm("set-mau", number=1, ldom="primary")
    host.ldm("set-vcpu", number=4, ldom="primary")
    host.ldm("set-memory", size=GIB, ldom="primary")
    host.ldm("add-vconscon", low=5000, high=5100, name="primary-vcc0", ldom="primary")
    return host


def guest(host, name="ldg1", *, state=State.BOUND):
    host.ldm("add-domain", ldoms=[name])
    host.ldm("set-vcpu", number=1, ldom=name)
    host.ldm("set-memory", size=GIB, ldom=name)
    if state is not State.INACTIVE:
        host.ldm("bind-domain", ldom=name)
    if state is State.ACTIVE:
        host.ldm("start-domain", ldoms=[name])
    return host.engine.inventory.named(name)


def control(host):
    return host.engine.inventory.primary


def memory(domain):
    return sum(b.size for b in domain.bound.blocks)


def shown(host, name="primary"):
    return view("list-domain", {"ldoms": [name]}, host.engine.inventory, Live())["domains"][0]


def rebooted(host, boot="second"):
    """What ldmd has in its hands at the start after a boot."""
    before = reconf.booted(host.engine.inventory, "first")
    return reconf.booted(before, boot)


# -- delayed reconfiguration --------------------------------------------------------------------


def test_a_machine_that_is_being_set_up_changes_at_once(a):
    assert memory(control(a)) == GIB
    assert a.engine.inventory.reconf == {}


def test_r46_memory_of_primary_waits_once_there_is_a_guest(a):
    guest(a)
    answer = a.ldm("set-memory", size=2 * GIB, ldom="primary")
    assert answer == {"say": reconf.BEGUN}
    assert memory(control(a)) == GIB
    assert shown(a)["flags"] == "-ndcv-"
    assert shown(a, "ldg1")["flags"] == "------"
    assert a.ldm("set-vcpu", number=3, ldom="primary") == {"say": reconf.GOES_ON}
    assert len(control(a).bound.vcpus) == 4
    asked = view("list-constraints", {"ldoms": ["primary"]}, a.engine.inventory, Live())
    assert (asked["domains"][0]["memory"], asked["domains"][0]["vcpu"]) == (2 * GIB, 3)


def test_strands_of_primary_are_dynamic_while_nothing_waits(a):
    guest(a)
    assert a.ldm("set-vcpu", number=3, ldom="primary") == {}
    assert len(control(a).bound.vcpus) == 3


def test_an_order_that_changes_nothing_begins_nothing(a):
    guest(a)
    assert a.ldm("set-memory", size=GIB, ldom="primary") == {}
    assert a.engine.inventory.reconf == {}


def test_what_cannot_be_had_is_refused_at_once(a):
    guest(a)
    with pytest.raises(MemoryExhausted):
        a.ldm("set-memory", size=4 * GIB, ldom="primary")
    assert a.engine.inventory.reconf == {}


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("set-vcpu", {"number": 2, "ldom": "ldg2"}),
        ("bind-domain", {"ldom": "ldg2"}),
        ("unbind-domain", {"ldom": "ldg1"}),
        ("add-domain", {"ldoms": ["ldg3"]}),
        ("remove-domain", {"ldoms": [], "all": True}),
        ("set-variable", {"variables": [["a", "b"]], "ldom": "ldg2"}),
    ],
)
def test_other_domains_stay_as_they_are_meanwhile(a, verb, arguments):
    guest(a)
    guest(a, "ldg2", state=State.INACTIVE)
    a.ldm("set-mau", number=0, ldom="primary")
    before = a.engine.inventory
    with pytest.raises(Busy, match=r"^Delayed reconfiguration of LDom .* is not permitted") as no:
        a.ldm(verb, **arguments)
    assert "LDom primary is in the process of a delayed reconfiguration" in str(no.value)
    assert before == a.engine.inventory


def test_other_domains_start_and_stop_meanwhile(world, a):
    guest(a)
    a.ldm("set-mau", number=0, ldom="primary")
    a.ldm("start-domain", ldoms=["ldg1"])
    world.run(seconds=5)
    a.ldm("stop-domain", ldoms=["ldg1"])
    assert a.engine.inventory.named("ldg1").state is State.BOUND


def test_cancel_gives_the_changes_up(a):
    guest(a)
    with pytest.raises(WrongState, match="not in a delayed reconfiguration"):
        a.ldm("cancel-operation", operation="reconf", ldom="primary")
    a.ldm("set-mau", number=0, ldom="primary")
    with pytest.raises(WrongState):
        a.ldm("cancel-operation", operation="reconf", ldom="ldg1")
    a.ldm("cancel-operation", operation="reconf", ldom="primary")
    assert shown(a)["flags"] == "-n-cv-"
    assert control(rebooted_host(a)).bound.crypto == control(a).bound.crypto


def rebooted_host(host):
    host.engine.inventory = host.inventory = rebooted(host)
    return host


def test_the_next_boot_applies_what_waits_and_only_a_boot(a):
    guest(a)
    a.ldm("set-memory", size=2 * GIB, ldom="primary")
    a.ldm("remove-io", bus="pci_1", ldom="primary")
    same = reconf.booted(reconf.booted(a.engine.inventory, "first"), "first")
    assert memory(same.primary) == GIB
    after = rebooted(a)
    assert memory(after.primary) == after.primary.constraints.memory == 2 * GIB
    assert after.primary.bound.io == ("pci@400",)
    assert (after.reconf, after.marks["boot"].value) == ({}, "second")
    assert after.named("ldg1") == a.engine.inventory.named("ldg1")


def test_a_first_start_is_no_boot(a):
    guest(a)
    a.ldm("set-mau", number=0, ldom="primary")
    assert reconf.booted(a.engine.inventory, "first").reconf != {}


@pytest.mark.parametrize("side", ["a", "b"])
def test_r45_a_delayed_reconfiguration_on_either_side_refuses_the_move(world, a, b, side):
    guest(a)
    if side == "b":
        guest(b, "ldg9")
    world.hosts[side].ldm("set-mau", number=0, ldom="primary")
    before = [world.hosts[n].engine.inventory for n in "ab"]
    with pytest.raises(MigrationRefused) as refusal:
        a.ldm("migrate-domain", ldom="ldg1", host="b")
    assert [f.rule for f in refusal.value.findings] == ["R45"]
    assert before == [world.hosts[n].engine.inventory for n in "ab"]
    world.hosts[side].ldm("cancel-operation", operation="reconf", ldom="primary")
    a.ldm("migrate-domain", ldom="ldg1", host="b")
    assert b.engine.inventory.find("ldg1")


# -- buses --------------------------------------------------------------------------------------


def test_the_control_domain_has_every_bus_at_first(a):
    buses = view("list-devices", {}, a.engine.inventory, Live())["io"]
    assert [(b["pseudonym"], b["bound"], b["source"]) for b in buses] == [
        ("pci_0", "primary", "declared"),
        ("pci_1", "primary", "declared"),
    ]


def test_r24_a_domain_with_a_bus_stays(world, a, b):
    guest(a, state=State.INACTIVE)
    with pytest.raises(InUse, match="LDom primary"):
        a.ldm("add-io", bus="pci_1", ldom="ldg1")
    a.ldm("remove-domain", ldoms=["ldg1"])
    a.ldm("remove-io", bus="pci_1", ldom="primary")
    guest(a)
    a.ldm("add-io", bus="pci_1", ldom="ldg1")
    assert a.engine.inventory.named("ldg1").bound.io == ("pci@500",)
    with pytest.raises(MigrationRefused) as refusal:
        a.ldm("migrate-domain", ldom="ldg1", host="b")
    assert [f.text for f in refusal.value.findings] == [
        "LDom ldg1 is an I/O domain: it has bus pci@500"
    ]
    a.ldm("remove-io", bus="pci@500", ldom="ldg1")
    a.ldm("migrate-domain", ldom="ldg1", host="b")


def test_a_bus_goes_with_its_domain_at_bind(a):
    a.ldm("remove-io", bus="pci_1", ldom="primary")
    guest(a, state=State.INACTIVE)
    a.ldm("add-io", bus="pci_1", ldom="ldg1")
    assert shown(a, "ldg1")["io"][0]["pseudonym"] == "pci_1"
    a.ldm("bind-domain", ldom="ldg1")
    assert a.engine.inventory.named("ldg1").bound.io == ("pci@500",)
    a.ldm("start-domain", ldoms=["ldg1"])
    with pytest.raises(WrongState):
        a.ldm("remove-io", bus="pci_1", ldom="ldg1")


def test_a_bus_that_another_bound_domain_has_refuses_the_bind(a):
    domain = guest(a, state=State.INACTIVE)
    asked = replace(domain, constraints=replace(domain.constraints, io=("pci@500",)))
    a.engine.inventory = a.inventory = a.engine.inventory.with_domain(asked)
    with pytest.raises(InUse, match="LDom primary"):
        a.ldm("bind-domain", ldom="ldg1")


@pytest.mark.parametrize("verb", ["add-io", "remove-io"])
def test_a_real_bus_stays_with_the_host(a, verb):
    real = replace(a.engine.inventory.machine, buses=(Bus("pci@0", "bus_a", "sysfs"),))
    real = replace(real, vfio="no VFIO: there is no /dev/vfio/vfio")
    a.engine.inventory = replace(a.engine.inventory, machine=real)
    with pytest.raises(NotSupported, match="there is no /dev/vfio/vfio"):
        a.ldm(verb, bus="bus_a", ldom="primary")


def test_who_uses_a_real_bus_is_named(a):
    devices = [PciDevice(f"0000:00:1f.{n}", "other", "8086:1", f"used{n}") for n in range(5)]
    bus = Bus("pci@0", "bus_a", "sysfs", (PciDevice("0000:00:00.0", "bridge", "8086:0"), *devices))
    real = replace(a.engine.inventory.machine, buses=(bus,))
    a.engine.inventory = replace(a.engine.inventory, machine=real)
    words = r"host use 0000:00:1f.0 \(used0\), .*1f.2 \(used2\) and 2 more"
    with pytest.raises(NotSupported, match=words):
        a.ldm("add-io", bus="bus_a", ldom="primary")


def test_words_that_name_no_bus(a):
    with pytest.raises(ObjectUnknown):
        a.ldm("add-io", bus="pci_9", ldom="primary")
    with pytest.raises(NotSupported, match="bypass"):
        a.ldm("add-io", bus="pci_0", ldom="primary", bypass="on")


# -- saved configurations -----------------------------------------------------------------------


def listed(inventory):
    found = view("list-spconfig", {}, inventory, Live())["configs"]
    return [(c["name"], c["current"], c["next"]) for c in found]


def test_a_selected_configuration_comes_back_at_the_boot(a):
    guest(a, state=State.ACTIVE)
    a.ldm("add-spconfig", name="one-guest")
    saved = a.engine.inventory
    guest(a, "ldg2")
    a.ldm("add-vconscon", low=6000, high=6001, name="vcc1", ldom="primary")
    a.ldm("set-spconfig", name="one-guest")
    assert listed(a.engine.inventory) == [
        ("factory-default", False, False),
        ("one-guest", True, True),
    ]
    found = view("list-spconfig", {}, a.engine.inventory, Live())
    assert render("list-spconfig", {}, found) == ["factory-default", "one-guest [current] [next]"]
    after = rebooted(a)
    assert [d.name for d in after.sorted_domains()] == ["primary", "ldg1"]
    assert after.named("ldg1").state is State.ACTIVE
    assert after.named("ldg1").bindings == saved.named("ldg1").bindings
    assert after.named("ldg1").runtime is None
    assert after.vcc == saved.vcc
    assert after.ownership == a.engine.inventory.ownership
    assert listed(after)[1] == ("one-guest", True, False)
    assert reconf.booted(after, "third").domains == after.domains


def test_a_boot_without_a_choice_changes_nothing(a):
    guest(a)
    a.ldm("add-spconfig", name="early")
    guest(a, "ldg2")
    assert rebooted(a).domains == a.engine.inventory.domains


def test_a_choice_names_the_domains_that_the_boot_removes(a):
    """One that has arrived since is nowhere else any more."""
    guest(a)
    a.ldm("add-spconfig", name="early")
    assert a.ldm("set-spconfig", name="early") == {}
    guest(a, "ldg2")
    assert a.ldm("set-spconfig", name="early") == {
        "say": "Notice: the next boot removes LDom ldg2: not in early"
    }


def test_saving_the_configuration_takes_a_choice_back(a):
    guest(a)
    a.ldm("set-spconfig", name="factory-default")
    a.ldm("add-spconfig", name="now")
    assert listed(a.engine.inventory) == [("factory-default", False, False), ("now", True, False)]
    assert rebooted(a).domains == a.engine.inventory.domains


def test_factory_default_gives_all_to_primary(a):
    guest(a)
    a.ldm("set-spconfig", name="factory-default")
    after = rebooted(a)
    assert [d.name for d in after.sorted_domains()] == ["primary"]
    assert (memory(after.primary), len(after.primary.bound.vcpus)) == (4 * GIB, 16)
    assert (after.vcc, after.primary.uuid) == ({}, control(a).uuid)
    assert listed(after) == [("factory-default", True, False)]


def test_a_domain_that_has_moved_away_comes_back_without_resources(a):
    d = guest(a)
    a.ldm("add-spconfig", name="before")
    a.ldm("set-spconfig", name="before")
    moved = a.engine.inventory.drop("domains", d.uuid)
    moved = moved.put("ownership", d.uuid, Ownership(d.uuid, 2, "another instance"))
    a.engine.inventory = moved
    back = rebooted(a).named("ldg1")
    assert (back.state, back.bindings) == (State.INACTIVE, None)


def test_a_hand_over_in_doubt_keeps_the_choice_for_a_later_boot(a):
    d = guest(a)
    a.ldm("set-spconfig", name="factory-default")
    a.engine.inventory = a.engine.inventory.put("outgoing", "m1", object())
    after = rebooted(a)
    assert d.uuid in after.domains
    assert after.marks["next"].value == "factory-default"


def test_what_waits_is_saved_too(a):
    guest(a)
    a.ldm("set-memory", size=2 * GIB, ldom="primary")
    a.ldm("add-spconfig", name="wide")
    assert listed(a.engine.inventory)[0] == ("factory-default", True, False)
    a.ldm("set-spconfig", name="wide")
    assert memory(rebooted(a).primary) == 2 * GIB


def test_names_of_configurations(a):
    with pytest.raises(AlreadyExists):
        a.ldm("add-spconfig", name="factory-default")
    a.ldm("add-spconfig", name="one")
    with pytest.raises(AlreadyExists):
        a.ldm("add-spconfig", name="one")
    with pytest.raises(ObjectUnknown):
        a.ldm("set-spconfig", name="two")
    with pytest.raises(InvalidValue):
        a.ldm("remove-spconfig", name="factory-default")
    a.ldm("set-spconfig", name="one")
    with pytest.raises(InUse):
        a.ldm("remove-spconfig", name="one")
    a.ldm("set-spconfig", name="factory-default")
    a.ldm("remove-spconfig", name="one")
    with pytest.raises(ObjectUnknown):
        a.ldm("remove-spconfig", name="one")
    with pytest.raises(NotSupported, match="autosaves"):
        a.ldm("add-spconfig", name="x", autosave=True)


def test_a_saved_configuration_makes_the_machine_a_configured_one(a):
    a.ldm("add-spconfig", name="one")
    assert a.ldm("set-mau", number=0, ldom="primary") == {"say": reconf.BEGUN}
