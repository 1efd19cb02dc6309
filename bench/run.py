"""Benchmarks: a table, and build/bench.json.

    python bench/run.py [--live | --quick] [--out FILE]

Without ``--live`` neither root nor QEMU is needed.  Ends 1 if a limit is passed.
"""

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path

import pure
from pure import Measure

OUT = Path(__file__).parents[1] / "build/bench.json"


def table(measures: list[Measure]) -> str:
    """One line a measure."""
    lines = [f"{'':58} {'median':>10} {'worst':>10} {'limit':>6}         {'runs':>4}"]
    for m in measures:
        limit = "" if m.limit is None else f"{m.limit:g}"
        said = ", ".join(f"{n} {what}" for what, n in sorted(m.notes.items()))
        lines.append(
            f"{m.name:58} {m.median:10,.2f} {m.worst:10,.2f} {limit:>6} {m.unit:8}{m.runs:4}  "
            f"{said}{'' if m.ok else '  PAST ITS LIMIT'}".rstrip()
        )
    return "\n".join(lines)


def report(measures: list[Measure]) -> dict[str, object]:
    """What goes into the file: the machine, and all measures."""
    return {
        "machine": {
            "cpus": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "load": os.getloadavg()[0],
        },
        "measures": [{**asdict(m), "ok": m.ok} for m in measures],
        "ok": all(m.ok for m in measures),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Benchmarks into build/bench.json.")
    parser.add_argument("--live", action="store_true", help="guests that move too (root, QEMU)")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--out", type=Path, default=OUT, help="the file (build/bench.json)")
    asked = parser.parse_args()
    asked.out.parent.mkdir(exist_ok=True)
    measures = pure.everything(asked.out.parent, quick=asked.quick)
    if asked.live:
        import live as moves

        measures += moves.everything()
    written = report(measures)
    asked.out.write_text(json.dumps(written, indent=1) + "\n")
    sys.stdout.write(f"{table(measures)}\nWritten to {asked.out}.\n")
    return 0 if written["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
