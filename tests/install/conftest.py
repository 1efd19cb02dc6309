"""What an installation is tried on; made once by ``root.sh``, kept under build/install."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import BUILD, ROOT, Site

NEEDED = ("debootstrap", "qemu-img", "genisoimage", "unshare", "nsenter")


def made(*what: str) -> None:
    """Have ``root.sh`` make it, if it is not there."""
    missing = [p for p in NEEDED if not shutil.which(p)]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(missing) or 'nothing else'}: tools/setup.sh --debian")
    for thing in what:
        done = subprocess.run(
            [ROOT / "tests/install/root.sh", thing], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def wheels() -> Path:
    """A folder with Lodom and what it needs as wheel files."""
    made("wheels")
    return BUILD / "wheels"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two bare hosts; the folder that both see is empty."""
    made("host", "wheels")
    built = Site(tmp_path_factory.mktemp("site"))
    try:
        yield built
    finally:
        built.close()
