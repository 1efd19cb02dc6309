"""Checks that the live checks can fail: plant a defect, and exactly its tests turn red.

    python tests/sabotage/run.py [WORD…]     only defects with one of these words in their name

Needs root and the host's one lab.  The defects are planted in a copy; this checkout is not touched.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from defects import DEFECTS, Defect

ROOT = Path(__file__).parents[2]
TESTS = "tests/live/test_move.py"
NOT_HERE = "test_the_gap_is_short"
"""Measures, and is no witness of any defect here."""
LIMIT_S = 240


def copy_to(folder: Path) -> None:
    """The tree as it stands, with the lab guest, which needs no second build."""
    for name in ("src", "tests", "guest", "build/guest"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "pyproject.toml", folder)


def plant(defect: Defect, folder: Path) -> None:
    """Replace the texts; one that is not there exactly once is an error of this table."""
    for file, old, new in defect.patches:
        path = folder / file
        text = path.read_text()
        if text.count(old) != 1:
            sys.exit(f"{defect.name}: {text.count(old)} times in {file}: {old!r}")
        path.write_text(text.replace(old, new))


def red(folder: Path) -> set[str]:
    """The tests that fail in the copy."""
    report = folder / "report.xml"
    with (folder / "output").open("w") as out:
        subprocess.run(
            [sys.executable, "-m", "pytest", TESTS, "-m", "not long", "-k", f"not {NOT_HERE}",
             f"--junitxml={report}", "-p", "no:cacheprovider"],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(folder / "src")},
            stdout=out, stderr=out, timeout=LIMIT_S, check=False,
        )  # fmt: skip
    cases = ElementTree.parse(report).iter("testcase")
    seen = {c.attrib["name"].partition("[")[0]: c for c in cases}
    if not seen or any(c.find("skipped") is not None for c in seen.values()):
        sys.exit((folder / "output").read_text())
    errors = [c for c in seen.values() if c.find("error") is not None]
    if errors:
        print((folder / "output").read_text()[-3000:])
    return {n for n, c in seen.items() if c.find("failure") is not None or c in errors}


def main(words: list[str]) -> int:
    """0 when each defect turned exactly its tests red."""
    wrong = 0
    for defect in DEFECTS:
        if words and not any(word in defect.name for word in words):
            continue
        with tempfile.TemporaryDirectory(prefix="lodom-sabotage-") as name:
            copy_to(Path(name))
            plant(defect, Path(name))
            found = red(Path(name))
        verdict = "ok" if found == defect.red else f"WRONG, not {', '.join(sorted(defect.red))}"
        wrong += found != defect.red
        print(
            f"{defect.name:36} {', '.join(sorted(found)) or 'all green':40} {verdict}", flush=True
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
