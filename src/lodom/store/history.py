"""The table of history: records by id, bounded by count and age.

Nothing is decided by it: a record that cannot be read is left out.
"""

import contextlib
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import msgspec

from lodom.core.history import COMMAND, INTERRUPTED, UNDER_WAY, Entry

COUNT_MAX: Final = 10_000
AGE_MAX_S: Final = 400 * 86400


def note(db: sqlite3.Connection, entries: Iterable[Entry], now: float) -> None:
    """Keep *entries*, each in place of the one with its id, and let the oldest go.

    Raises:
        sqlite3.Error: nothing was written.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        for entry in entries:
            db.execute(
                "INSERT INTO history (id, began, body) VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                (_key(entry), entry.began, msgspec.json.encode(entry).decode()),
            )
        last = "(SELECT max(number) FROM history)"
        sql = f"DELETE FROM history WHERE number <= {last} - ? OR began < ?"  # noqa: S608 - ours
        db.execute(sql, (COUNT_MAX, now - AGE_MAX_S))
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def texts(db: sqlite3.Connection) -> list[str]:
    """All of them as they are kept, oldest first."""
    return [row[0] for row in db.execute("SELECT body FROM history ORDER BY began, number")]


def decoded(texts: Iterable[str]) -> list[Entry]:
    """What *texts* say; needs no database, so that a thread may do it."""
    found = []
    for body in texts:
        with contextlib.suppress(msgspec.MsgspecError):
            found.append(msgspec.json.decode(body, type=Entry))
    return found


def interrupt(db: sqlite3.Connection, now: float) -> None:
    """Commands that were under way when ldmd went: nobody will ever tell how they ended."""
    left = [e for e in decoded(texts(db)) if e.kind == COMMAND and e.ended == UNDER_WAY]
    if left:
        why = "ldmd ended before the command did"
        note(db, [replace(e, ended=INTERRUPTED, reason=why) for e in left], now)


def _key(entry: Entry) -> str:
    """A migration's id is that of both sides."""
    return f"{entry.id} {entry.role}" if entry.role else entry.id
