"""The lab guest, built once a session, and the lab, up once a session.

Whoever runs these tests sees to it that nobody else uses the lab of this host meanwhile.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machines import Domain, World

from lodom.core.units import MIB
from lodom.lab.lab import Lab
from lodom.lab.topology import LabMachine, Topology

ROOT = Path(__file__).parents[2]
SMALL = Topology(
    tuple(
        LabMachine(name, memory=1536 * MIB, primary_memory=256 * MIB)
        for name in ("dt90-319", "dt212-239")
    )
)


@pytest.fixture(scope="session")
def guest() -> tuple[Path, Path]:
    """Kernel and initrd of the lab guest, built anew if what it is made from has changed."""
    missing = [p for p in ("qemu-system-x86_64", "apt-get", "gcc") if not shutil.which(p)]
    if missing:
        pytest.skip(f"the lab guest needs {', '.join(missing)}: run tools/setup.sh")
    built = subprocess.run([ROOT / "guest/build.sh"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return ROOT / "build/guest/vmlinuz", ROOT / "build/guest/initrd"


@pytest.fixture(scope="session")
def world(guest: tuple[Path, Path]) -> Iterator[World]:
    """Two machines of the lab with 1280M each for domains; nothing is left of them afterwards."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    lab = Lab()
    lab.up(SMALL)
    try:
        yield World(lab, guest)
    finally:
        lab.down()


@pytest.fixture
def domains(world: World) -> Iterator[Callable[..., Domain]]:
    """Makes domains; they are gone from both machines when the test ends, whatever it did."""
    try:
        yield world.domain
    finally:
        world.clear()
