"""Every rule has its page, its test, and a place in the catalogue; a crash blocks."""

import importlib
from pathlib import Path

import pytest

from lodom.core.rules.behaviours import BEHAVIOURS
from lodom.core.rules.catalogue import CHECKS, FAMILIES, PAGES, explain, judge, refused
from lodom.core.rules.form import RELEASES, SECTIONS, STATES, Rule, Severity, found, sections
from rules.clean import CLEAN, brief

HERE = Path(__file__).parent


def test_every_id_of_the_specification_has_a_page():
    wanted = [f"R{n:02}" for n in range(1, 50)]
    assert [id for id in PAGES if id.startswith("R")] == wanted
    ours = [id for id in PAGES if id.startswith("L")]
    assert ours == [f"L{n:02}" for n in range(1, len(ours) + 1)]
    assert len(CHECKS) + len(BEHAVIOURS) == len(PAGES)


@pytest.mark.parametrize("id", list(PAGES))
def test_page_has_all_sections(id):
    parts = sections(PAGES[id].page)
    assert set(parts) == {"", *SECTIONS}
    assert all(text.endswith((".", '".')) or text[-1] == '"' for text in parts.values())
    text = explain(id)
    assert text.startswith(f"{id}  ")
    for name in (*SECTIONS, "Holds"):
        assert f"\n{name}:\n" in text
    assert max(map(len, text.splitlines())) <= 100


def test_pages_are_not_copies():
    for name in ("", "Why", "Example"):
        texts = [sections(entry.page)[name] for entry in PAGES.values()]
        assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("rule", CHECKS, ids=lambda r: r.id)
def test_check_has_a_test_and_a_known_scope(rule):
    tests = "".join(path.read_text() for path in HERE.glob("test_*.py"))
    assert f"def test_{rule.id.lower()}_" in tests
    assert set(rule.states) <= set(STATES)
    assert set(rule.releases) <= set(RELEASES)
    assert "1.2" in rule.releases
    assert rule.side in ("source", "target")
    assert len(rule.states) == len(set(rule.states))


def test_later_releases_drop_what_they_dropped():
    """DESIGN section 7: shrink to one strand, full cores, CPU DR off until reboot, R43."""
    dropped = {id for id, entry in PAGES.items() if "3.x" not in entry.releases}
    expected = {"R05", "R06", "R07", "R08", "R09", "R10", "R11", "R43", "R44", "L22"}
    assert dropped == expected


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda b: b.id)
def test_behaviour_says_where(behaviour):
    module, _, name = behaviour.where.partition(":")
    thing = importlib.import_module(module)
    for part in name.split("."):
        thing = getattr(thing, part)


def test_every_family_is_in_the_catalogue():
    """A module with rules in it is a family."""
    source = Path(FAMILIES[0].__file__).parent
    with_rules = {p.stem for p in source.glob("*.py") if '\n@rule("' in p.read_text()}
    assert with_rules == {f.__name__.rpartition(".")[2] for f in FAMILIES}


def test_a_rule_that_crashes_blocks():
    def crash(case):
        yield found("first")
        raise ZeroDivisionError(case.kind)

    broken = Rule("R99", Severity.NOTE, "source", STATES, RELEASES, crash, "")
    (finding,) = judge(CLEAN, [broken])
    assert finding.severity is Severity.BLOCKER
    assert finding.text == "Rule R99 could not be evaluated: ZeroDivisionError: active"
    assert refused([finding])


def test_the_clean_case_is_clean():
    assert brief(CLEAN) == []
    assert not refused(judge(CLEAN))
