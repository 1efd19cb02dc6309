"""Every interleaving of the two migration machines, to a bound, on the production code.

``python -m lodom.sim.explore``: all states that the bound's faults can lead to, in any order and
number up to the bound, all in one search (``strata``).  ``--quick``: a few smaller budgets.
"""

import argparse
import resource
import signal
import sys
import time
from collections import Counter

from lodom.sim.handover import Budget, World, first
from lodom.sim.happenings import HAPPENINGS, successors
from lodom.sim.invariants import check, check_end
from lodom.sim.strata import FAULTS, Result, Search


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


def story_of(start: World) -> tuple[str, ...]:
    """How the nearest violation comes about: breadth first, plainly, with every state's origin."""
    seen = _Seen()
    level = [(start, seen.add(start, -1, "begin")[0])]
    while level:
        after: list[tuple[World, int]] = []
        for w, number in level:
            try:
                check(w)
                own, faults = successors(w)
                if not own:
                    check_end(w)
            except FAULTS as fault:
                return (*seen.story(number), repr(fault))
            for first_of_own, (story, x) in enumerate((*own, *faults)):
                found, new = seen.add(x, number, story)
                if new:
                    after.append((x, found))
                if own and not first_of_own:
                    seen.onward[number] = found
        level = after
    stuck = seen.stuck()
    return (*seen.story(stuck), "and so on for ever") if stuck >= 0 else ("none found",)


QUICK: dict[str, Budget] = {
    "crashes, process": Budget(crash=2, process=1),
    "crash, process, guest": Budget(crash=1, process=1, guest=1),
    "crash, network": Budget(crash=1, dup=1, loss=1, reorder=1),
    "crash, orders, time": Budget(crash=1, lease=1, stall=1, cancel=1),
    "loss, time, guest": Budget(loss=1, lease=1, stall=1, cancel=1, guest=1),
}
"""Small budgets, each explored in seconds."""

BOUND = Budget(crash=2, dup=1, loss=1, reorder=1, lease=1, stall=1, cancel=1, guest=1, process=1)
"""All that one run may meet, together."""


def _explore(name: str, live: bool, budget: Budget) -> Result:
    began = time.monotonic()
    r = Search(first(live, budget)).run()
    kind = "active" if live else "bound"
    sys.stdout.write(
        f"{kind:6}  {name:22} {r.states:11,} states, depth {r.depth:3}, {r.ends:5,} ends, "
        f"{r.visits:11,} visits, {time.monotonic() - began:7.1f} s  "
        f"{r.fault or 'all invariants hold'}\n"
    )
    if r.spent:
        faults = ", ".join(f"{n} {k}" for k, n in r.spent._asdict().items() if n)
        sys.stdout.write(f"  It takes: {faults or 'nothing'}. How it comes about:\n")
        sys.stdout.flush()
        sys.stdout.write("".join(f"    {line}\n" for line in story_of(first(live, r.spent))))
    sys.stdout.flush()
    return r


def _table(told: Counter[str]) -> bool:
    """Print in how many states each happening occurred; whether each did."""
    met = True
    for what in HAPPENINGS:
        states = sum(n for story, n in told.items() if story.startswith(what))
        met = met and states > 0
        sys.stdout.write(f"  {states:12,}  {what}{'' if states else '  NEVER'}\n")
    return met


def main() -> int:
    """Explore for a running and for a bound domain; 0 when all invariants hold."""
    parser = argparse.ArgumentParser(prog="python -m lodom.sim.explore", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="the small budgets only")
    quick = parser.parse_args().quick
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to put in order
    told: Counter[str] = Counter()
    for name, budget in (QUICK if quick else {"the whole bound": BOUND}).items():
        for live in (True, False):
            result = _explore(name, live, budget)
            if result.fault:
                return 1
            told += result.told
    sys.stdout.write("Happenings, and in how many states each came:\n")
    if not _table(told):
        sys.stdout.write("something of the model never happened\n")
        return 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.write(f"Memory at most {peak:,} MiB.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
