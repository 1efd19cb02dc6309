"""The campaign's judge can tell two copies from one; its faults are real and stay in the lab."""

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "live"))

import shim
from arena import fill
from play import owned_first
from tail import Tail
from wire import Beat, judge

from lodom.host.logs import turn_over

LIFE = [Beat(t / 100, 0, "b1", t) for t in range(1, 10)]


def faults(*more: Beat) -> tuple[str, ...]:
    return judge([*LIFE, *more], 0.2).faults


def test_one_copy_that_moves_or_is_started_anew() -> None:
    moved = judge([*LIFE, Beat(0.6, 1, "b1", 10), Beat(0.9, 1, "b2", 1)], 1.0)
    assert (moved.faults, moved.boots) == ((), ("b1", "b2"))
    assert round(moved.silence, 2) == 0.51


def test_the_same_count_from_two_machines() -> None:
    assert faults(Beat(0.0901, 1, "b1", 9))


def test_a_guest_that_went_back() -> None:
    assert faults(Beat(0.0901, 0, "b1", 5))
    assert faults(Beat(0.3, 1, "b1", 5))


def test_the_old_copy_runs_on_beside_a_new_one() -> None:
    assert faults(Beat(0.1, 1, "b2", 1), Beat(0.11, 0, "b1", 10))


def test_frames_of_one_burst_may_change_places() -> None:
    assert not faults(Beat(0.1, 0, "b1", 12), Beat(0.1001, 0, "b1", 11))
    assert not faults(Beat(0.1, 0, "b1", 13), Beat(0.11, 0, "b1", 11), Beat(0.115, 0, "b1", 12))
    assert faults(Beat(0.1, 0, "b1", 12), Beat(0.1001, 1, "b1", 11))


def test_a_fault_that_struck_late() -> None:
    owned, gone = '{"event": "migration", "phase": "owned"}', '{"what": "GuestGone(uuid)"}'
    assert owned_first(f"{owned}\n{gone}")
    assert not owned_first(f"{gone}\n{owned}")
    assert not owned_first(owned)
    assert not owned_first(gone)


def test_the_disk_of_the_host_is_never_filled(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not a small file system"):
        fill(tmp_path)
    assert not list(tmp_path.iterdir())


WRITER = """
import os, sqlite3, sys, time
state, how = sys.argv[2].rpartition("/")[0] + "/state/", sys.argv[3]
db = sqlite3.connect(state + "journal.db", isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute("PRAGMA synchronous=FULL")
db.execute("CREATE TABLE t (n)")
for n in range(10):
    db.execute("INSERT INTO t VALUES (?)", (n,))
db.execute("PRAGMA synchronous=OFF")
db.execute("INSERT INTO t VALUES (10)")
with open(state + "new", "w") as file:
    file.write("synced")
    file.flush()
    os.fsync(file.fileno())
    file.write(", and more")
os.rename(state + "new", state + "old")
open(state + "never", "w").close()
if how == "folder":
    os.fsync(os.open(state, os.O_RDONLY))
print(time.time())
sys.stdout.flush()
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("how", ["files", "folder"])
def test_power_loss_drops_what_was_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "old").write_text("of before")
    shim.prepare(tmp_path)
    monkeypatch.setenv("LD_PRELOAD", str(shim.build(tmp_path)))
    shim.keep(tmp_path, "old")
    shim.set_clock(tmp_path, 86400)
    config = str(tmp_path / "machine.toml")
    done = subprocess.run(
        [sys.executable, "-c", WRITER, "--config", config, how],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert float(done.stdout) - time.time() == pytest.approx(86400, abs=60), done.stderr
    assert shim.lose_unsynced(tmp_path)
    db = sqlite3.connect(state / "journal.db")
    assert db.execute("SELECT max(n) FROM t").fetchone() == (9,), "FULL is kept, OFF is lost"
    db.close()
    left = {p.name: p.read_text() for p in state.iterdir() if not p.name.startswith("journal")}
    if how == "files":
        assert left == {"old": "of before", "new": "synced"}
    else:
        assert left == {"old": "synced", "never": ""}


def test_a_log_that_is_put_aside_is_read_on(tmp_path: Path) -> None:
    """Found on real processes: a moment was waited for in vain."""
    log = tmp_path / "ldmd.log"
    log.write_text("before\n")
    tail = Tail(log)
    with log.open("a") as out:
        out.write("one\n")
    turn_over(log, most=1)
    with log.open("a") as out:
        out.write("two\n")
    assert tail.wait("one", within=0)
    assert tail.text() == "one\ntwo\n"
