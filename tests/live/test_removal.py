"""What a guest does with its CPUs keeps them: ``set-vcpu`` and ``remove-vcpu`` take none then."""

from collections.abc import Callable, Iterator

import pytest
from machines import Domain, Machine, World
from terminal import Console

from lodom.core.errors import Kind
from lodom.lab.watch import Heartbeats

pytestmark = pytest.mark.live

Make = Callable[..., Domain]
TRIED = ("set-vcpu 1", "set-vcpu 2", "remove-vcpu 1")
"""Each takes CPU 2 of three."""


@pytest.fixture(scope="module")
def three(world: World) -> Iterator[Domain]:
    """A running domain of three strands."""
    domain = world.domain("ldg1", vcpus=3)
    try:
        with Heartbeats() as beats:
            domain.start(beats)
        yield domain
    finally:
        world.clear()


def has(domain: Domain) -> tuple[list[int], int, str]:
    """Strands, CPUs on line in the guest, and what was asked for."""
    machine: Machine = domain.machine
    asked = machine.ldm("list-constraints", "-p", domain.name)
    return machine.strands(domain.name), int(domain.status.read()["cpus"]), asked


def refused(domain: Domain, words: str, why: str) -> None:
    """The order fails with this reason, and guest and lists are as before."""
    before = has(domain)
    said = domain.machine.tried(*words.split(), domain.name)
    assert (said.code, said.err) == (
        Kind.REFUSED.exit_code, f"CPU reconfiguration on LDom ldg1 failed: {why}\n",
    )  # fmt: skip
    assert has(domain) == before


@pytest.mark.parametrize("words", TRIED)
def test_r11_a_bound_process_keeps_its_cpu(three: Domain, words: str) -> None:
    """And it is bound as before; without it the CPU goes."""
    with Console(three.machine, "ldg1") as console:
        pid = console.asked("taskset 4 sleep 999 & echo pid $! end", r"pid (\d+) end")[1]
        try:
            refused(three, words, "CPU 2: cpu has bound thread")
            console.asked(f"taskset -p {pid}", "mask: 4")
        finally:
            console.asked(f"kill {pid}; wait {pid}; echo g''one", "gone")
    three.machine.ldm(*words.split(), "ldg1")
    three.machine.ldm("set-vcpu", "3", "ldg1")
    assert three.status.read()["cpus"] == 3


def test_r11_two_bound_threads(three: Domain) -> None:
    """The plural."""
    with Console(three.machine, "ldg1") as console:
        for _ in range(2):
            console.asked("taskset 4 sleep 998 & echo b''ound", "bound")
        try:
            refused(three, "set-vcpu 1", "CPU 2: cpu has bound threads")
        finally:
            console.asked("killall sleep; wait; echo g''one", "gone")


def test_r11_a_processor_set_keeps_its_last_cpu(three: Domain) -> None:
    """Of a set of CPUs 1 and 2 one may go, not both."""
    make = (
        "cd /sys/fs/cgroup; echo +cpuset > cgroup.subtree_control; mkdir x; "
        "echo 1-2 > x/cpuset.cpus; echo root > x/cpuset.cpus.partition; echo [$(cat "
        "x/cpuset.cpus.partition)]"
    )
    with Console(three.machine, "ldg1") as console:
        console.asked(make, r"\n\[root\]")
        try:
            refused(three, "set-vcpu 1", "CPU 2: last online cpu in processor set 1")
            three.machine.ldm("set-vcpu", "2", "ldg1")
            refused(three, "set-vcpu 1", "CPU 1: last online cpu in processor set 1")
            three.machine.ldm("set-vcpu", "3", "ldg1")
            console.asked("echo [$(cat x/cpuset.cpus)]", r"\n\[1-2\]")
        finally:
            console.asked("rmdir x; cd /; echo g''one", "gone")


@pytest.mark.parametrize("way", ["set-vcpu", "migrate-domain"])
def test_r10_r11_what_went_before_the_refusal_is_put_back(
    three: Domain, world: World, way: str
) -> None:
    """CPU 1 goes off line, CPU 2 cannot: CPU 1 is there again."""
    a, file = three.machine, "/sys/devices/system/cpu/cpu2/online"
    words = ["set-vcpu", "1", "ldg1"] if way == "set-vcpu" else a.migrate_words("ldg1", world.b)
    went = "echo [$(dmesg | grep -c 'CPU 1 is now offline')]"
    before = has(three)
    with Console(a, "ldg1") as console:
        console.asked(
            f"mount --bind {file} {file}; mount -o remount,bind,ro {file}; echo d''one", "done"
        )
        try:
            times = int(console.asked(went, r"\n\[(\d+)\]")[1])
            said = a.tried(*words)
            assert said.code != 0
            assert "cpu2" in said.err, said
            assert "Read-only file system" in said.err, said
            assert int(console.asked(went, r"\n\[(\d+)\]")[1]) == times + 1
        finally:
            console.asked(f"umount {file}; echo g''one", "gone")
    assert has(three) == before
