"""``python -m tests.rules_mutate [RULE…]``: break each rule in a copy of the source.

A check is switched off, a deed is reversed; the pure tests that keep the rule must then fail.  Ends
with 1 when one of them still passes, or when the unbroken copy fails.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.rules_table import kept

from lodom.core.rules.catalogue import PAGES
from lodom.core.rules.form import Rule

ROOT = Path(__file__).parents[1]
FORM = "core/rules/form.py"
_SCOPE = "if case.release not in self.releases"
Edit = tuple[str, str, str]
"""File in the package, text that stands in it once, text in its place."""


def off(rule: str) -> Edit:
    """The check finds nothing."""
    return (FORM, _SCOPE, f'if self.id == "{rule}" or{_SCOPE.removeprefix("if")}')


_BARS = ("core/migration/guard.py", "in in_progress(inventory):", "in ():")
_PLACED = ("core/migration/shell.py", "replace(b, pa=pa)")
_NOTE = ("core/rules/network.py", '@rule("R42", severity=Severity.NOTE)', '@rule("R42")')

DEEDS: dict[str, Edit] = {
    "R01": (FORM, " or case.kind not in self.states", ""),
    "R06": (
        "core/alloc/strands.py",
        "held = [p for p in pids[count:] if machine.core_of(p) in begun]",
        "held = [p for p in pids[count:] if p < 0]",
    ),
    "R07": ("core/commands/resources.py", "if domain.bindings.cpu_dr_off and", "if False and"),
    "R08": ("core/lifecycle/domain.py", "        held=(),\n        cpu_dr_off=False,\n", ""),
    "R10": (
        "core/migration/source.py",
        "(Phase.SHRINKING, ev.VcpusRefused): _row(*_ABORTED, by=_abort)",
        "(Phase.SHRINKING, ev.VcpusRefused): _row(Phase.COPYING, by=_shrunk)",
    ),
    "R13": ("core/migration/shell.py", "[b.size for b in blocks]", "[b.size for b in blocks[1:]]"),
    "R14": (*_PLACED, "replace(b, pa=b.pa)"),
    "R15": (*_PLACED, "replace(b, pa=pa, ra=b.ra + 0x200000)"),
    "R16": (
        "core/rules/memory.py",
        "if free < wanted:",
        "if free < wanted or case.target.free[1:]:",
    ),
    "R19": (
        "core/views.py",
        "for pa, size, who in sorted(rows)]",
        "for pa, size, who in sorted(rows)[::-1]]",
    ),
    "R20": ("core/views.py", '"pa": _hex(block.pa)', '"pa": _hex(block.ra)'),
    "R21": ("core/errors.py", '"Domain Migration of LDom {name} {verdict}"', '"{name} {verdict}"'),
    "R22": (
        "core/rules/physical_io.py",
        "in case.domain.direct:",
        "in (*case.domain.direct, *(n.name for n in case.domain.nics if n.uplink)):",
    ),
    "R29": ("core/migration/conduct.py", 'if finding.rule == "R28" else', "if False else"),
    "R30": ("core/migration/conduct.py", "storage_differs=differs", "storage_differs=False"),
    "R32": off("R31"),
    "R37": (
        "core/migration/shell.py",
        "BoundConsole(vcc.name, name,",
        'BoundConsole(vcc.name, "",',
    ),
    "R38": ("core/alloc/ports.py", "return min(mine,", "return max(mine,"),
    "R40": _NOTE,
    "R41": _NOTE,
    "R44": off("R43"),
    "R46": _BARS,
    "R47": _BARS,
    "R48": _BARS,
    "R49": _BARS,
}


@contextmanager
def broken(edit: Edit | None) -> Iterator[dict[str, str]]:
    """An environment in which the package is a copy with *edit* made in it."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "lodom"
        shutil.copytree(ROOT / "src/lodom", package, ignore=shutil.ignore_patterns("__pycache__"))
        if edit:
            path, old, new = package / edit[0], edit[1], edit[2]
            text = path.read_text(encoding="utf-8")
            if text.count(old) != 1:
                raise SystemExit(f"{edit[0]} has {text.count(old)} times {old!r}, not once")
            path.write_text(text.replace(old, new), encoding="utf-8")
        yield {**os.environ, "PYTHONPATH": folder}


def run(environment: dict[str, str], tests: Sequence[str], *options: str) -> tuple[int, str]:
    """pytest's exit code and what it printed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *tests]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):  # anything else is no verdict
        raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.returncode, done.stdout


def passes(edit: Edit | None, tests: Sequence[str]) -> bool:
    """Whether *tests* pass on a copy of the package with *edit* made in it."""
    with broken(edit) as environment:
        return run(environment, tests, "-x")[0] == 0


def main(wanted: Sequence[str]) -> int:
    """Break what is *wanted*, or all; tell what nobody noticed."""
    rules = list(wanted) or list(PAGES)
    known = kept()
    tests = {id: [t.id for t in known[id] if not t.live] for id in rules}
    if not passes(None, sorted({t for ids in tests.values() for t in ids})):
        print("the tests fail on an unbroken copy")
        return 1

    def unnoticed(id: str) -> bool:
        edit = off(id) if isinstance(PAGES[id], Rule) else DEEDS[id]
        return passes(edit, tests[id])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        missed = [id for id, gone in zip(rules, pool.map(unnoticed, rules), strict=True) if gone]
    print(f"{len(rules) - len(missed)} of {len(rules)} broken rules turn their tests red")
    for id in missed:
        print(f"{id}: its tests pass without it: {' '.join(tests[id])}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
