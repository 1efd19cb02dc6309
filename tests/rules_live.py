"""``python -m tests.rules_live [RULE…]``: break rules in a copy, and see the live tests turn red.

All checks that a fact of the world can break are switched off together: each row's test must fail.
Deeds are reversed one by one.  Needs root and QEMU; nobody else uses the lab of this host.
"""

import re
import sys
from collections.abc import Sequence
from time import monotonic

from tests.rules_mutate import _SCOPE, DEEDS, FORM, Edit, broken, passes, run
from tests.rules_table import kept

from lodom.core.rules.catalogue import PAGES
from lodom.core.rules.form import Rule

_FACTS = "tests/live/test_blockers.py"
_PASSED = re.compile(r"^PASSED (\S+)", re.MULTILINE)


def off(rules: Sequence[str]) -> Edit:
    """These checks find nothing."""
    return (FORM, _SCOPE, f"if self.id in {tuple(rules)!r} or{_SCOPE.removeprefix('if')}")


def unnoticed_checks(rules: Sequence[str], tests: dict[str, list[str]]) -> list[str]:
    """The tests of facts that pass although their rules are off."""
    wanted = sorted({id for rule in rules for id in tests[rule]})
    with broken(off(rules)) as environment:
        _, printed = run(environment, wanted, "-rp", "--tb=no")
    return _PASSED.findall(printed)


def main(wanted: Sequence[str]) -> int:
    """Break what is *wanted*, or all that has a live test; tell what nobody noticed."""
    known = kept()
    live = {id: [t.id for t in known[id] if t.live and "tests/live/" in t.id] for id in PAGES}
    rules = [id for id in wanted or PAGES if live[id]]
    checks = [id for id in rules if isinstance(PAGES[id], Rule)]
    missed = []
    begin = monotonic()
    facts = {id: [t for t in live[id] if t.startswith(_FACTS)] for id in checks}
    if any(facts.values()):
        missed = unnoticed_checks([id for id in checks if facts[id]], facts)
        print(
            f"{sum(map(bool, facts.values()))} checks off: {monotonic() - begin:.0f} s", flush=True
        )
    single = [id for id in rules if id not in checks] + [id for id in checks if not facts[id]]
    for id in single:
        begin = monotonic()
        edit = DEEDS[id] if id in DEEDS else off([id])
        noticed = not passes(edit, live[id])
        print(f"{id} {'red' if noticed else 'PASSES'}: {monotonic() - begin:.0f} s", flush=True)
        missed += [] if noticed else [f"{id}: {' '.join(live[id])}"]
    print(f"{len(rules)} rules broken, {len(missed)} unnoticed by live tests")
    print("\n".join(missed))
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
