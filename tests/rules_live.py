"""``python -m tests.rules_live [RULE…]``: break rules in a copy, and see the live tests turn red.

All checks that a fact of the world can break are switched off together: each row's test must fail.
Any other is broken alone, or with those that the same edit breaks, and one of its own tests must
fail.  On an unbroken copy all of them must pass.  Needs root and QEMU; nobody else uses the lab of
this host meanwhile.
"""

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from tests.rules_mutate import _SCOPE, DEEDS, FORM, Edit, broken, run
from tests.rules_table import kept

from lodom.core.rules.catalogue import PAGES
from lodom.core.rules.form import Rule

_FACTS = "tests/live/test_blockers.py"
_ENDED = re.compile(r"^(PASSED|FAILED|ERROR) (\S+)", re.MULTILINE)
Tests = Mapping[str, Sequence[str]]
"""Rule to the tests that keep it."""


@dataclass(frozen=True)
class Break:
    """One edit, and the rules that it breaks."""

    edit: Edit
    tests: Tests
    every: bool
    """Every test must fail, not only one."""


def off(rules: Sequence[str]) -> Edit:
    """These checks find nothing."""
    return (FORM, _SCOPE, f"if self.id in {tuple(rules)!r} or{_SCOPE.removeprefix('if')}")


def planned(tests: Tests) -> list[Break]:
    """What to break, in this order."""
    checks = [id for id in tests if isinstance(PAGES[id], Rule)]
    facts = {id: [t for t in tests[id] if t.startswith(_FACTS)] for id in checks}
    facts = {id: rows for id, rows in facts.items() if rows}
    breaks = [Break(off(list(facts)), facts, every=True)] if facts else []
    alike: dict[Edit, dict[str, Sequence[str]]] = {}
    for id in tests:
        if id not in facts:
            alike.setdefault(DEEDS.get(id) or off([id]), {})[id] = tests[id]
    return breaks + [Break(edit, rules, every=False) for edit, rules in alike.items()]


def ended(edit: Edit | None, tests: Tests, *options: str) -> dict[str, set[str]]:
    """How the tests ended on a copy with *edit*: outcome to the ids that pytest gives."""
    wanted = sorted({id for ids in tests.values() for id in ids})
    with broken(edit) as environment:
        _, printed = run(environment, wanted, "-rpfE", "--tb=no", *options)
    found: dict[str, set[str]] = {"PASSED": set(), "FAILED": set(), "ERROR": set()}
    for outcome, id in _ENDED.findall(printed):
        found[outcome].add(id)
    return found


def noticed(rule: str, tests: Sequence[str], failed: set[str], *, every: bool) -> bool:
    """Whether the tests of *rule* failed; of one test for several rules, its own case of it."""
    red = []
    for test in tests:
        cases = {id for id in failed if id == test or id.startswith(f"{test}[")}
        named = {id for id in cases if re.search(r"\[[RL]\d\d\]$", id)}
        red.append(bool(cases - named) or any(id.endswith(f"[{rule}]") for id in named))
    return all(red) if every else any(red)


def unnoticed(one: Break) -> list[str]:
    """The rules whose tests do not turn red."""
    enough = () if one.every or len(one.tests) > 1 else ("-x",)
    outcomes = ended(one.edit, one.tests, *enough)
    failed = outcomes["FAILED"]
    if not failed and outcomes["ERROR"]:
        raise SystemExit(f"no verdict, nothing but errors: {sorted(outcomes['ERROR'])}")
    return [
        id for id, tests in one.tests.items() if not noticed(id, tests, failed, every=one.every)
    ]


def hindrance() -> str:
    """Why nothing live can be done here; empty if it can."""
    if os.geteuid() != 0:
        return "it needs root"
    return "" if shutil.which("qemu-system-x86_64") else "it needs QEMU (tools/setup.sh)"


def main(wanted: Sequence[str]) -> int:
    """Break what is *wanted*, or all that has a live test; tell what nobody noticed."""
    if why := hindrance():
        print(f"live tests against broken rules: left out, {why}")
        return 0
    known = kept()
    live = {id: [t.id for t in known[id] if t.live and "tests/live/" in t.id] for id in PAGES}
    tests = {id: live[id] for id in wanted or PAGES if live[id]}
    whole = ended(None, tests)
    if bad := whole["FAILED"] | whole["ERROR"]:
        print("on an unbroken copy these do not pass:", *sorted(bad), sep="\n")
        return 1
    missed = []
    for one in planned(tests):
        begin = monotonic()
        gone = unnoticed(one)
        missed += gone
        what = f"PASSES without {' '.join(gone)}" if gone else "red"
        print(f"{' '.join(one.tests)}: {what}, {monotonic() - begin:.0f} s", flush=True)
    print(f"{len(tests) - len(missed)} of {len(tests)} broken rules turn their live tests red")
    for id in missed:
        print(f"{id}: they pass without it: {' '.join(tests[id])}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
