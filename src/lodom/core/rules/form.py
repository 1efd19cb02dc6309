"""The form of a rule: one pure function, one permanent id, one page.

A rule looks only at a ``Case`` and yields what it found.  Its docstring is its manual page: a first
line, then the sections Why, Remedy, Example and Sentence (what it enforces of the specification, or
for L rules of Lodom's own design).  Rules that are deeds rather than checks have a page all the
same (``Behaviour``), so that every id of R01 to R49 can be explained.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from inspect import cleandoc
from typing import Any, Final

from lodom.core.rules.case import Case

RELEASES: Final = ("1.2", "3.x")
STATES: Final = ("active", "bound", "inactive")
SECTIONS: Final = ("Why", "Remedy", "Example", "Sentence")


class Severity(StrEnum):
    """What a finding means for the migration."""

    BLOCKER = "blocker"
    """The migration is refused."""
    WARNING = "warning"
    """It goes on, and may end in something that nobody wants."""
    NOTE = "note"
    """It goes on; worth knowing."""


@dataclass(frozen=True)
class Found:
    """What a rule yields; an empty remedy is the page's, no severity is the rule's."""

    text: str
    remedy: str = ""
    severity: Severity | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def found(
    text: str, *, remedy: str = "", severity: Severity | None = None, **details: Any
) -> Found:
    """A ``Found`` with its details as keywords: plain values only, they go into JSON."""
    return Found(text, remedy, severity, details)


@dataclass(frozen=True)
class Finding:
    """One result of a check.  ``side`` is where it can be mended: ``source`` or ``target``."""

    rule: str
    severity: Severity
    text: str
    remedy: str
    side: str
    details: Mapping[str, Any] = field(default_factory=dict)


Check = Callable[[Case], Iterator[Found]]


@dataclass(frozen=True)
class Rule:
    """A check.  It speaks in *states* of the domain and *releases* of the rule set only."""

    id: str
    severity: Severity
    side: str
    states: tuple[str, ...]
    releases: tuple[str, ...]
    check: Check
    page: str

    def judge(self, case: Case) -> list[Finding]:
        """The findings of this rule alone.  A rule that crashes yields a blocker."""
        if case.release not in self.releases or case.kind not in self.states:
            return []
        try:
            return [self._finding(f) for f in self.check(case)]
        except Exception as bug:
            text = f"Rule {self.id} could not be evaluated: {type(bug).__name__}: {bug}"
            cure = "Report this as a bug of Lodom; nothing has been changed."
            return [Finding(self.id, Severity.BLOCKER, text, cure, self.side, {"crashed": True})]

    def _finding(self, f: Found) -> Finding:
        remedy = f.remedy or section(self.page, "Remedy")
        severity = f.severity or self.severity
        return Finding(self.id, severity, f.text, remedy, self.side, f.details)


@dataclass(frozen=True)
class Behaviour:
    """A rule that Lodom keeps by what it does; ``where`` is ``module:function``."""

    id: str
    where: str
    page: str
    releases: tuple[str, ...] = RELEASES


REGISTRY: dict[str, Rule] = {}
"""Checks by id, filled by ``rule``; read it through ``core.rules.catalogue``."""


def rule(
    id: str,
    *,
    severity: Severity = Severity.BLOCKER,
    side: str = "target",
    states: tuple[str, ...] = STATES,
    releases: tuple[str, ...] = RELEASES,
) -> Callable[[Check], Check]:
    """Enter a check under its permanent id."""

    def enter(check: Check) -> Check:
        assert id not in REGISTRY, id
        page = cleandoc(check.__doc__ or "")
        REGISTRY[id] = Rule(id, severity, side, states, releases, check, page)
        return check

    return enter


def order(id: str) -> tuple[bool, int]:
    """Sort key of ids: R before L, then by number."""
    return (not id.startswith("R"), int(id[1:]))


def sections(page: str) -> dict[str, str]:
    """The sections of a page by name, each on one line; the first line is under ``""``."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in page.splitlines():
        if line.endswith(":") and line[:-1] in SECTIONS:
            name = line[:-1]
            found[name] = []
        else:
            found[name].append(line)
    return {name: " ".join(" ".join(lines).split()) for name, lines in found.items()}


def section(page: str, name: str) -> str:
    """One section of a page, on one line; empty if the page has none of that name."""
    return sections(page).get(name, "")
