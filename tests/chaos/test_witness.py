"""The judge of the campaign can tell two copies from one; its faults stay within the lab."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "live"))

from arena import fill
from wire import Beat, judge

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
    assert faults(Beat(0.1, 0, "b1", 12), Beat(0.1001, 1, "b1", 11))


def test_the_disk_of_the_host_is_never_filled(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not a small file system"):
        fill(tmp_path)
    assert not list(tmp_path.iterdir())
