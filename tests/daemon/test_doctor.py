"""``ldmd --doctor``: each feature of the host with what was found, and the cure of what lacks."""

import asyncio
import subprocess
import sys
from pathlib import Path

from lodom.host.probe import features


def test_doctor_shows_every_feature() -> None:
    ldmd = Path(sys.executable).with_name("ldmd")
    done = subprocess.run([ldmd, "--doctor"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    found = asyncio.run(features())
    assert [line[:16].strip() for line in lines] == [f.name for f in found]
    for line, feature in zip(lines, found, strict=True):
        assert line[17:].startswith("yes " if feature.present else "no  ")
        assert feature.remedy in line
