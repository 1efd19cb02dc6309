"""What was done on a machine: the records of past commands and migrations, and their list."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]

COMMAND, MIGRATION = "command", "migration"
UNDER_WAY, DONE, FAILED, INTERRUPTED = "under way", "done", "failed", "interrupted"


@dataclass(frozen=True)
class Entry:
    """One command, or one side of one migration.

    ``id``: the operation's, or the migration's, which is the same on both machines.  ``began`` is
    wall clock, ``seconds`` how long it took.  ``phases``: those it went through with the seconds
    spent in each, in order.  ``numbers``: the figures of the copy, bytes and milliseconds.
    """

    id: str
    kind: str
    began: float
    user: str = ""
    peer: str = ""
    ldoms: tuple[str, ...] = ()
    command: str = ""
    ended: str = UNDER_WAY
    seconds: float = 0.0
    exit: int = 0
    code: str = ""
    reason: str = ""
    role: str = ""
    operation: str = ""
    """Of a migration: the command that began it; on the target ""."""
    phases: tuple[tuple[str, float], ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)


def list_history(arguments: Mapping[str, Any], entries: Iterable[Entry]) -> Document:
    """``{"history": [ENTRY]}``, oldest first: the last ``number`` of those of ``ldoms``, or of all.

    A domain that is not here any more may be named: its past is.
    """
    wanted = frozenset(arguments.get("ldoms") or ())
    chosen = [e for e in entries if not wanted or wanted & {*e.ldoms}]
    number = arguments.get("number")
    return {"history": [_document(e) for e in (chosen[-number:] if number else chosen)]}


def _document(e: Entry) -> Document:
    return {
        "id": e.id,
        "kind": e.kind,
        "began": e.began,
        "seconds": e.seconds,
        "user": e.user,
        "peer": e.peer,
        "ldoms": list(e.ldoms),
        "command": e.command,
        "ended": e.ended,
        "exit": e.exit if e.kind == COMMAND and e.ended in (DONE, FAILED) else None,
        "code": e.code,
        "reason": e.reason,
        "role": e.role,
        "operation": e.operation,
        "phases": [{"phase": phase, "seconds": seconds} for phase, seconds in e.phases],
        "numbers": dict(e.numbers),
    }
