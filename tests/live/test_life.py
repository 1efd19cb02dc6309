"""The life of a domain, typed command by command, seen from outside."""

from collections.abc import Callable, Iterator

import pytest
from known import place, spoiled
from machines import Domain, World, eventually

from lodom.core.units import MIB
from lodom.lab.watch import Heartbeats

pytestmark = pytest.mark.live

Make = Callable[..., Domain]


@pytest.fixture
def beats(world: World) -> Iterator[Heartbeats]:
    with Heartbeats() as beats:
        yield beats


def test_from_add_to_remove(world: World, domains: Make, beats: Heartbeats) -> None:
    """Each step prints what the original prints, and nothing is left at the end."""
    a = world.a
    free = a.free_memory()
    domain = domains("ldg1", vcpus=2, disk=16 * MIB)
    assert a.ldm("list", "ldg1").splitlines() == [
        "NAME             STATE      FLAGS   CONS    VCPU  MEMORY   UTIL  UPTIME",
        "ldg1             inactive   ------          2     256M",
    ]
    assert a.ldm("bind-domain", "ldg1") == ""
    assert a.ldm("list", "ldg1").splitlines()[1] == (
        "ldg1             bound      ------  5000    2     256M"
    )
    assert a.qemus("ldg1") == []
    domain.start(beats)
    assert (
        a.ldm("list", "ldg1")
        .splitlines()[1]
        .startswith("ldg1             active     -n----  5000    2     256M")
    )
    assert len(a.qemus("ldg1")) == 1
    assert a.ldm("stop-domain", "ldg1") == "LDom ldg1 stopped\n"
    assert (a.qemus("ldg1"), a.row("ldg1")["state"]) == ([], "bound")
    assert a.ldm("unbind-domain", "ldg1") == ""
    eventually(lambda: a.free_memory() == free, "its memory is free again")
    assert a.ldm("remove-domain", "ldg1") == ""
    assert a.names() == ["primary"]


def test_a_killed_ldmd_is_not_noticed(world: World, domains: Make, beats: Heartbeats) -> None:
    """The guest counts on while its ldmd is killed and started again, which knows it again."""
    a = world.a
    domain = domains("ldg2", vcpus=2)
    domain.start(beats)
    before = a.row("ldg2"), a.blocks("ldg2"), a.strands("ldg2"), a.qemus("ldg2")
    with domain.counter() as counter:
        a.kill_ldmd()
        counter.wait(100, within=10)
        a.start_ldmd()
        counter.wait(100, within=10)
        assert counter.unbroken
    eventually(lambda: a.has_up("ldg2"), "the agent is met again")
    after = a.row("ldg2"), a.blocks("ldg2"), a.strands("ldg2"), a.qemus("ldg2")
    assert after[1:] == before[1:]
    for changing in ("util", "uptime"):
        del before[0][changing], after[0][changing]
    assert after[0] == before[0]


def test_strands_come_and_go_in_a_running_guest(
    world: World, domains: Make, beats: Heartbeats
) -> None:
    """The guest itself counts its CPUs; its threads follow the strands in /proc."""
    a = world.a
    domain = domains("ldg3", vcpus=2)
    domain.start(beats)
    assert domain.status.read()["cpus_online"] == "0-1"
    assert a.pinned("ldg3")
    a.ldm("add-vcpu", "2", "ldg3")
    assert domain.status.read()["cpus_online"] == "0-3"
    assert (len(a.strands("ldg3")), a.pinned("ldg3")) == (4, True)
    a.ldm("remove-vcpu", "3", "ldg3")
    assert domain.status.read()["cpus_online"] == "0"
    assert (len(a.strands("ldg3")), a.pinned("ldg3")) == (1, True)
    a.ldm("set-vcpu", "2", "ldg3")
    assert domain.status.read()["cpus"] == 2
    assert a.free_strands() == 12 - 2


def test_three_blocks(world: World, domains: Make, beats: Heartbeats) -> None:
    """Memory added behind that of others lies in blocks of its own; the guest has the sum."""
    a = world.a
    domain = domains("ldg4", memory="256M", args="lodom.pattern=256:7")
    a.ldm("bind-domain", "ldg4")
    for other, size in (("first", "128M"), ("second", "64M")):
        world.spare(other, "64M")
        a.ldm("add-memory", size, "ldg4")
    blocks = a.blocks("ldg4")
    assert [b.size // MIB for b in blocks] == [256, 128, 64]
    domain.start(beats)
    status = domain.status.read()
    # Less what the kernel keeps for itself, which is less than the smallest block.
    assert (448 - 56) * MIB < status["mem_total_kb"] * 1024 < 448 * MIB
    bad = spoiled(a, blocks, status["pattern"])
    assert bad == []
    touched = {place(blocks, gpa)[0] for gpa in status["pattern"]["pages"]}
    assert touched == set(blocks), "the pattern lies in every block"
