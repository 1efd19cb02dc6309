"""What is planted is found, so the silence of those who look means something."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from planted import BUGS

import lodom

PACKAGE = Path(lodom.__file__).parent
DAEMON = Path(__file__).parents[1] / "daemon"
PYTEST = ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
LOOK = {
    "explore": ["-m", "lodom.sim.explore", "--quick"],
    "sim": ["-m", "lodom.sim", "400", "--stop", "1"],
    "durable": [*PYTEST, str(DAEMON / "test_durable.py")],
    "crashes": [*PYTEST, str(DAEMON / "test_crash_anywhere.py")],
}


def planted(bug, directory):
    """A copy of the package with the bug in it."""
    shutil.copytree(PACKAGE, directory / "lodom", ignore=shutil.ignore_patterns("__pycache__"))
    file = directory / "lodom" / bug.file
    text = file.read_text()
    assert text.count(bug.old) == 1, f"{bug.file} has changed; plant {bug.name!r} anew"
    file.write_text(text.replace(bug.old, bug.new))
    return directory


@pytest.mark.long
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug, tmp_path):
    path = planted(bug, tmp_path)
    found = subprocess.run(
        [sys.executable, *LOOK[bug.seen_by]],
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 1, found.stdout
    told = found.stdout + found.stderr
    words = ("Violated", "UnexpectedEvent", "DID NOT RAISE")
    assert any(word in told for word in words), told[-3000:]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_still_fits_the_source(bug):
    assert (PACKAGE / bug.file).read_text().count(bug.old) == 1
