"""``GET /events``: server-sent events out of a bounded buffer, resumed by ``Last-Event-ID``.

An id is ``SEQUENCE-COUNT``: the journal's sequence when it happened, and a count that only grows.
Who asks for what the buffer has not any more is told so by an event ``lost``, and goes on from the
oldest that is there: read the state anew with a command.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import msgspec

from lodom.core.errors import InvalidValue

KEPT = 2000
"""Events kept for those who come back."""
BEAT_S = 15.0
"""A comment is sent after this long without an event: proxies and clients see that it lives."""

_ID = re.compile(r"(\d{1,18})-(\d{1,18})\Z")
Id = tuple[int, int]


class _Event(NamedTuple):
    id: Id
    ldom: str
    text: bytes


class Events:
    """What happens, for any number of listeners; a slow one holds up nobody."""

    def __init__(self, sequence: int, count: int) -> None:
        """*count*: more than any before it; the wall clock in milliseconds at the start is."""
        self._latest: Id = (sequence, count)
        self._gone: Id = self._latest
        """The newest that is not there any more."""
        self._kept: deque[_Event] = deque()
        self._more = asyncio.Event()

    def publish(self, sequence: int, kind: str, ldom: str, data: Mapping[str, Any]) -> None:
        """Tell everybody who listens."""
        self._latest = (sequence, self._latest[1] + 1)
        body = msgspec.json.encode({"domain": ldom, **data})
        self._kept.append(_Event(self._latest, ldom, _text(self._latest, kind, body)))
        if len(self._kept) > KEPT:
            self._gone = self._kept.popleft().id
        self._more.set()
        self._more = asyncio.Event()

    def since(self, last: str) -> Id:
        """Where a listener goes on: behind *last*, or, when empty, behind what has been so far.

        Raises:
            InvalidValue: *last* is no id of ours.
        """
        if not last:
            return self._latest
        match = _ID.match(last)
        if match is None:
            why = "not of the form SEQUENCE-COUNT; leave it out to hear what is new"
            raise InvalidValue(what="Last-Event-ID", value=last, why=why)
        return int(match[1]), int(match[2])

    async def follow(self, at: Id, ldom: str, stopping: asyncio.Event) -> AsyncIterator[bytes]:
        """The events behind *at*, of one domain or (empty) of all, until *stopping*."""
        yield b": lodom\n\n"
        if at > self._latest:  # of a journal that a back-up has replaced
            at = (0, 0)
        while not stopping.is_set():
            more = self._more
            if at < self._gone:
                at = self._gone
                yield _text(at, "lost", b"{}")
            fresh = [e for e in self._kept if e.id > at]
            for event in fresh:
                at = event.id
                if not ldom or event.ldom == ldom:
                    yield event.text
            if not fresh and not await _either(more, stopping):
                yield b": still here\n\n"


def _text(id: Id, kind: str, body: bytes) -> bytes:
    return b"id: %d-%d\nevent: %s\ndata: %s\n\n" % (*id, kind.encode(), body)


async def _either(more: asyncio.Event, stopping: asyncio.Event) -> bool:
    """Whether one of the two came within ``BEAT_S``."""
    tasks = [asyncio.ensure_future(e.wait()) for e in (more, stopping)]
    try:
        done, _ = await asyncio.wait(tasks, timeout=BEAT_S, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for task in tasks:
            task.cancel()
