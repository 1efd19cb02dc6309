"""Faults on real daemons, QEMU and guest: ``make chaos N=10``.

    run.py --n 10                     ten random cases; the seeds are printed
    run.py --n 10 --seed 1            seeds 1 to 10, the same cases each time
    run.py --matrix short|long        the fixed ones
    run.py --matrix long --part 2/6   every sixth of them, from the second on
    run.py --case FAULT@MOMENT …      these ones

One line a case; the logs of a failed one are kept in build/chaos.  Needs root, and the lab of this
host for itself.
"""

import argparse
import os
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "live"))

from arena import REPOSITORY, Arena
from cases import FAULTS, LONG_ONLY, MOMENTS, SHORT, Case, chosen, long_matrix
from play import Outcome, play


def main() -> int:
    """Exit code 0 if every case passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=0, help="how many random cases")
    parser.add_argument("--seed", type=int, help="seed of the first random case")
    parser.add_argument("--matrix", choices=("short", "long"))
    parser.add_argument("--part", type=_part, default=slice(None), metavar="K/N")
    parser.add_argument("--case", action="append", default=[], help="FAULT@MOMENT")
    parser.add_argument("--list", action="store_true", help="print the cases, run none")
    asked = parser.parse_args()
    if asked.seed is None:
        asked.seed = random.randrange(1_000_000)
    cases = _cases(asked)
    if asked.list:
        sys.stdout.writelines(f"{case}\n" for case in cases)
        return 0
    if os.geteuid() or not (REPOSITORY / "build/guest/initrd").exists():
        sys.stderr.write("chaos needs root and the lab guest (guest/build.sh)\n")
        return 2
    if asked.n:
        sys.stdout.write(f"the same again: run.py --n {asked.n} --seed {asked.seed}\n")
    began = time.monotonic()
    failed = _run(cases)
    took = time.monotonic() - began
    sys.stdout.write(f"{len(cases) - failed} passed, {failed} failed in {took:.0f} s\n")
    return 1 if failed else 0


def _cases(asked: argparse.Namespace) -> list[Case]:
    named = [_named(words) for words in asked.case]
    matrix = {"short": SHORT, "long": long_matrix()}.get(asked.matrix, ())
    return [*named, *matrix[asked.part], *(chosen(asked.seed + i) for i in range(asked.n))]


def _part(words: str) -> slice:
    first, step = (int(n) for n in words.split("/"))
    if not 1 <= first <= step:
        raise ValueError(words)
    return slice(first - 1, None, step)


def _named(words: str) -> Case:
    fault, _, moment = words.partition("@")
    if fault not in {**FAULTS, **LONG_ONLY} or moment not in MOMENTS:
        sys.exit(f"no case {words}; --matrix long --list shows all")
    return Case(fault, moment)


def _run(cases: list[Case]) -> int:
    failed = 0
    arena: Arena | None = None
    try:
        for case in cases:
            arena = arena or Arena()
            outcome = play(arena, case, REPOSITORY / "build/chaos")
            failed += bool(outcome.failure)
            _tell(outcome)
            if outcome.failure or case.fault.startswith("stale:"):
                arena.down()
                arena = None
    finally:
        if arena:
            arena.down()
    return failed


def _tell(outcome: Outcome) -> None:
    sys.stdout.write(outcome.line() + "\n")
    if outcome.failure:
        sys.stdout.write(f"    again: python tests/chaos/run.py --case {outcome.case}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
