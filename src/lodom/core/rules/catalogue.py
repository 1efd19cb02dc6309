"""All rules: judging a case by them, and the page of each."""

import textwrap
from collections.abc import Iterable
from typing import Final

from lodom.core.rules import (
    console,
    cpu,
    crypto,
    disk,
    memory,
    network,
    physical_io,
    platform,
    state,
)
from lodom.core.rules.behaviours import BEHAVIOURS
from lodom.core.rules.case import Case
from lodom.core.rules.form import REGISTRY, Behaviour, Finding, Rule, Severity, order, sections

FAMILIES: Final = (console, cpu, crypto, disk, memory, network, physical_io, platform, state)

CHECKS: Final[tuple[Rule, ...]] = tuple(REGISTRY[id] for id in sorted(REGISTRY, key=order))

_ENTRIES: Final[tuple[Rule | Behaviour, ...]] = (*CHECKS, *BEHAVIOURS)
PAGES: Final = {entry.id: entry for entry in sorted(_ENTRIES, key=lambda e: order(e.id))}
"""Every rule id, R01 to R49 then L01 on, and what keeps it."""


def judge(case: Case, checks: Iterable[Rule] = CHECKS) -> tuple[Finding, ...]:
    """All findings of all rules, sorted by rule id.  Never raises."""
    return tuple(finding for check in checks for finding in check.judge(case))


def refused(findings: Iterable[Finding]) -> bool:
    """Whether one of the findings forbids the migration."""
    return any(f.severity is Severity.BLOCKER for f in findings)


def explain(id: str) -> str:
    """The manual page of a rule, as text of at most 80 columns.

    Raises:
        KeyError: there is no rule of that id.
    """
    entry = PAGES[id]
    parts = sections(entry.page)
    lines = [f"{id}  {parts.pop('')}"]
    for name, text in (*parts.items(), ("Holds", _holds(entry))):
        wrapped = textwrap.fill(text, 80, initial_indent="    ", subsequent_indent="    ")
        lines += ["", f"{name}:", wrapped]
    return "\n".join(lines) + "\n"


def _holds(entry: Rule | Behaviour) -> str:
    releases = f"in releases {', '.join(entry.releases)}"
    if isinstance(entry, Behaviour):
        return f"{releases}; not a check, kept by {entry.where}."
    states = "any" if len(entry.states) == 3 else " or ".join(entry.states)
    return f"{releases}, for {states} domains; {entry.severity}, found on the {entry.side}."
