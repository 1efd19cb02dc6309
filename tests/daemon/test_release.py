"""``ldmd --release-memory``: the memory of domains is the host's again, when nothing is on it."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lodom.daemon import config
from lodom.host.pool import Pool
from lodom.store.sqlite import Store

pytestmark = pytest.mark.live

TOML = """
[machine]
state-dir = "{0}/state"
run-dir = "{0}/run"
log-dir = "{0}/log"
[memory]
size = "8M"
backing = "tmpfs"
"""


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """The machine.toml of a machine whose pool is there."""
    path = tmp_path / "machine.toml"
    path.write_text(TOML.format(tmp_path))
    (tmp_path / "run").mkdir()
    settings = config.load(path)
    pool = Pool(settings.pool(settings.machine("x"), ()))
    asyncio.run(Pool.open(pool.spec))
    assert pool.spec.directory.is_mount()
    yield path
    asyncio.run(pool.remove())


def release(path: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "lodom.daemon.main", "--config", path, "--release-memory"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_nothing_of_the_pool_is_left(path: Path) -> None:
    done = release(path)
    assert done.returncode == 0, done.stderr
    assert list((path.parent / "run").iterdir()) == []
    assert release(path).returncode == 0


def test_it_stays_while_a_guest_has_it(path: Path) -> None:
    pool = path.parent / "run/pool"
    with next(pool.iterdir()).open("rb"):
        done = release(path)
    assert done.returncode == 1
    assert done.stderr.startswith("ldmd: ")
    assert pool.is_mount()


def test_it_stays_while_an_ldmd_serves_it(path: Path) -> None:
    (path.parent / "state").mkdir()
    store = Store.open(path.parent / "state/journal.db", fresh_instance="x")
    done = release(path)
    store.close()
    assert done.returncode == 1
    assert "another ldmd" in done.stderr
    assert (path.parent / "run/pool").is_mount()
