"""With root and QEMU: ``ldm list`` as a user waits for it, and moves against QEMU alone.

The lab, the guest and the yardstick are those of the live tests.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from pure import Measure, measure

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/live"))

from machines import Domain, Machine, World  # noqa: E402
from raw_qemu import move as move_raw  # noqa: E402

from conftest import SMALL  # noqa: E402
from lodom.core.units import MIB  # noqa: E402
from lodom.lab.lab import Lab  # noqa: E402
from lodom.lab.watch import Counter, Heartbeats  # noqa: E402

GUEST = ROOT / "build/guest/vmlinuz", ROOT / "build/guest/initrd"
NAME, SIZE, VCPUS, DISK = "ldg1", 1024, 3, 16 * MIB
DIRTY: Final = "100 48"
"""MiB a second over a working set of MiB."""
LISTS = 20


@contextmanager
def _world() -> Iterator[World]:
    if os.geteuid() != 0 or not all(file.exists() for file in GUEST):
        sys.exit("The live part needs root and the lab guest: guest/build.sh, then this again.")
    lab = Lab()
    lab.up(SMALL)
    try:
        yield World(lab, GUEST)
    finally:
        lab.down()


def _typed(machine: Machine, *words: str) -> None:
    """``ldm`` as a user starts it, its process and all."""
    said = machine.tried(*words)
    assert said.code == 0, said


def _moved(domain: Domain, source: Machine, target: Machine, counter: Counter) -> tuple[float, ...]:
    """Seconds of ``ldm migrate-domain``, and the longest gap of the guest's counter."""
    assert domain.status.say(f"dirty {DIRTY}") == "ok"
    counter.wait(400, within=10)
    began = time.monotonic()
    _typed(source, *source.migrate_words(NAME, target))
    total = time.monotonic() - began
    counter.wait(200, within=10)
    assert counter.unbroken
    domain.status.say("dirty 0")
    return total, counter.gap(began)


def _listed(machine: Machine) -> Measure:
    times = []
    for _ in range(LISTS):
        began = time.perf_counter()
        _typed(machine, "list")
        times.append((time.perf_counter() - began) * 1e3)
    return measure("ldm list, from start to end", "ms", times)


def _ours(world: World) -> tuple[Measure, list[tuple[float, ...]]]:
    """There and back by Lodom, and a list while the guest runs."""
    try:
        with Heartbeats() as beats:
            domain = world.domain(NAME, memory=f"{SIZE}M", vcpus=VCPUS, disk=DISK)
            domain.start(beats)
            with domain.counter() as counter:
                there = _moved(domain, world.a, world.b, counter)
                listed = _listed(world.b)
                back = _moved(domain, world.b, world.a, counter)
    finally:
        world.clear()
    return listed, [there, back]


def everything() -> list[Measure]:
    """The same guest, moved by QEMU alone, twice by Lodom, and by QEMU alone again.

    In this order, because the load of the machine changes.
    """
    with _world() as world, TemporaryDirectory() as folder:

        def raw(*way: Machine) -> tuple[float, ...]:
            inside = Path(folder) / way[0].name
            return move_raw(*way, GUEST, inside, megabytes=SIZE, cpus=VCPUS, dirty=DIRTY)

        there = raw(world.a, world.b)
        listed, ours = _ours(world)
        alone = [there, raw(world.b, world.a)]
    return [
        listed,
        *(
            measure(f"move by {who}: {what}", "s", [hop[n] for hop in hops])
            for n, what in enumerate(("in all", "longest gap of the guest"))
            for who, hops in (("Lodom", ours), ("QEMU alone", alone))
        ),
    ]
