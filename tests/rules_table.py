"""``python -m tests.rules_table``: every rule, its kind, where it lives, and which tests keep it.

A test keeps a rule when its name has the rule's id as a word (``test_r18_…``) or its docstring
names it (``R18``).  Ends with 1 when a rule has no sentence, no place or no test of the pure part.
"""

import ast
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from lodom.core.rules.catalogue import PAGES
from lodom.core.rules.form import Behaviour, Rule, section

TESTS = Path(__file__).parent
_IN_NAME = re.compile(r"(?:^|_)([rl]\d\d)(?=_|$)")
_IN_TEXT = re.compile(r"\b([RL]\d\d)\b")


@dataclass(frozen=True)
class Test:
    """One test function that keeps a rule; ``id`` is what pytest calls it."""

    id: str
    live: bool


def kept() -> dict[str, list[Test]]:
    """Rule to the tests that keep it, in the order of their files."""
    found: dict[str, list[Test]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        all_live = "live" in _marks(tree.body)
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            live = all_live or any("live" in ast.unparse(d) for d in node.decorator_list)
            test = Test(f"{path.relative_to(TESTS.parent)}::{node.name}", live)
            for rule in sorted(named(node)):
                found[rule].append(test)
    for rule, id in facts():
        found[rule].append(Test(id, live=True))
    return found


def facts() -> list[tuple[str, str]]:
    """(rule, test) of the facts of the world that rows in ``tests/live/facts_*.py`` change."""
    bodies = [ast.parse(path.read_text()).body for path in sorted(TESTS.glob("live/facts_*.py"))]
    functions = (node for body in bodies for node in body if isinstance(node, ast.FunctionDef))
    made = []
    for node in functions:
        for call in (d for d in node.decorator_list if isinstance(d, ast.Call)):
            if ast.unparse(call.func) == "row":
                rules = str(ast.literal_eval(call.args[0])).split()
                blocks = "severity" not in {word.arg for word in call.keywords}
                test = "test_refused" if blocks else "test_said"
                id = f"tests/live/test_blockers.py::{test}[{'-'.join(rules)}-{node.name}]"
                made += [(rule, id) for rule in rules]
    return made


def named(node: ast.FunctionDef) -> set[str]:
    """The rules that a test names."""
    ids = {m.upper() for m in _IN_NAME.findall(node.name)}
    return ids | set(_IN_TEXT.findall(ast.get_docstring(node) or ""))


def _marks(body: list[ast.stmt]) -> str:
    """The module's ``pytestmark``, as source."""
    assigned = (s for s in body if isinstance(s, ast.Assign))
    marks = (s for s in assigned if ast.unparse(s.targets[0]) == "pytestmark")
    return " ".join(ast.unparse(s.value) for s in marks)


def place(entry: Rule | Behaviour) -> str:
    """``module:function`` of the check or the deed."""
    if isinstance(entry, Behaviour):
        return entry.where.removeprefix("lodom.")
    return f"{entry.check.__module__.removeprefix('lodom.')}:{entry.check.__name__}"


def kind(entry: Rule | Behaviour) -> str:
    """What the rule is: a severity, or a deed."""
    return "deed" if isinstance(entry, Behaviour) else entry.severity.value


def rows(tests: dict[str, list[Test]]) -> list[tuple[str, str, str, str, str]]:
    """(id, kind, place, number of pure and of live tests, first test) of each rule."""
    made = []
    for id, entry in PAGES.items():
        pure = [t for t in tests[id] if not t.live]
        live = [t for t in tests[id] if t.live]
        shown = (pure or live or [Test("-", live=False)])[0].id
        made.append((id, kind(entry), place(entry), f"{len(pure)}+{len(live)}", shown))
    return made


def lacking(tests: dict[str, list[Test]]) -> list[str]:
    """What is missing, one sentence each."""
    faults = [f"{id} has no sentence" for id in PAGES if not section(PAGES[id].page, "Sentence")]
    faults += [f"{id} has no pure test" for id in PAGES if not any(not t.live for t in tests[id])]
    return faults + [f"R{n:02} has no page" for n in range(1, 50) if f"R{n:02}" not in PAGES]


def main() -> int:
    """Print the table, then what is lacking."""
    tests = kept()
    table = [("id", "kind", "where it lives", "tests", "first test (pure+live)"), *rows(tests)]
    widths = [max(len(row[i]) for row in table) for i in range(4)]
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join((*cells, row[4])))
    faults = lacking(tests)
    without = [id for id in PAGES if not any(t.live for t in tests[id])]
    print(f"\n{len(PAGES)} rules; {len(without)} without a live test: {' '.join(without)}")
    print("\n".join(faults))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
