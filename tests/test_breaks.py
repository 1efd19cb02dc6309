"""What ``make rules`` and ``make sabotage`` break stands in the source, so that they can run."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/sabotage")]

from defects import DEFECTS  # noqa: E402
from tests.rules_mutate import DEEDS, off  # noqa: E402

from lodom.core.rules.catalogue import PAGES  # noqa: E402
from lodom.core.rules.form import Rule  # noqa: E402


def times(file: Path, text: str) -> int:
    return file.read_text(encoding="utf-8").count(text)


@pytest.mark.parametrize("id", list(PAGES))
def test_each_rule_can_be_broken(id: str) -> None:
    file, old, _ = off(id) if isinstance(PAGES[id], Rule) else DEEDS[id]
    assert times(ROOT / "src/lodom" / file, old) == 1


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_each_defect_can_be_planted(defect) -> None:
    assert [times(ROOT / file, old) for file, old, _ in defect.patches] == [1] * len(defect.patches)
