"""The benchmarks run, their answers are looked at, and a limit that is passed is told."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
sys.path.insert(0, str(BENCH))

from libvirt import Hop, summary, table  # noqa: E402
from pure import PLACEMENT_MS, measure, wrong  # noqa: E402
from questions import PAGE, Question, questions  # noqa: E402

from lodom.core.alloc.memory import Lack, Misfit, Undecided, place  # noqa: E402
from lodom.core.model.host import Region  # noqa: E402


def test_small_sizes_run_and_are_written(tmp_path: Path) -> None:
    out = tmp_path / "new" / "bench.json"
    done = subprocess.run(
        [sys.executable, BENCH / "run.py", "--quick", "--out", out], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    written = json.loads(out.read_text())
    assert written["ok"]
    names = [m["name"] for m in written["measures"]]
    assert all(name in done.stdout for name in names)
    kinds = {name.partition(":")[0] for name in names}
    assert kinds == {"placement", "journal", "list of 20 domains"}
    assert {m["limit"] for m in written["measures"] if "placement" in m["name"]} == {PLACEMENT_MS}
    assert list(tmp_path.glob("*/*")) == [out]


Q = Question("", (PAGE, PAGE), (Region(0, 2 * PAGE), Region(8 * PAGE, PAGE)), True)
MISFIT = Misfit(Lack.LAYOUT, 0, 0, 0)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((0, PAGE), ""),
        ((PAGE, 8 * PAGE), ""),
        ((0, 0), "two blocks overlap"),
        ((0, PAGE // 2), "not on a page boundary"),
        ((0, 2 * PAGE), "a block lies outside the free ranges"),
        (MISFIT, "a placement exists and was not found"),
        (Undecided(1), ""),
    ],
)
def test_answers_are_looked_at(answer: object, why: str) -> None:
    assert wrong(Q, answer) == why


def test_what_is_plain_must_be_decided() -> None:
    assert wrong(replace(Q, fits=False), MISFIT) == ""
    assert "plain" in wrong(replace(Q, fits=False), Undecided(1))


def test_off_the_page_boundaries_is_the_same_question() -> None:
    """The same pages are whole: what was placed is placed, with the same numbers of pages."""
    for even, odd in zip(*[iter(questions(1, blocks=6, ranges=9))] * 2, strict=True):
        assert even.sizes == odd.sizes
        assert all(
            a.size != b.size and b.base % PAGE for a, b in zip(even.free, odd.free, strict=True)
        )
        answers = [place(q.sizes, q.free, page=PAGE) for q in (even, odd)]
        assert type(answers[0]) is type(answers[1])
        assert not any(wrong(q, a) for q, a in zip((even, odd), answers, strict=True))


def test_the_worst_is_what_counts() -> None:
    assert measure("x", "ms", [1.0, 2.0, 9.0], limit=9.0).ok
    assert not measure("x", "ms", [1.0, 2.0, 9.1], limit=9.0).ok
    assert measure("x", "1/s", [5.0, 7.0], high=True).worst == 5.0


def test_a_faster_libvirt_is_told() -> None:
    """The ratio is ours over theirs; a count with a number missing or twice is not whole."""
    rest = {"source": "a", "target": "b", "gap_at": 0.0, "unbroken": True, "again": 0, "load": 0.0}
    hops = [
        Hop("libvirt", seconds=2.0, gap=0.25, missing=0, backwards=0, **rest),
        Hop("libvirt", seconds=4.0, gap=0.25, missing=3, backwards=0, **rest),
        Hop("Lodom", seconds=6.0, gap=0.5, missing=0, backwards=0, **rest),
    ]
    told = summary(hops)
    assert told["Lodom / libvirt"] == {"seconds, median": 2.0, "gap, median": 2.0}
    assert (told["libvirt"]["hops"], told["libvirt"]["sound"]) == (2, 1)
    lines = table(told).splitlines()
    assert lines[2].split() == ["libvirt", "3.00", "4.00", "0.25", "0.25", "2", "1", "0"]
    assert lines[3].split() == ["Lodom", "/", "libvirt", "2.00", "2.00"]
