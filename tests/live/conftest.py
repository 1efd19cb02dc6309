"""The lab guest, built once a session."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def guest() -> tuple[Path, Path]:
    """Kernel and initrd of the lab guest, built anew if what it is made from has changed."""
    missing = [p for p in ("qemu-system-x86_64", "apt-get", "gcc") if not shutil.which(p)]
    if missing:
        pytest.skip(f"the lab guest needs {', '.join(missing)}: run tools/setup.sh")
    built = subprocess.run([ROOT / "guest/build.sh"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return ROOT / "build/guest/vmlinuz", ROOT / "build/guest/initrd"
