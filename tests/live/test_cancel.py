"""A copy that is given up: the guest runs on where it was, and the target keeps nothing of it."""

import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest
from machines import Domain, World, eventually

from lodom.lab.watch import Heartbeats

pytestmark = pytest.mark.live

Make = Callable[..., Domain]
VCPUS = 2


@pytest.fixture
def slow_link(world: World) -> Iterator[None]:
    """A copy from the first machine takes many seconds."""
    rate = ["dev", "eth0", "root", "tbf", "rate", "80mbit", "burst", "256kb", "latency", "50ms"]
    world.a.in_namespace("tc", "qdisc", "add", *rate)
    try:
        yield
    finally:
        world.a.in_namespace("tc", "qdisc", "replace", "dev", "eth0", "root", "pfifo_fast")


def copying(world: World, ldom: str) -> bool:
    """The copy is under way: the guest is on one strand, the target's process is there."""
    return (
        bool(world.b.qemus(ldom))
        and world.a.row(ldom)["flags"][5] == "s"
        and world.a.ldm("list", "-o", "status", ldom).split()[-2] not in ("0%", "PROGRESS")
    )


def cancel_by_command(world: World, _: "subprocess.Popen[str]") -> None:
    world.a.ldm("cancel-operation", "migration", "ldg1")


def cancel_by_interrupt(_: World, ldm: "subprocess.Popen[str]") -> None:
    ldm.send_signal(signal.SIGINT)


def cancel_by_death(_: World, ldm: "subprocess.Popen[str]") -> None:
    ldm.kill()


@pytest.mark.parametrize("give_up", [cancel_by_command, cancel_by_interrupt, cancel_by_death])
def test_cancelled(
    world: World, domains: Make, slow_link: None,
    give_up: Callable[[World, "subprocess.Popen[str]"], None],
) -> None:  # fmt: skip
    a, b = world.a, world.b
    domain = domains("ldg1", vcpus=VCPUS)
    with Heartbeats() as beats:
        boot = domain.start(beats)
        blocks, strands, there = a.blocks("ldg1"), a.strands("ldg1"), b.state()
        with domain.counter() as counter:
            ldm = a.begin(*a.migrate_words("ldg1", b))
            eventually(lambda: copying(world, "ldg1"), "the copy")
            assert len(beats.boots("ldg1")) == 1
            give_up(world, ldm)
            assert a.end(ldm).code != 0
            eventually(lambda: a.row("ldg1")["flags"] == "-n----", "an ordinary domain again")
            eventually(lambda: domain.status.read()["cpus"] == VCPUS, "its strands are back")
            eventually(lambda: b.state() == there, "the target is as before")
            assert beats.boots("ldg1") == [boot], "it was never started anew"
            beats.of("ldg1").wait(100, within=10)
            counter.wait(100, within=10)
            assert counter.unbroken, counter.ended
        assert beats.repeated("ldg1") == 0
        assert b.qemus("ldg1") == []
        assert (a.blocks("ldg1"), a.strands("ldg1")) == (blocks, strands)
        eventually(lambda: b.is_zero(b.free_memory()), "the target's memory is scrubbed")


@pytest.mark.long
def test_cancelled_again_and_again(world: World, domains: Make, slow_link: None) -> None:
    """The guest outlives it: QEMU 10.0 died of one in fifty while streams were being written to."""
    a, b = world.a, world.b
    domain = domains("ldg1", vcpus=VCPUS)
    with Heartbeats() as beats:
        boot = domain.start(beats)
        with domain.counter() as counter:
            for _ in range(25):
                ldm = a.begin(*a.migrate_words("ldg1", b))
                eventually(lambda: copying(world, "ldg1"), "the copy")
                cancel_by_interrupt(world, ldm)
                assert a.end(ldm).code != 0
                eventually(lambda: a.row("ldg1")["flags"] == "-n----", "an ordinary domain again")
                eventually(lambda: "ldg1" not in b.names(), "the target has heard of it")
                assert beats.boots("ldg1") == [boot], "it was never started anew"
            counter.wait(100, within=10)
            assert counter.unbroken, counter.ended


@pytest.mark.usefixtures("slow_link")
def test_cancelled_without_a_link(world: World, domains: Make) -> None:
    """A target that is lost with its link does not hold the source's end of the copy."""
    a, b = world.a, world.b
    domain = domains("ldg1", vcpus=VCPUS)
    with Heartbeats() as beats:
        boot = domain.start(beats)
        there = b.state()
        ldm = a.begin(*a.migrate_words("ldg1", b))
        eventually(lambda: copying(world, "ldg1"), "the copy")
        world.lab.cut(b.placed)
        try:
            a.ldm("cancel-operation", "migration", "ldg1")
            assert a.end(ldm).code != 0
            eventually(lambda: a.row("ldg1")["flags"] == "-n----", "an ordinary domain again")
        finally:
            world.lab.mend(b.placed)
        eventually(lambda: "ldg1" not in b.names(), "the target has heard of it", within=90)
        eventually(lambda: b.state() == there, "the target is as before")
        assert beats.boots("ldg1") == [boot]


def test_a_lost_terminal_cancels_nothing(world: World, domains: Make) -> None:
    """SIGHUP does nothing; the move ends well."""
    a, b = world.a, world.b
    domain = domains("ldg1", vcpus=VCPUS)
    with Heartbeats() as beats:
        domain.start(beats)
        ldm = a.begin(*a.migrate_words("ldg1", b))
        eventually(lambda: a.row("ldg1")["flags"][5] == "s", "the move")
        ldm.send_signal(signal.SIGHUP)
        said = a.end(ldm)
        assert (said.code, said.out, said.err) == (0, "", "")
        assert ("ldg1" in a.names(), "ldg1" in b.names()) == (False, True)
