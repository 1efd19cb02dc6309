"""How a domain is when it has arrived: strands held back and CPU DR until a reboot, its console."""

import re
from collections.abc import Callable

import pytest
from facts_means import VCC, VDS, bound, configured, exported, file_of, removed
from machines import Domain, Machine, World, eventually
from terminal import Console

from lodom.core.units import MIB
from lodom.lab.watch import Heartbeats

pytestmark = pytest.mark.live

Make = Callable[..., Domain]
DISK = 16 * MIB


def held_back(machine: Machine) -> int:
    """Strands of which ``list-devices -a`` says that they are held for a migrated domain."""
    return len(re.findall(r"held", machine.ldm("list-devices", "-a", "cpu")))


def test_r06_r07_r08_three_strands_on_cores_of_four(world: World, domains: Make) -> None:
    """R15 too: there, back and there again without a reboot, and then a reboot ends it."""
    domain = domains("ldg1", vcpus=3)
    with Heartbeats() as beats:
        boot = domain.start(beats)
        blocks = [(b.ra, b.size) for b in world.a.blocks("ldg1")]
        for source, target in ((world.a, world.b), (world.b, world.a), (world.a, world.b)):
            source.migrate("ldg1", target)
            assert target.row("ldg1")["flags"] == "-n----", "its agent answered all the time"
            eventually(lambda s=source: s.free_strands() == 12, "its strands and the fourth")
            assert [(b.ra, b.size) for b in target.blocks("ldg1")] == blocks
            cores = {pid // 4 for pid in target.strands("ldg1")}
            assert (len(target.strands("ldg1")), len(cores)) == (3, 1)
            assert (target.free_strands(), held_back(target)) == (8, 1)
            eventually(lambda: domain.status.read()["cpus"] == 3, "all its CPUs")
            eventually(lambda t=target: t.has_up("ldg1"), "flag n")
        b = world.b
        for words in ("set-vcpu 4", "add-vcpu 1", "remove-vcpu 1"):
            said = b.tried(*words.split(), "ldg1")
            assert said.code != 0
            assert "reboot" in said.err, said
        assert beats.boots("ldg1") == [boot]
        domain.status.say("reboot")
        beats.first("ldg1", within=30, unlike=boot)
        eventually(lambda: (b.free_strands(), held_back(b)) == (9, 0), "the fourth is free")
        eventually(lambda: b.has_up("ldg1"), "flag n", within=30)
        b.ldm("set-vcpu", "4", "ldg1")
        assert domain.status.read()["cpus"] == 4


def test_r10_the_guest_refuses_a_cpu_after_the_check(world: World, domains: Make) -> None:
    """The guest has the last word: no migration, and the CPU that had gone is back."""
    a, b = world.a, world.b
    domain = domains("ldg1", vcpus=3)
    file = "/sys/devices/system/cpu/cpu1/online"
    with Heartbeats() as beats:
        boot = domain.start(beats)
        with Console(a, "ldg1") as console:
            mount = f"mount --bind {file} {file}; mount -o remount,bind,ro {file}; echo d''one"
            console.asked(mount, "done")
        there = b.state()
        assert a.tried(*a.migrate_words("ldg1", b, "-n")).code == 0
        said = a.tried(*a.migrate_words("ldg1", b))
        assert said.code != 0
        assert re.fullmatch(
            "open.*cpu1.*: Read-only file system\nDomain Migration of LDom ldg1 failed\n", said.err
        )
        eventually(lambda: a.row("ldg1")["flags"] == "-n----", "an ordinary domain again")
        eventually(lambda: domain.status.read()["cpus"] == 3, "all its CPUs")
        eventually(lambda: b.state() == there, "the target is as before")
        assert beats.boots("ldg1") == [boot]


def test_r13_r14_r15_r19_r20_blocks_and_ranges(world: World) -> None:
    """A bound domain of two blocks goes where other addresses are free."""
    a, b = world.a, world.b
    with bound(a, "ldg2", memory="64M"), bound(a, "between"):
        a.ldm("add-memory", "32M", "ldg2")
        here = a.blocks("ldg2")
        assert len(here) == 2
        with bound(b, "low", memory="128M"), bound(b, "high", memory="64M"):
            removed(b, "low")
            eventually(lambda: len(b.free_memory()) == 2, "the hole is scrubbed")
            free = b.free_memory()
            assert free == sorted(free)
            taken = b.blocks("high")[0]
            assert free[0].pa + free[0].size == taken.pa
            assert taken.pa + taken.size == free[1].pa
            with bound(b, "low", memory="64M"):
                lowest = b.blocks("low")[0]
                a.ldm(*a.migrate_words("ldg2", b))
                try:
                    there = b.blocks("ldg2")
                    assert [(m.ra, m.size) for m in there] == [(m.ra, m.size) for m in here]
                    assert all(m.pa >= lowest.pa + lowest.size for m in there)
                    assert [m.pa for m in there] != [m.pa for m in here]
                finally:
                    removed(b, "ldg2")


def test_r01_a_bound_domain_may_go_where_a_running_one_may_not(world: World) -> None:
    """Another frequency is nothing to a guest that starts anew."""
    a, b = world.a, world.b
    with configured(b, "^frequency = .*", "frequency = 1415000000"), bound(a, "ldg2"):
        assert a.tried(*a.migrate_words("ldg2", b, "-n")).code == 0


def test_r36_r37_r38_the_console_there(world: World, domains: Make) -> None:
    """Renamed on the way: group of the new name, a free port of the first concentrator."""
    a, b = world.a, world.b
    domains("ldg1")
    a.ldm("set-vcons", "port=5077", "group=mine", "ldg1")
    a.ldm("bind-domain", "ldg1")
    b.ldm("add-vcc", "port-range=6000-6100", "second-vcc0", "primary")
    try:
        with bound(b, "user"):
            assert f"group=user|service={VCC}@primary|port=5000" in b.ldm(
                "list-bindings", "-p", "user"
            )
            a.ldm(*a.migrate_words("ldg1", b, to="web1"))
            there = b.ldm("list-bindings", "-p", "web1")
            assert f"VCONS|group=web1|service={VCC}@primary|port=5001" in there
            b.ldm("unbind-domain", "web1")
            b.ldm("remove-domain", "web1")
    finally:
        b.ldm("remove-vcc", "second-vcc0")


def test_r28_r29_r30_onto_other_storage_by_force(world: World, domains: Make) -> None:
    """It appears to succeed, the guest cannot use its disk, and the three steps mend it."""
    a, b = world.a, world.b
    domain = domains("ldg1", disk=DISK)
    other = file_of(world.lab.root / "other.img", DISK // 2)
    with exported(b, other), Heartbeats() as beats:
        boot = domain.start(beats)
        eventually(lambda: domain.status.read()["disk"]["verified"] > 20, "its disk")
        said = a.tried(*a.migrate_words("ldg1", b))
        assert said.code == 6
        said = a.tried(*a.migrate_words("ldg1", b, "-f"))
        assert said.code == 0
        assert "AND OVERWRITE" in said.err
        steps = (
            "stop-domain ldg1",
            f"set-vdisk volume=VOLUME@{VDS} vdisk0 ldg1",
            "start-domain ldg1",
        )
        assert [f"{n}. ldm {step}" in said.err for n, step in enumerate(steps, 1)] == [True] * 3
        assert "storage differs" in b.ldm("list", "-l", "ldg1").lower()
        eventually(lambda: sum(domain.status.read()["disk"][k] for k in ("bad", "errors")), "harm")
        b.ldm("stop-domain", "-f", "ldg1")
        b.ldm("add-vdsdev", str(domain.volume), f"right@{VDS}")
        b.ldm("set-vdisk", f"volume=right@{VDS}", "vdisk0", "ldg1")
        b.ldm("start-domain", "ldg1")
        beats.first("ldg1", within=30, unlike=boot)
        assert "storage differs" not in b.ldm("list", "-l", "ldg1").lower()
        written = domain.status.read()["disk"]["written"]
        eventually(lambda: domain.status.read()["disk"]["written"] > written + 20, "its disk again")
        disk = domain.status.read()["disk"]
        assert (disk["bad"], disk["errors"]) == (0, 0)
        assert disk["found"] > 0, "what it had written before it left"
    world.remove("ldg1")
    b.ldm("remove-vdsdev", f"right@{VDS}")


def test_a_machine_that_is_trusted_needs_no_password(world: World, domains: Make) -> None:
    """``migrate-domain -c``: its certificate speaks for it, where the target allows that."""
    a, b = world.a, world.b
    domains("ldg1")
    a.ldm("bind-domain", "ldg1")
    words = ("migrate-domain", "-c", "ldg1", b.name)
    assert "certificates = true under [auth]" in a.tried(*words).err
    with configured(b, r"^\[auth\]", "[auth]\ncertificates = true"):
        a.ldm(*words)
        assert ("ldg1" in a.names(), "ldg1" in b.names()) == (False, True)
