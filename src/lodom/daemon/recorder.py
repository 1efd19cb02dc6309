"""Watches what the loop does, and tells: the log, the history, the metrics, the stream of events.

It decides nothing and nothing waits for it: history is written behind the answer of a command and
behind the end of a migration, in one write for all that has gathered.
"""

import asyncio
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from lodom.api.events import Events
from lodom.core import events as ev
from lodom.core import messages as msg
from lodom.core.errors import LodomError
from lodom.core.fsm import Event
from lodom.core.history import COMMAND, DONE, FAILED, INTERRUPTED, MIGRATION, Entry
from lodom.core.migration.orders import TargetChecked
from lodom.core.model.inventory import Inventory
from lodom.core.news import MIGRATION as MOVED
from lodom.core.news import PROGRESS, News, news
from lodom.core.rules.form import Severity
from lodom.daemon.metrics import Metrics
from lodom.grammar.words import typed
from lodom.store.sqlite import Store

_log = structlog.get_logger()
BEGUN_S = 1.0
"""A command that takes longer is in the history while it is under way."""

AGAIN_S = 10.0
WAITING_MAX = 1000
"""Entries that wait for a full disk; then the oldest are given up."""


@dataclass
class _Course:
    """One side of a migration on its way."""

    entry: Entry
    since: float
    """Monotonic clock at its begin here, and at that of its phase."""
    entered: float
    phase: str = ""
    phases: list[tuple[str, float]] = field(default_factory=list)

    def at(self, now: float, numbers: Mapping[str, int]) -> Entry:
        """What there is to say of it so far."""
        seconds = round(now - self.since, 6)
        return replace(
            self.entry, seconds=seconds, phases=tuple(self.phases), numbers=dict(numbers)
        )


class Recorder:
    """One for the daemon; all its methods are called in the loop's thread."""

    def __init__(self, store: Store, metrics: Metrics, events: Events) -> None:
        self._store, self._metrics, self._events = store, metrics, events
        self._running: dict[str, tuple[Entry, float]] = {}
        self._courses: dict[tuple[str, str], _Course] = {}
        self._askers: dict[str, str] = {}
        """Migration to the operation that asked for it."""
        self._numbers: dict[str, dict[str, int]] = {}
        self._unwritten: dict[str, Entry] = {}
        self._flushing: asyncio.TimerHandle | None = None

    # -- commands --------------------------------------------------------------------------------

    @contextmanager
    def noted(
        self, request: str, user: str, verb: str, arguments: Mapping[str, Any]
    ) -> Iterator[None]:
        """A command that changes something, from its coming to its end, however it ends."""
        self._begun(request, user, verb, arguments)
        try:
            yield
        except BaseException as error:
            self._ended(request, error)
            raise
        self._ended(request)

    def _begun(self, request: str, user: str, verb: str, arguments: Mapping[str, Any]) -> None:
        named = arguments.get("ldoms") or arguments.get("ldom") or ()
        ldoms = (named,) if isinstance(named, str) else tuple(named)
        peer = str(arguments.get("host") or "")
        entry = Entry(request, COMMAND, time.time(), user, peer, ldoms, typed(verb, arguments))
        self._running[request] = (entry, time.monotonic())
        self._flush_in(BEGUN_S)
        _log.info("command", operation=request, user=user, command=entry.command)

    def _ended(self, request: str, error: BaseException | None = None) -> None:
        """Well, with *error*, or because who asked went away."""
        entry, since = self._running.pop(request)
        entry = replace(entry, ended=DONE, seconds=time.monotonic() - since)
        if isinstance(error, LodomError):
            entry = replace(
                entry, ended=FAILED, exit=error.kind.exit_code, code=error.code, reason=str(error)
            )
        elif error is not None:
            went = isinstance(error, GeneratorExit | asyncio.CancelledError)
            reason = "who asked went away" if went else type(error).__name__
            entry = replace(entry, ended=INTERRUPTED, exit=0 if went else 70, reason=reason)
        for migration in [m for m, asker in self._askers.items() if asker == request]:
            del self._askers[migration]
        self._finish(entry)

    # -- what the loop does ----------------------------------------------------------------------

    def seen(self, event: Event | None, before: Inventory, after: Inventory) -> None:
        """*event* (None: a start) is handled, and what it changed is durable."""
        self._figures(event, after)
        if isinstance(event, TargetChecked):
            self._askers[event.migration] = event.request
            rules = [f.rule for f in event.findings if f.severity is Severity.BLOCKER]
            if rules and not event.dry_run:
                self._metrics.refused(rules)
        for one in news(before, after):
            self._tell(one)

    def start(self, inventory: Inventory) -> None:
        """After a start: commands of before have ended somehow, migrations go on."""
        try:
            self._store.interrupted(time.time())
        except sqlite3.Error as error:
            _log.error("history cannot be written now", reason=str(error))
        for one in news(replace(inventory, outgoing={}, incoming={}), inventory):
            if one.kind == MOVED:
                self._course(one)

    def _figures(self, event: Event | None, after: Inventory) -> None:
        match event:
            case ev.CopyProgressed(_, migration, numbers) | ev.CopyCompleted(_, migration, numbers):
                told = dict(numbers)
            case ev.Received(migration, msg.Renew(total, remaining)) if total:
                told = {"total": total, "remaining": remaining}
            case _:
                return
        row = after.outgoing.get(migration) or after.incoming.get(migration)
        if row is None:
            return
        self._numbers.setdefault(migration, {}).update(told)
        role = "source" if migration in after.outgoing else "target"
        data = {"migration": migration, "role": role, "phase": row.phase.value, "numbers": told}
        self._events.publish(self._store.sequence, PROGRESS, row.name, data)

    def _tell(self, one: News) -> None:
        self._events.publish(self._store.sequence, one.kind, one.ldom, one.data)
        if one.kind == MOVED:
            said = {k: v for k, v in one.data.items() if k != "began"}
            _log.info("migration", domain=one.ldom, **said)
            self._course(one)
        else:
            _log.info("domain", domain=one.ldom, **one.data)

    def _course(self, one: News) -> None:
        data, now = one.data, time.monotonic()
        migration, role = str(data["migration"]), str(data["role"])
        course = self._courses.get((migration, role))
        if course is None:
            asker = self._askers.get(migration, "") if role == "source" else ""
            user = self._running[asker][0].user if asker in self._running else ""
            entry = Entry(
                migration, MIGRATION, data["began"] or time.time(), user, str(data["peer"]),
                (one.ldom,), role=role, operation=asker,
            )  # fmt: skip
            course = self._courses[migration, role] = _Course(entry, now, now)
        if data["phase"] != course.phase:
            if course.phase:
                course.phases.append((course.phase, round(now - course.entered, 6)))
            course.phase, course.entered = str(data["phase"]), now
        if "result" in data:
            del self._courses[migration, role]
            whole = course.at(now, self._numbers.pop(migration, {}))
            self._finish(replace(whole, ended=str(data["result"]), reason=str(data["reason"])))

    # -- keeping ---------------------------------------------------------------------------------

    def _finish(self, entry: Entry) -> None:
        entry = replace(entry, seconds=round(entry.seconds, 6))
        self._unwritten[entry.id + entry.role] = entry
        self._metrics.ended(entry)
        if entry.kind == COMMAND:
            _log.info(
                "command ended", operation=entry.id, ended=entry.ended, exit=entry.exit,
                seconds=round(entry.seconds, 3), reason=entry.reason,
            )  # fmt: skip
        self._flush_in(0.0)

    def _flush_in(self, seconds: float) -> None:
        """Write soon; what is asked for sooner comes first."""
        loop = asyncio.get_running_loop()
        if self._flushing is not None:
            if self._flushing.when() <= loop.time() + seconds:
                return
            self._flushing.cancel()
        self._flushing = loop.call_later(seconds, self.flush)

    def flush(self) -> None:
        """Write what has gathered; if it cannot be written now, it is tried with the next."""
        self._flushing = None
        old = time.monotonic() - BEGUN_S
        begun = [e for e, since in self._running.values() if since <= old]
        entries = [*begun, *self._unwritten.values()]
        try:
            if entries:
                self._store.note(entries, time.time())
            self._unwritten.clear()
        except sqlite3.Error as error:
            _log.error("history cannot be written now", reason=str(error), waiting=len(entries))
            while len(self._unwritten) > WAITING_MAX:
                del self._unwritten[next(iter(self._unwritten))]
            self._flush_in(AGAIN_S)
            return
        if len(begun) < len(self._running):
            self._flush_in(BEGUN_S)

    async def history(self) -> list[Entry]:
        """All that was done, with what is not written yet; ten thousand hold up nobody."""
        self.flush()
        now, numbers = time.monotonic(), self._numbers
        moving = {m + role: c.at(now, numbers.get(m, {})) for (m, role), c in self._courses.items()}
        fresh = {e.id: e for e, _ in self._running.values()} | moving | self._unwritten
        kept = await asyncio.to_thread(self._store.history())
        found = {e.id + e.role: e for e in kept} | fresh
        return sorted(found.values(), key=lambda e: e.began)
