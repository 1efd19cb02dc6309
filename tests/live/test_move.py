"""The main job: a running guest goes to the other machine and back, and nothing notices.

One move is made, by ``moved``; each test is one witness of it and turns red by itself
(tests/sabotage).
"""

import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from facts_means import configured
from known import spoiled, torn
from machines import BOOT_S, Block, Domain, Machine, World, eventually
from raw_qemu import move as move_raw

from lodom.core.units import MIB
from lodom.lab.demo.console import converse
from lodom.lab.watch import CLIENT, Counter, Heartbeats

pytestmark = pytest.mark.live

NAME, SIZE, VCPUS, DISK = "ldg1", 1024, 3, 16 * MIB
DIRTY = "100 48"
"""MiB a second over a working set of MiB: more than one round in every copy."""


@dataclass
class Hop:
    """What was seen of one hop."""

    numbers: dict[str, int]
    seconds: float
    gap: float
    blocks: tuple[list[Block], list[Block]]
    spoiled: tuple[list[int], list[int]]
    """Pages of the pattern that were not at their address, before and after."""
    macs: tuple[str, str]
    torn: list[int]
    cpus: int
    zero: bool
    """What it left behind in the pool was scrubbed."""
    left: tuple[bool, list[int], bool]
    """Where it left: all strands free again, held ones too; its processes; its name."""


@dataclass
class Moved:
    """All that the witnesses saw."""

    hops: list[Hop] = field(default_factory=list)
    unbroken: bool = False
    boots: int = 0
    repeated: int = 0
    status: dict[str, Any] = field(default_factory=dict)
    console: list[str] = field(default_factory=list)
    """What the shell on its console answered after each hop."""


def mac(domain: Domain) -> str:
    """The guest's MAC as a neighbour on its network learns it."""
    ip = ["ip", "-n", CLIENT, "neigh"]
    subprocess.run([*ip, "flush", "dev", "guests"], check=True)
    domain.status.say("status")
    shown = [*ip, "show", domain.address]
    return subprocess.run(shown, capture_output=True, text=True, check=True).stdout.split()[4]


def typed(machine: Machine, line: str) -> str:
    """A line typed on the domain's console, a telnet port of the machine, and the answer."""
    port = int(machine.row(NAME)["cons"])
    shown = converse(machine.placed.namespace, port, f"{NAME}# ", [line])
    return shown.partition(f"{line}\n")[2].partition(f"\n{NAME}#")[0]


def held(check: Callable[[], bool], within: float = 15.0) -> bool:
    """It comes true in time; a witness tells, its test judges."""
    try:
        eventually(check, "", within=within)
    except AssertionError:
        return False
    return True


def hop(domain: Domain, source: Machine, target: Machine, counter: Counter) -> Hop:
    """Move the domain once and look at everything, before and after."""
    assert domain.volume
    pattern = domain.status.read()["pattern"]
    blocks = source.blocks(NAME)
    spoiled_before = spoiled(source, blocks, pattern)
    address = mac(domain)
    assert domain.status.say(f"dirty {DIRTY}") == "ok"
    with suppress(TimeoutError):
        counter.wait(200, within=5)
    begin = monotonic()
    numbers = source.migrate(NAME, target)
    seconds = monotonic() - begin
    blocks_after = target.blocks(NAME)
    broken = torn(domain.volume)
    # A guest that was started anew has its witnesses when it is up.
    held(lambda: domain.status.read()["cpus"] == VCPUS, within=BOOT_S)
    held(lambda: target.has_up(NAME))
    gap = counter.gap(begin, monotonic())
    domain.status.say("dirty 0")

    def left() -> tuple[bool, list[int], bool]:
        # Beside it only the second spare one, on the first machine, has a strand.
        free = 12 - (len(source.names()) - 1)
        return source.free_strands() == free, source.qemus(NAME), NAME in source.names()

    held(lambda: left() == (True, [], False))
    return Hop(
        numbers, seconds, gap, (blocks, blocks_after),
        (spoiled_before, spoiled(target, blocks_after, domain.status.read()["pattern"])),
        (address, mac(domain)), broken,
        domain.status.read()["cpus"],
        held(lambda: source.is_zero(blocks)),
        left(),
    )  # fmt: skip


@pytest.fixture(
    scope="module", params=[2, pytest.param(10, marks=pytest.mark.long)], ids="{} hops".format
)
def moved(world: World, request: pytest.FixtureRequest) -> Moved:
    """The guest, in two blocks of equal size, there and back; ten hops in the long run."""
    report = Moved()
    world.spare("first", "512M")
    world.spare("second", "256M")
    world.remove("first")
    eventually(lambda: world.a.free_strands() == 11, "the first one's strand")
    try:
        with Heartbeats() as beats:
            domain = world.domain(NAME, memory=f"{SIZE}M", vcpus=VCPUS, disk=DISK)
            domain.start(beats)
            ways = [(world.a, world.b), (world.b, world.a)]
            typed(world.a, "here=since-$((6 * 7))")
            with domain.counter() as counter:
                for number in range(request.param):
                    source, target = ways[number % 2]
                    report.hops.append(hop(domain, source, target, counter))
                    report.console.append(typed(target, "echo $here"))
                end = counter.last
                report.unbroken = held(lambda: counter.last > end + 50) and counter.unbroken
            verified = domain.status.read()["disk"]["verified"]
            held(lambda: domain.status.read()["disk"]["verified"] >= verified + 100)
            report.boots = len(beats.boots(NAME))
            report.repeated = beats.repeated(NAME)
            report.status = domain.status.read()
    finally:
        world.clear()
    return report


def test_the_counter_goes_on(moved: Moved) -> None:
    """One boot id, one open TCP connection, a number that never goes back."""
    assert (moved.unbroken, moved.boots) == (True, 1)


def test_one_copy_runs(moved: Moved) -> None:
    """No heartbeat was heard twice, but the frame that was on its way when the guest stopped."""
    assert moved.repeated <= len(moved.hops)


def test_the_console_is_the_same(moved: Moved) -> None:
    """On the target's port the same shell answers, which knows what was typed before."""
    assert moved.console == ["since-42"] * len(moved.hops)


def test_the_disk_is_whole(moved: Moved) -> None:
    """Every block verifies, from outside after each hop and in the guest all along."""
    assert [hop.torn for hop in moved.hops] == [[]] * len(moved.hops)
    assert (moved.status["disk"]["bad"], moved.status["disk"]["errors"]) == (0, 0)


def test_memory_lies_at_its_addresses(moved: Moved) -> None:
    """In the pool file, at the physical addresses that ``ldm`` shows; real addresses stay."""
    for hop in moved.hops:
        before, after = hop.blocks
        assert len(before) == 2
        assert [(b.ra, b.size) for b in before] == [(b.ra, b.size) for b in after]
        assert hop.spoiled == ([], [])
    assert (moved.status["pattern"]["bad"], moved.status["pattern"]["moved"]) == (0, 0)


def test_strands_are_pinned(world: World, domains: Callable[..., Domain]) -> None:
    """On the target too its thread keeps to its strands' host CPUs.

    They are all the same one there, or a thread that may run anywhere would not show.
    """
    with configured(world.b, r"^\[strands\]", '[strands]\ncpus = "1"'), Heartbeats() as beats:
        domains(NAME, vcpus=2).start(beats)
        assert world.a.pinned(NAME)
        world.a.migrate(NAME, world.b)
        # A guest that was started anew takes its CPUs when it is up and asked again.
        eventually(lambda: world.b.pinned(NAME), "bound to its new strands", within=2 * BOOT_S)


def test_all_cpus_are_back(moved: Moved) -> None:
    """After each hop, in the guest."""
    assert [hop.cpus for hop in moved.hops] == [VCPUS] * len(moved.hops)


def test_what_it_left_is_scrubbed(moved: Moved) -> None:
    """The blocks that it left read as zero in the pool file."""
    assert [hop.zero for hop in moved.hops] == [True] * len(moved.hops)


def test_what_it_left_is_free(moved: Moved) -> None:
    """No strand, process or name stays on the machine that it left; its MAC went with it."""
    for hop in moved.hops:
        assert hop.left == (True, [], False)
        assert hop.macs[0] == hop.macs[1]


def test_the_gap_is_short(
    moved: Moved, world: World, guest: tuple[Path, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Under a second, and under three times that of QEMU alone with the same guest, just now."""
    raw = [
        move_raw(*way, guest, tmp_path / way[0].name, megabytes=SIZE, cpus=VCPUS, dirty=DIRTY)
        for way in ((world.a, world.b), (world.b, world.a))
    ]
    with capsys.disabled():
        for total, gap in raw:
            print(f"\n  QEMU alone: total {total:.2f} s, gap {gap * 1000:.0f} ms", end="")
        print()
        for number, hop in enumerate(moved.hops, 1):
            print(
                f"  hop {number}: total {hop.seconds:.2f} s, gap {hop.gap * 1000:.0f} ms, "
                f"rounds {hop.numbers['round']}, {hop.numbers['transferred'] / MIB:.0f} MiB"
            )
    for hop in moved.hops:
        assert hop.numbers["round"] >= 2
        assert hop.gap < min(1.0, 3 * max(gap for _, gap in raw))
