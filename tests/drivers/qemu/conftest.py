"""Fixtures of the live tests."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sides import LIMIT_S, SPEC, Side, two_sides

from lodom.core.model.guest import GuestSpec

ROOT = Path(__file__).parents[3]


@pytest.fixture
def play() -> Callable[[Callable[[Side, Side], Awaitable[None]]], None]:
    """Runs a coroutine with two sides; nothing of them is left behind."""
    missing = [p for p in ("qemu-system-x86_64",) if not shutil.which(p)]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and {' '.join(missing) or 'QEMU'}")

    async def body(story: Callable[[Side, Side], Awaitable[None]]) -> None:
        # tmp_path is too long for the address of a Unix socket.
        with tempfile.TemporaryDirectory(prefix="lodom-") as folder:
            async with asyncio.timeout(LIMIT_S), two_sides(Path(folder)) as (a, b):
                await story(a, b)

    return lambda story: asyncio.run(body(story))


@pytest.fixture(scope="session")
def booting() -> GuestSpec:
    """The lab guest: a domain with an operating system and an agent."""
    missing = [p for p in ("qemu-system-x86_64", "apt-get", "gcc") if not shutil.which(p)]
    if missing:
        pytest.skip(f"the lab guest needs {', '.join(missing)}: run tools/setup.sh")
    built = subprocess.run([ROOT / "guest/build.sh"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return replace(
        SPEC,
        kernel=str(ROOT / "build/guest/vmlinuz"),
        initrd=str(ROOT / "build/guest/initrd"),
        kernel_args="console=ttyS0 quiet no_timer_check lodom.name=ldg1",
    )
