"""The journal: every record of the inventory, durable before it has effect.

One SQLite file, one writer, ``synchronous=FULL``.  A write is a transaction of compare-and-sets: a
record that is not as this process last saw it stops everything.  A damaged file, one of a newer
Lodom or of another program, is reported and left alone.
"""

import sqlite3
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import msgspec

from lodom.core.history import Entry
from lodom.core.migration.source import SourceMigration
from lodom.core.migration.target import TargetMigration
from lodom.core.model.devices import Concentrator, DiskServer, Switch
from lodom.core.model.domain import Domain
from lodom.core.model.host import Machine
from lodom.core.model.inventory import TABLES, Change, Freed, Inventory, Ownership
from lodom.core.model.saved import Configuration, Mark, Reconfiguration
from lodom.store import history

_TYPES: Final[dict[str, Any]] = {
    "domains": Domain,
    "vds": DiskServer,
    "vsw": Switch,
    "vcc": Concentrator,
    "ownership": Ownership,
    "outgoing": SourceMigration,
    "incoming": TargetMigration,
    "dirty": Freed,
    "reconf": Reconfiguration,
    "configs": Configuration,
    "marks": Mark,
}
assert tuple(_TYPES) == TABLES

_COLUMNS: Final = {
    "record": ("tab", "key", "version", "body", "crc"),
    "meta": ("name", "value"),
    "history": ("number", "id", "began", "body"),
}


class JournalUnusable(Exception):
    """The file cannot be used, and was not touched.  The text says why and what to do."""


class JournalConflict(Exception):
    """A record is not as this process last saw it: somebody else wrote the journal."""


class Store:
    """The journal of one machine.  Not shared between threads or processes."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path
        self._versions: dict[tuple[str, str], int] = {}
        row = db.execute("SELECT value FROM meta WHERE name = 'sequence'").fetchone()
        self.sequence = int(row[0]) if row else 0
        """How many writes the journal has seen, of all its life."""

    @classmethod
    def open(cls, path: Path, *, fresh_instance: str) -> "Store":
        """Open the journal, or make it with *fresh_instance* as the machine's id.

        Raises:
            JournalUnusable: damaged, of a newer version, or held by another ldmd.
        """
        db = None
        try:
            db = sqlite3.connect(path, isolation_level=None, timeout=2.0, check_same_thread=False)
            path.chmod(0o600)
            db.execute("PRAGMA locking_mode=EXCLUSIVE")
            _examine(db, path)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            _migrate(db)
            _check_columns(db, path)
            db.execute("INSERT OR IGNORE INTO meta VALUES ('instance', ?)", (fresh_instance,))
        except BaseException as error:
            if db is not None:
                db.close()
            if isinstance(error, sqlite3.DatabaseError):
                raise JournalUnusable(
                    f"{path} cannot be used: {error}; it was not changed. If another ldmd runs, "
                    "stop it; otherwise restore the file from a backup"
                ) from error
            raise
        return cls(db, path)

    @property
    def instance(self) -> str:
        """The machine's instance id, made with its store."""
        row = self._db.execute("SELECT value FROM meta WHERE name = 'instance'").fetchone()
        return str(row[0])

    def load(self, machine: Machine) -> Inventory | None:
        """The inventory as last written; None if nothing was ever written.

        Raises:
            JournalUnusable: a record cannot be read.
        """
        inventory = Inventory(machine)
        tables: dict[str, dict[str, Any]] = {table: {} for table in TABLES}
        for table, key, version, body, crc in self._rows("SELECT * FROM record"):
            try:
                tables[table][key] = _decoded(table, key, version, body, crc)
            except (msgspec.MsgspecError, KeyError, ValueError) as error:
                raise JournalUnusable(
                    f"{self._path}: record {table}/{key} cannot be read ({error}); nothing was "
                    "changed. Restore the file from a backup"
                ) from error
            self._versions[table, key] = version
        if not self._versions:
            return None
        kept: dict[str, Any] = tables
        return replace(inventory, **kept)

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(sql).fetchall()
        except sqlite3.DatabaseError as error:
            raise JournalUnusable(
                f"{self._path} is damaged ({error}); it was not changed. Restore it from a backup"
            ) from error

    def write(self, changed: Iterable[Change]) -> None:
        """Make the changes durable, all or none.

        Raises:
            JournalConflict: a record is not as last seen.
            sqlite3.Error: the disk is full or failed; nothing was written.
        """
        versions = dict(self._versions)
        sequence = self.sequence + 1
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for change in changed:
                self._set(change, versions)
            if versions != self._versions:
                self._db.execute("REPLACE INTO meta VALUES ('sequence', ?)", (str(sequence),))
            else:
                sequence -= 1
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._versions, self.sequence = versions, sequence

    def _set(self, change: Change, versions: dict[tuple[str, str], int]) -> None:
        at = (change.table, change.key)
        seen = versions.get(at, 0)
        if change.after is None:
            sql = "DELETE FROM record WHERE tab = ? AND key = ? AND version = ?"
            done = self._db.execute(sql, (*at, seen)).rowcount
            versions.pop(at, None)
        else:
            body = msgspec.json.encode(change.after).decode()
            crc = _crc(*at, seen + 1, body)
            if seen:
                sql = (
                    "UPDATE record SET version = version + 1, body = ?, crc = ? "
                    "WHERE tab = ? AND key = ? AND version = ?"
                )
                done = self._db.execute(sql, (body, crc, *at, seen)).rowcount
            else:
                sql = "INSERT OR IGNORE INTO record VALUES (?, ?, 1, ?, ?)"
                done = self._db.execute(sql, (*at, body, crc)).rowcount
            versions[at] = seen + 1
        if done != 1:
            raise JournalConflict(f"{change.table}/{change.key} is not at version {seen}")

    def ownership(self) -> dict[str, Ownership]:
        """The ownership records as they stand on disk now (HANDOVER: the one function)."""
        rows = self._rows("SELECT * FROM record WHERE tab = 'ownership'")
        return {row[1]: _decoded(*row) for row in rows}

    # -- history ---------------------------------------------------------------------------------

    def note(self, entries: Iterable[Entry], now: float) -> None:
        """Keep records of what was done, each in place of the one with its id.

        Raises:
            sqlite3.Error: nothing was written.
        """
        history.note(self._db, entries, now)

    def interrupted(self, now: float) -> None:
        """After a start: commands under way before it have no end that anybody knows."""
        history.interrupt(self._db, now)

    def history(self) -> Callable[[], list[Entry]]:
        """What was done, oldest first; the answer does the long part, in any thread."""
        kept = history.texts(self._db)
        return lambda: history.decoded(kept)

    def close(self) -> None:
        """Let the file go."""
        self._db.close()


def _crc(table: str, key: str, version: int, body: str) -> int:
    return zlib.crc32(f"{table}\0{key}\0{version}\0{body}".encode())


def _decoded(table: str, key: str, version: int, body: str, crc: int | None) -> Any:
    """The record.

    Raises:
        ValueError: it is not as it was written.
        KeyError: of an unknown table.
        msgspec.MsgspecError: not of that table's form.
    """
    if crc is not None and crc != _crc(table, key, version, body):
        raise ValueError("its checksum is wrong: the file was damaged")
    return msgspec.json.decode(body, type=_TYPES[table])


def _steps() -> list[Any]:
    """Forward steps of the schema, in order."""
    found = files("lodom.store").joinpath("schema").iterdir()
    return sorted((f for f in found if f.name.endswith(".sql")), key=lambda f: f.name)


def _examine(db: sqlite3.Connection, path: Path) -> None:
    """See that this is a journal that this release can use, before anything is written to it.

    Raises:
        JournalUnusable: it is not.
    """
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise JournalUnusable(f"{path} is damaged ({found}); restore it from a backup")
    have = db.execute("PRAGMA user_version").fetchone()[0]
    if have > len(_steps()):
        raise JournalUnusable(
            f"{path} was written by a newer Lodom (schema {have}, this one knows {len(_steps())}); "
            "it was not changed. Install that release again, or restore an older backup"
        )
    if not have and db.execute("SELECT name FROM sqlite_master").fetchone():
        raise JournalUnusable(
            f"{path} is not a journal of Lodom but another program's; it was not changed. Move it "
            "away, or name another state directory"
        )


def _check_columns(db: sqlite3.Connection, path: Path) -> None:
    for table, columns in _COLUMNS.items():
        found = tuple(row[1] for row in db.execute(f"PRAGMA table_info({table})"))
        if found != columns:
            raise JournalUnusable(
                f"{path} is damaged (table {table} has columns {', '.join(found) or 'none'}); it "
                "was not changed. Restore it from a backup"
            )


def _migrate(db: sqlite3.Connection) -> None:
    """Forward steps of the schema, each once; ``user_version`` counts them."""
    have = db.execute("PRAGMA user_version").fetchone()[0]
    for number, step in enumerate(_steps()[have:], have + 1):
        db.execute("BEGIN IMMEDIATE")
        for statement in step.read_text().split(";"):
            if statement.strip():
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {number}")
        db.execute("COMMIT")
