"""Load from two looks at the CPU time of a domain's threads."""

import pytest

from lodom.daemon.load import Loads


def test_a_share_lies_between_nothing_and_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when another process, with less time behind it, runs the domain since the last look."""
    clock, used = iter([100.0, 110.0, 120.0]), iter([50.0, 55.0, 0.5])
    monkeypatch.setattr("lodom.daemon.load.time.monotonic", lambda: next(clock))
    loads = Loads(lambda _uuid: {0: next(used)}, lambda: ["u"])
    assert [loads.percent()[0]["u"] for _ in range(3)] == [0.0, 50.0, 0.0]
