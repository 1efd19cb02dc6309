"""Every interleaving of the two migration machines, to a bound, on the production code.

``python -m lodom.sim.explore``: sweeps over budgets of faults; each visits every state that its
budget can lead to, breadth first.
"""

import argparse
import sys
import time
from dataclasses import dataclass

from lodom.core.fsm import UnexpectedEvent
from lodom.sim.handover import Budget, Violated, World, first
from lodom.sim.happenings import check, check_end, successors


@dataclass
class Result:
    """What an exploration saw."""

    states: int = 0
    depth: int = 0
    ends: int = 0
    trace: tuple[str, ...] = ()
    fault: str = ""


class _Seen:
    """All states met so far, by number; of each: how it was come to, and where it goes alone."""

    def __init__(self) -> None:
        self._numbers: dict[World, int] = {}
        self._from: list[int] = []
        self._stories: list[str] = []
        self.onward: list[int] = []

    def __len__(self) -> int:
        return len(self._from)

    def add(self, w: World, came_from: int, story: str) -> tuple[int, bool]:
        """The number of a state, and whether it is new."""
        number = self._numbers.setdefault(w, len(self._from))
        if number < len(self._from):
            return number, False
        self._from.append(came_from)
        self._stories.append(story)
        self.onward.append(-1)
        return number, True

    def story(self, number: int) -> tuple[str, ...]:
        """How the world came to this state."""
        lines: list[str] = []
        while number >= 0:
            lines.append(self._stories[number])
            number = self._from[number]
        return tuple(reversed(lines))

    def stuck(self) -> int:
        """A state from which the world, left alone, goes round for ever; -1 if there is none."""
        good = bytearray(len(self._from))
        for start in range(len(good)):
            path: dict[int, None] = {}
            at = start
            while at >= 0 and not good[at]:
                if at in path:
                    return at
                path[at] = None
                at = self.onward[at]
            for passed in path:
                good[passed] = 1
        return -1


def explore(start: World, limit: int = 20_000_000) -> Result:
    """Breadth first over all states; stops at the first violation, with its story.

    Then liveness: from every state, without further faults, an end is reached.
    """
    seen, result = _Seen(), Result()
    level = [(start, seen.add(start, -1, "begin")[0])]
    while level and not result.fault:
        after: list[tuple[World, int]] = []
        for w, number in level:
            try:
                check(w)
                own, faults = successors(w)
                if not own:
                    result.ends += 1
                    check_end(w)
            except (Violated, UnexpectedEvent, AssertionError) as fault:
                result.fault, result.trace = f"{fault!r}", seen.story(number)
                break
            for first_of_own, (story, x) in enumerate((*own, *faults)):
                found, new = seen.add(x, number, story)
                if new:
                    after.append((x, found))
                if own and not first_of_own:
                    seen.onward[number] = found
        level, result.depth = after, result.depth + 1
        if len(seen) > limit:
            result.fault = f"more than {limit} states"
    result.states = len(seen)
    stuck = -1 if result.fault else seen.stuck()
    if stuck >= 0:
        result.fault, result.trace = "never ends", seen.story(stuck)
    return result


SWEEPS: dict[str, Budget] = {
    "crashes": Budget(crash=2),
    "crash and process": Budget(crash=1, process=1),
    "crash and guest": Budget(crash=1, guest=1),
    "process and guest": Budget(process=1, guest=1),
    "crash and network": Budget(crash=1, dup=1, loss=1, reorder=1),
    "crash, lease and cancel": Budget(crash=1, lease=1, cancel=1),
    "lease, stall, cancel, loss": Budget(loss=1, lease=1, stall=1, cancel=1),
}
"""Faults that one run may meet together.  ``--quick`` explores these."""

FULL: dict[str, Budget] = {
    "two crashes and process": Budget(crash=2, process=1),
    "crash, process, guest": Budget(crash=1, process=1, guest=1),
    "two crashes and network": Budget(crash=2, dup=1, loss=1, reorder=1),
    "crash, orders, guest": Budget(crash=1, lease=1, cancel=1, guest=1),
    "crash, time, loss, orders": Budget(crash=1, loss=1, lease=1, stall=1, cancel=1),
    "process, network": Budget(process=1, dup=1, loss=1, reorder=1),
}
"""Explored besides without ``--quick``.  All faults of the largest budget at once are more states
than this can visit; seeds of the simulation reach into those."""


def main() -> int:
    """Run the sweeps for a running and for a bound domain; 0 when all invariants hold."""
    parser = argparse.ArgumentParser(prog="python -m lodom.sim.explore", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="the small sweeps only")
    quick = parser.parse_args().quick
    for name, budget in (SWEEPS if quick else {**SWEEPS, **FULL}).items():
        for live in (True, False):
            began = time.monotonic()
            r = explore(first(live, budget))
            kind = "active" if live else "bound"
            sys.stdout.write(
                f"{kind:7} {name:27} {r.states:10,} states, depth {r.depth:3}, {r.ends:6,} ends, "
                f"{time.monotonic() - began:6.1f} s  {r.fault or 'all invariants hold'}\n"
            )
            sys.stdout.flush()
            if r.fault:
                sys.stdout.write("".join(f"    {line}\n" for line in r.trace))
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
