"""The one thread of thought: event, engine, journal, effects.

What the engine decides is durable before any of its effects is carried out.  Effects on one domain,
and messages of one migration, are carried out in order; different ones do not wait for each other.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import structlog

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.engine import Batch, Engine
from lodom.core.errors import LodomError, StepFailed, Unexpected
from lodom.core.failure import failure
from lodom.core.fsm import Effect, Event, UnexpectedEvent
from lodom.core.migration.orders import CheckTarget, ReserveAsked, TargetChecked
from lodom.core.model.inventory import Inventory, Ownership
from lodom.daemon.log import about
from lodom.daemon.timers import Timers
from lodom.store.sqlite import JournalConflict, Store

_log = structlog.get_logger()
_FULL_S = 1.0
"""Pause before a change that could not be written is written again."""

Perform = Callable[[Effect], Awaitable[None]]
Watch = Callable[[Event | None, Inventory, Inventory], None]
"""Told of each event (None: the start), and of the inventory before and after it."""


class Loop:
    """Owns the engine; everything else posts events to it."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        perform: Perform,
        tidy: Callable[[], Awaitable[None]],
        watch: Watch = lambda *_: None,
    ) -> None:
        self.engine = engine
        self._watch = watch
        self._store = store
        self._perform = perform
        self._tidy = tidy
        self.recovered = asyncio.Event()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._answers: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._waiting: dict[str, deque[Effect]] = {}
        """Effects to be carried out, by key; a key is there while its worker runs."""
        self._tasks: asyncio.TaskGroup | None = None
        self.timers = Timers(lambda name: self.post(ev.TimerFired(name)))

    def post(self, event: Event) -> None:
        """Have *event* handled; at once and in order."""
        self._events.put_nowait(event)

    async def request(self, request: str, event: Event) -> AsyncIterator[dict[str, Any]]:
        """Post *event* and yield the documents of its answer; the last is a result or an error."""
        answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answers[request] = answers
        try:
            self.post(event)
            while True:
                answer = await answers.get()
                if isinstance(answer.get("error"), LodomError):
                    raise answer["error"]
                yield answer
                if "result" in answer:
                    return
        finally:
            del self._answers[request]

    async def run(self, found: dict[str, ev.GuestFound], heard: dict[str, Ownership]) -> None:
        """Recover, then handle events until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self.timers.run())
            before = self.engine.inventory
            await self._enact(self.engine.recover(found, heard))
            self._tell(None, before)
            self.recovered.set()
            while True:
                event = await self._events.get()
                structlog.contextvars.clear_contextvars()
                where = about(event, self.engine.inventory)
                try:
                    with structlog.contextvars.bound_contextvars(**where):
                        await self._handle(event)
                except JournalConflict as conflict:
                    # Somebody else writes this journal: to go on could run a domain twice.
                    _log.critical("journal conflict; ldmd stops", reason=str(conflict))
                    raise

    async def _handle(self, event: Event) -> None:
        _log.debug("event", what=repr(event))
        before = self.engine.inventory
        try:
            batch = self.engine.handle(event)
        except UnexpectedEvent as unexpected:
            _log.error("event refused", reason=str(unexpected))
            self.engine.undo()
            return
        except Exception as bug:
            _log.exception("engine crashed", on=type(event).__name__)
            self.engine.undo()
            if request := getattr(event, "request", None):
                self._answer(request, {"error": Unexpected(detail=f"{type(bug).__name__}: {bug}")})
            return
        try:
            self._store.write(batch.changes)
        except sqlite3.Error as error:
            if isinstance(event, ev.CommandGiven | TargetChecked | ReserveAsked):
                self.engine.undo()
                refusal = StepFailed(what="Writing the journal", reason=str(error))
                self._answer(getattr(event, "request", ""), {"error": refusal})
                _log.error("journal refused an order", reason=str(error))
                return
            await self._write_at_last(batch)
        self._do(batch.effects)
        self._tell(event, before)
        if any(c.table in ("outgoing", "incoming") and c.after is None for c in batch.changes):
            await self._tidy()

    def _tell(self, event: Event | None, before: Inventory) -> None:
        """Who only watches cannot stop what is watched."""
        try:
            self._watch(event, before, self.engine.inventory)
        except Exception:
            _log.exception("a watcher crashed", on=type(event).__name__)

    async def _enact(self, batch: Batch) -> None:
        await self._write_at_last(batch)
        self._do(batch.effects)

    async def _write_at_last(self, batch: Batch) -> None:
        """What has happened cannot be refused: nothing goes on until it is on disk."""
        while True:
            try:
                self._store.write(batch.changes)
                return
            except JournalConflict:
                raise
            except sqlite3.Error as error:
                _log.error("journal cannot be written; waiting", reason=str(error))
                await asyncio.sleep(_FULL_S)

    # -- effects ---------------------------------------------------------------------------------

    def _do(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            _log.debug("effect", what=repr(effect))
            match effect:
                case do.Reply(request, result):
                    self._answer(request, {"result": dict(result)})
                case do.Fail(request, error):
                    self._answer(request, {"error": error})
                case do.Report(request, progress):
                    self._answer(request, {"progress": dict(progress)})
                case do.SetTimer(name, seconds):
                    self.timers.set(name, seconds)
                case do.CancelTimer(name):
                    self.timers.cancel(name)
                case _:
                    self._enqueue(_key(effect), effect)

    def _answer(self, request: str, document: dict[str, Any]) -> None:
        if request in self._answers:
            self._answers[request].put_nowait(document)

    def _enqueue(self, key: str, effect: Effect) -> None:
        """Have *effect* carried out when those before it of the same key are done."""
        if key in self._waiting:
            self._waiting[key].append(effect)
            return
        self._waiting[key] = deque([effect])
        assert self._tasks is not None
        self._tasks.create_task(self._work(key))

    async def _work(self, key: str) -> None:
        queue = self._waiting[key]
        try:
            while queue:
                await self._carry_out(queue.popleft())
        finally:
            del self._waiting[key]

    async def _carry_out(self, effect: Effect) -> None:
        """What an adapter did not foresee is logged, and told to whoever waits for the effect."""
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**about(effect, self.engine.inventory))
        try:
            await self._perform(effect)
            return
        except LodomError as error:
            _log.error("effect failed", effect=type(effect).__name__, reason=str(error))
            reason = str(error)
        except Exception as bug:
            _log.exception("effect crashed", effect=type(effect).__name__)
            reason = f"{type(bug).__name__}: {bug}"
        if (news := failure(effect, reason)) is not None:
            self.post(news)


def _key(effect: Effect) -> str:
    """Effects of the same key keep their order."""
    match effect:
        case CheckTarget(request):
            # Another machine may take minutes to answer, and nothing of the domain is changed.
            return f"check {request}"
        case do.Send(migration):
            return f"migration {migration}"
        case do.Scrub():
            return "pool"
        case do.MakeSwitch() | do.RemoveSwitch():
            return "switches"
        case do.LaunchGuest(spec):
            return f"domain {spec.uuid}"
        case do.OpenConsole(uuid) | do.CloseConsole(uuid):
            return f"console {uuid}"
        case _:
            if uuid := getattr(effect, "uuid", ""):
                return f"domain {uuid}"
            return type(effect).__name__
