"""``python -m lodom.sim N``: N seeds; ``--seed S``: one, with its trace.  Ends 1 on a violation."""

import argparse
import signal
import sys
import time
import traceback

from lodom.sim.chaos import Run


def _one(seed: int) -> int:
    """Tell one run from its first to its last event."""
    run = Run(seed, trace=True)
    try:
        end = f"seed {seed}: all invariants hold, digest {run.go()}"
        bad = 0
    except Exception:
        end, bad = f"seed {seed}: {traceback.format_exc()}", 1
    sys.stdout.write("".join(f"{line}\n" for line in (*(run.world.log or ()), end)))
    return bad


def _many(first: int, count: int, stop: int) -> int:
    began, steps, bad = time.monotonic(), 0, 0
    for seed in range(first, first + count):
        run = Run(seed)
        try:
            run.go()
        except Exception as fault:
            bad += 1
            words = str(fault).partition("\n")[0][:300]
            sys.stdout.write(f"seed {seed}: {type(fault).__name__}: {words}\n")
            sys.stdout.flush()
            if bad >= stop:
                break
        steps += run.world.steps
    spent = time.monotonic() - began
    verdict = f"{bad} seeds violate an invariant" if bad else "all invariants hold"
    sys.stdout.write(f"{count} seeds from {first}, {steps:,} steps, {spent:.1f} s: {verdict}\n")
    if bad:
        sys.stdout.write("python -m lodom.sim --seed SEED tells one\n")
    return 1 if bad else 0


def main() -> int:
    """Simulate; 0 when all invariants hold."""
    parser = argparse.ArgumentParser(prog="python -m lodom.sim", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="tell the run of this seed alone")
    parser.add_argument("--stop", type=int, default=20, help="stop after so many violations")
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to put in order
    return _one(args.seed) if args.seed is not None else _many(args.first, args.count, args.stop)


if __name__ == "__main__":
    sys.exit(main())
