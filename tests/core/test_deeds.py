"""Rules that are deeds rather than checks, each seen in a move between two machines."""

from dataclasses import replace

import pytest
from rules import clean
from rules.clean import ids

from lodom.core import events as ev
from lodom.core.errors import (
    Busy,
    CpuReconfigurationDisabled,
    LodomError,
    MigrationFailed,
    MigrationRefused,
)
from lodom.core.lifecycle import domain as life
from lodom.core.migration import conduct, source
from lodom.core.migration.orders import CheckTarget
from lodom.core.model.domain import State
from lodom.core.model.host import Region
from lodom.core.rules.case import BackendFacts
from lodom.core.units import GIB, MIB
from lodom.core.views import Live, view
from lodom.sim.world import World


class OtherStorage(World):
    """The target's volumes are other storage, and every migration is forced."""

    def _backends(self, domain):
        return {
            f"{d.volume}@{d.service}": BackendFacts("file", GIB, ("naa.2",)) for d in domain.disks
        }

    def _reserve(self, migration, message):
        return replace(super()._reserve(migration, message), force=True)


class Delaying(World):
    """As soon as the target has judged, one of the machines begins a delayed reconfiguration."""

    begins = ""

    def _judged(self, other, e, facts):
        answer = super()._judged(other, e, facts)
        if self.begins:
            self.hosts[self.begins].order("set-memory", size=GIB // 2, ldom="primary")
        return answer


class Watched(World):
    """Notes whether migrations shrink their domains."""

    def __init__(self, seed):
        self.shrinks = set()
        super().__init__(seed)

    def written(self, host, changed, batch):
        super().written(host, changed, batch)
        self.shrinks |= {row.shrink for row in host.engine.inventory.outgoing.values()}


@pytest.fixture
def world():
    return World(seed=1)


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
    host.ldm("add-vconscon", low=5000, high=5100, name="vcc0", ldom="primary")
    host.ldm("add-vconscon", low=4000, high=4100, name="vcc1", ldom="primary")
    host.ldm("add-vdiskserver", name="vds0", ldom="primary")
    host.ldm("add-vdiskserverdevice", backend="/disk", volume="vol1", service="vds0")
    return host


def guest(host, name="ldg1", *, vcpus=3, memory=512 * MIB, start=True, **console):
    host.ldm("add-domain", ldoms=[name])
    host.ldm("set-vcpu", number=vcpus, ldom=name)
    host.ldm("set-memory", size=memory, ldom=name)
    if console:
        host.ldm("set-vconsole", ldom=name, **console)
    host.ldm("bind-domain", ldom=name)
    if start:
        host.ldm("start-domain", ldoms=[name])
        host.world.run(seconds=5)
    return here(host, name)


def here(host, name="ldg1"):
    return host.engine.inventory.named(name)


def moved(host, to, **how):
    result = host.ldm("migrate-domain", ldom="ldg1", host=to.facts.name, **how)
    host.world.run(seconds=60)
    return result


# -- CPU ----------------------------------------------------------------------------------------


def test_r01_a_bound_domain_is_judged_by_fewer_rules():
    case = clean.target_machine(processor="Other")
    assert ids(case) == ["R03"]
    assert ids(clean.domain(case, state="bound")) == []


def test_r06_the_rest_of_the_last_core_is_nobodys(a, b):
    guest(a)
    moved(a, b)
    (held,) = here(b).bound.held
    rows = view("list-devices", {}, b.engine.inventory, Live())["vcpu"]
    assert [(r["free"], r["bound"], r["held"]) for r in rows if r["pid"] == held] == [
        (0, "", "ldg1")
    ]


@pytest.mark.parametrize(("theirs", "deeds"), [("1.2", True), ("3.x", False)])
def test_r06_r07_l22_deeds_follow_the_rules_of_the_report(theirs, deeds):
    """Machines of different rules come to 1.2: either of them does what the report has said."""
    world = Watched(seed=1)
    a, b = (served(world.hosts[n]) for n in "ab")
    guest(a)
    for host, rules in ((a, "3.x"), (b, theirs)):
        machine = replace(host.engine.inventory.machine, rules=rules)
        host.engine.inventory = host.inventory = replace(host.engine.inventory, machine=machine)
    for leaves, gets in ((a, b), (b, a)):
        moved(leaves, gets)
        assert world.shrinks == {deeds}
        assert (here(gets).bound.cpu_dr_off, len(here(gets).bound.held)) == (deeds, deeds)


def test_r07_cpu_dr_is_off_after_the_move(a, b):
    guest(a)
    moved(a, b)
    for verb in ("add-vcpu", "set-vcpu", "remove-vcpu"):
        with pytest.raises(CpuReconfigurationDisabled):
            b.ldm(verb, number=1, ldom="ldg1")


def test_r08_a_reboot_brings_cpu_dr_back_and_frees_the_rest(world, a, b):
    guest(a)
    moved(a, b)
    b.hypervisor.reboot(here(b).uuid)
    world.run(seconds=60)
    assert (here(b).bound.held, here(b).state) == ((), State.ACTIVE)
    b.ldm("add-vcpu", number=1, ldom="ldg1")
    assert len(here(b).bound.vcpus) == 4


@pytest.mark.parametrize("force", [False, True])
def test_r06_r07_a_domain_that_is_stopped_holds_no_strands_back(world, a, b, force):
    """They were nobody's for as long as it stayed stopped, and its CPU DR showed as off."""
    guest(a)
    moved(a, b)
    b.ldm("stop-domain", ldoms=["ldg1"], force=force)
    bound = here(b).bound
    assert (here(b).state, len(bound.vcpus), bound.held) == (State.BOUND, 3, ())
    assert not bound.cpu_dr_off


def test_r10_a_removal_that_the_guest_refuses_ends_the_move(world, a, b):
    d = guest(a)
    request = a.order("migrate-domain", ldom="ldg1", host="b")
    world.run(until=lambda: phase(a) is source.Phase.SHRINKING)
    a.post(ev.VcpusRefused(d.uuid, ((1, "cpu has bound thread"),)))
    world.run(seconds=60)
    assert isinstance(a.answers[request], MigrationFailed)
    assert "cpu has bound thread" in str(a.answers[request])
    assert a.hypervisor.guests[d.uuid].online == (0, 1, 2)
    assert here(a).bound.vcpus == d.bound.vcpus
    assert b.engine.inventory.find("ldg1") is None


def phase(host):
    return next((r.phase for r in host.engine.inventory.outgoing.values()), None)


# -- memory -------------------------------------------------------------------------------------


def scattered(world):
    """A domain of two blocks with a hole between, and a target whose memory lies elsewhere."""
    a, b = (served(world.hosts[n]) for n in "ab")
    guest(a, "first", memory=512 * MIB, vcpus=1, start=False)
    guest(a, "second", memory=512 * MIB, vcpus=1, start=False)
    a.ldm("unbind-domain", ldom="first")
    guest(a, memory=2304 * MIB, vcpus=1)
    guest(b, "other", memory=256 * MIB, vcpus=1, start=False)
    return a, b


def test_r13_r15_blocks_keep_number_sizes_and_real_addresses(world):
    a, b = scattered(world)
    before = here(a).bound.blocks
    assert len(before) == 2
    moved(a, b)
    after = here(b).bound.blocks
    assert [(x.ra, x.size) for x in after] == [(x.ra, x.size) for x in before]


def test_r14_physical_addresses_are_free_to_change(world):
    a, b = scattered(world)
    before = here(a).bound.blocks
    moved(a, b)
    assert [x.pa for x in here(b).bound.blocks] != [x.pa for x in before]


def test_r16_too_little_is_not_badly_laid_out():
    half = Region(0x108000000, GIB)
    assert ids(clean.target(free=(half,)))[:1] == ["R12"]
    apart = clean.target(free=(half, Region(0x188000000, GIB)))
    assert ids(apart) == ["R18"]


def test_r19_free_memory_is_listed_by_address_neighbours_as_one(a):
    rows = view("list-devices", {}, a.engine.inventory, Live())["memory"]
    assert [r["size"] for r in rows if not r["bound"]] == [3 * GIB]
    guest(a, "first", start=False)
    guest(a, "second", start=False)
    a.ldm("unbind-domain", ldom="first")
    rows = view("list-devices", {}, a.engine.inventory, Live())["memory"]
    free = [(int(r["pa"], 16), r["size"]) for r in rows if not r["bound"]]
    assert [size for _, size in free] == [512 * MIB, 2 * GIB]
    assert free == sorted(free)


# -- devices ------------------------------------------------------------------------------------


def test_r22_devices_backed_by_physical_ones_move():
    lun = replace(clean.LUN, kind="block")
    case = clean.nic(clean.disk(backend=lun), uplink=True)
    assert "R23" not in ids(case)


def test_r29_r30_a_forced_move_marks_the_domain_until_it_is_stopped():
    world = OtherStorage(seed=1)
    a, b = (served(world.hosts[n]) for n in "ab")
    guest(a, start=False)
    a.ldm("add-vdisk", name="vdisk0", volume="vol1", service="vds0", ldom="ldg1")
    a.ldm("start-domain", ldoms=["ldg1"])
    world.run(seconds=5)
    with pytest.raises(MigrationRefused) as refusal:
        moved(a, b)
    assert [f.rule for f in refusal.value.findings if f.severity == "blocker"] == ["R27"]
    (warning,) = moved(a, b, force=True)["warnings"]
    assert here(b).storage_differs
    steps = ["ldm stop-domain ldg1", "vdisk0 ldg1", "ldm start-domain ldg1"]
    places = [warning.index(step) for step in steps]
    assert places == sorted(places)
    b.ldm("stop-domain", ldoms=["ldg1"])
    assert not here(b).storage_differs


def test_r30_a_domain_that_died_too_often_is_stopped_too(a):
    """Its volumes are corrected then, and the mark would stand beside the right ones."""
    guest(a)
    d = replace(here(a), deaths=life.MAX_DEATHS - 1, storage_differs=True)
    inventory, _ = life.died(a.engine.inventory, d, ev.GuestGone(d.uuid))
    after = inventory.named("ldg1")
    assert (after.state, after.storage_differs) == (State.BOUND, False)


def test_r36_r37_r38_the_console_is_set_anew(a, b):
    """First concentrator of the target by name, lowest free port, group by the new name."""
    guest(a, port=4050, group="mine", service="vcc1")
    checked = a.ldm("migrate-domain", ldom="ldg1", host="b", target="web1", dry_run=True)
    assert [f.text for f in checked["findings"] if f.rule == "R36"] == [
        "The console of LDom ldg1 is set anew on b; port=4050 group=mine service=vcc1 is not kept"
    ]
    moved(a, b, target="web1")
    console = here(b, "web1").bound.console
    assert (console.service, console.group, console.port) == ("vcc0", "web1", 5000)
    assert here(b, "web1").constraints.console.port is None


def test_r44_units_and_several_strands_are_a_blocker(a, b):
    guest(a, vcpus=1, start=False)
    a.ldm("set-mau", number=1, ldom="ldg1")
    a.ldm("add-vcpu", number=1, ldom="ldg1")
    a.ldm("start-domain", ldoms=["ldg1"])
    a.world.run(seconds=5)
    with pytest.raises(MigrationRefused) as refusal:
        moved(a, b)
    assert [f.rule for f in refusal.value.findings if f.severity == "blocker"] == ["R43"]
    assert here(a).state is State.ACTIVE


@pytest.mark.parametrize("dry_run", [True, False])
def test_l02_a_machine_is_no_target_of_its_own(a, dry_run):
    uuid = guest(a, start=False).uuid
    asked = CheckTarget("r1", uuid, "localhost", "root", "ldg1", force=True, dry_run=dry_run)
    error = conduct.to_itself(a.engine.inventory, asked)
    (finding,) = error.findings
    assert (finding.rule, finding.severity) == ("L02", "blocker")
    assert finding.text.startswith("a is the source machine itself, or a clone of it")
    verdict = "would fail if attempted" if dry_run else "failed"
    assert str(error) == f"Domain Migration of LDom ldg1 {verdict}"


@pytest.mark.parametrize(("how", "user"), [({"certificates": True}, ""), ({}, "root")])
def test_who_comes_with_a_certificate_is_no_user_of_the_target(a, how, user):
    """``-c``: a user's name beside it would be asked for its password there."""
    guest(a, start=False)
    arguments = {"ldom": "ldg1", "host": "b", "user": "root", **how}
    order = ev.CommandGiven("r1", "migrate-domain", arguments, {})
    step = conduct.migrate(a.engine.inventory, order)
    assert [check.user for check in step.effects] == [user]


# -- other operations ---------------------------------------------------------------------------

_MOVING = {
    "R46": ("set-memory", {"size": 2 * GIB, "ldom": "primary"}),
    "R47": ("set-variable", {"variables": [["x", "y"]], "ldom": "ldg1"}),
    "R48": ("stop-domain", {"ldoms": ["ldg1"]}),
    "R49": ("bind-domain", {"ldom": "ldg2"}),
}


@pytest.mark.parametrize("rule", _MOVING)
def test_r46_r47_r48_r49_orders_while_a_domain_moves(world, a, b, rule):
    guest(a)
    for host in (a, b):
        guest(host, "ldg2", vcpus=1, start=False)
        host.ldm("unbind-domain", ldom="ldg2")
    request = a.order("migrate-domain", ldom="ldg1", host="b")
    world.run(until=lambda: phase(a) is source.Phase.COPYING)
    verb, arguments = _MOVING[rule]
    for host in (a, b):
        before = host.engine.inventory
        with pytest.raises(Busy, match="a migration of LDom ldg1"):
            host.ldm(verb, **arguments)
        assert before.reconf == host.engine.inventory.reconf
    a.ldm("cancel-operation", operation="migration", ldom="ldg1")
    world.run(seconds=60)
    assert isinstance(a.answers[request], MigrationFailed)
    a.ldm("bind-domain", ldom="ldg2")


@pytest.mark.parametrize("begins", ["a", "b"])
def test_r45_a_delayed_reconfiguration_begun_during_the_check(begins):
    """The target judges anew when it reserves; the source's facts were of before."""
    world = Delaying(seed=1)
    a, b = (served(world.hosts[n]) for n in "ab")
    guest(a)
    guest(b, "ldg2", start=False)
    world.begins = begins
    with pytest.raises(LodomError, match="delayed reconfiguration"):
        moved(a, b)
    assert world.hosts[begins].engine.inventory.reconf
    world.run(seconds=60)
    assert (here(a).state, b.engine.inventory.incoming) == (State.ACTIVE, {})


def test_r20_a_domain_shows_real_and_physical_address_of_each_block(a):
    d = guest(a, start=False)
    shown = view("list-domain", {"ldoms": ["ldg1"]}, a.engine.inventory, Live())["domains"][0]
    (block,) = d.bound.blocks
    assert shown["blocks"] == [{"ra": "0x8000000", "pa": hex(block.pa), "size": block.size}]


def test_r21_the_verdict_comes_last_and_is_one_line(world, a, b):
    guest(a)
    guest(b, "hog", memory=2816 * MIB, start=False)
    for dry, verdict in ((False, "failed"), (True, "would fail if attempted")):
        with pytest.raises(MigrationRefused) as refusal:
            a.ldm("migrate-domain", ldom="ldg1", host="b", dry_run=dry)
        assert str(refusal.value) == f"Domain Migration of LDom ldg1 {verdict}"
        assert "R12" in [f.rule for f in refusal.value.findings]
