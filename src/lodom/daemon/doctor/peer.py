"""What takes two machines to find out: one ldmd asks, the other looks back.

The other one connects only to the address that the question came from, and answers only machines
whose certificate was accepted there.  Nothing is changed on either side.
"""

import asyncio
import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from lodom.core.errors import InvalidValue, LodomError, PeerUnreachable
from lodom.core.model.inventory import Inventory
from lodom.core.rules.case import BackendFacts
from lodom.core.rules.storage import compare
from lodom.daemon import facts, ids
from lodom.drivers.qemu.settings import Settings
from lodom.host import locks
from lodom.peer.client import PeerClient
from lodom.peer.identity import fingerprint, public_key_of
from lodom.peer.server import Sender
from lodom.peer.trust import CONNECT_S, connection_error, read_certificate

KIND = "examine"
LISTEN_S = 20.0
"""A port that is opened for the other machine to try is closed after this, tried or not."""
AT_ONCE = 4
"""Ports open for a try at the same time; more close the oldest."""
MOST = 256
"""Volumes that are compared in one examination."""


@dataclass(frozen=True)
class VolumeSeen:
    """A volume of ours: ``same``, ``other``, ``unknown``, or ``missing`` on a machine."""

    name: str
    verdict: str
    why: str


@dataclass(frozen=True)
class PeerFacts:
    """What was found of a peer.  A field that says why not is empty where all is well."""

    host: str
    reach: str = ""
    fingerprint: str = ""
    unasked: str = ""
    """Why nothing but the connection was tried."""
    remedy: str = ""
    trust: str = ""
    """Why it is not believed here."""
    asked: str = ""
    """Why it does not answer us."""
    machine: str = ""
    release: str = ""
    back: str = ""
    """Why it does not reach our ldmd."""
    stream_out: str = ""
    """Why our memory would not reach it."""
    stream_in: str = ""
    """Why its memory would not reach us."""
    clock_s: float = 0.0
    """Its clock minus ours."""
    doubt_s: float = 0.0
    volumes: tuple[VolumeSeen, ...] = ()


class Question(msgspec.Struct):
    """Body of ``examine``; with no field given it asks for the clock."""

    port: int = 0
    """Where the asker's ldmd listens."""
    stream: int = 0
    """Where the asker listens as for memory."""
    id: str = ""
    volumes: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    """Which volumes, and images below, show the lock of *id*?"""


class Answer(msgspec.Struct):
    """What the other machine found."""

    now: float
    machine: str
    back: str = ""
    stream_back: str = ""
    stream: int = 0
    """Where it listens as for memory; 0: nowhere, *closed* says why."""
    closed: str = ""
    volumes: dict[str, BackendFacts] = {}
    seen: tuple[str, ...] = ()


class Examiner:
    """Both sides of an examination."""

    def __init__(
        self, client: PeerClient, inventory: Callable[[], Inventory], own_port: int, on: Settings
    ) -> None:
        self._client, self._inventory = client, inventory
        self._port, self._on = own_port, on
        self._open: deque[asyncio.Server] = deque()

    # -- asking ----------------------------------------------------------------------------------

    async def examine(self, host: str, port: int) -> PeerFacts:
        """All that can be found out about *host*."""
        try:
            found = PeerFacts(host, fingerprint=fingerprint(await read_certificate(host, port)))
        except LodomError as error:
            return PeerFacts(host, reach=str(error))
        try:
            peer = await self._client.hello(host, port)
        except LodomError as error:
            return replace(found, trust=str(error))
        try:
            begun = time.time()
            clock = await self._ask(Question(), host, port)
            half = (time.time() - begun) / 2
            found = replace(
                found,
                machine=peer.name,
                release=peer.release,
                clock_s=clock.now - begun - half,
                doubt_s=half,
            )
            return await self._ways_and_volumes(found, host, port)
        except LodomError as error:
            return replace(found, asked=str(error))

    async def _ask(self, question: Question, host: str, port: int) -> Answer:
        body = msgspec.to_builtins(question)
        answer = await self._client.ask(KIND, body, host, port)
        try:
            return msgspec.convert(answer, Answer)
        except msgspec.ValidationError as error:
            raise PeerUnreachable(host=host, reason=f"it answers in other words: {error}") from None

    async def _ways_and_volumes(self, found: PeerFacts, host: str, port: int) -> PeerFacts:
        id = ids.new_id()
        names = _names(self._inventory())
        mine = await facts.volumes(self._inventory(), names)
        stream, closed = await self._listen()
        with _held(await facts.paths(self._inventory(), names), id) as held:
            asked = Question(self._port, stream, id, names, held)
            answer = await self._ask(asked, host, port)
        still = await self._ask(Question(id=id, locks=answer.seen), host, port)
        same = {*answer.seen} - {*still.seen}
        out = answer.closed or await _connect(host, answer.stream)
        return replace(
            found,
            back=answer.back,
            stream_in=closed or answer.stream_back,
            stream_out=out,
            volumes=tuple(
                _seen(name, mine.get(name), answer.volumes.get(name), same, host) for name in names
            ),
        )

    # -- answering -------------------------------------------------------------------------------

    async def answer(self, sender: Sender, body: dict[str, Any]) -> dict[str, Any]:
        """What another machine wants to know of this one."""
        try:
            asked = msgspec.convert(body, Question)
        except msgspec.ValidationError as error:
            raise InvalidValue(what="request of a peer", value=KIND, why=str(error)) from None
        answer = Answer(time.time(), self._inventory().machine.name)
        if asked.port:
            answer.back = await _look_back(sender, asked.port)
            answer.stream, answer.closed = await self._listen()
        if asked.stream:
            answer.stream_back = await _connect(sender.address, asked.stream)
        answer.volumes = await facts.volumes(self._inventory(), asked.volumes[:MOST])
        for name, path in (await facts.paths(self._inventory(), asked.locks)).items():
            with suppress(OSError):
                if name in asked.locks and await asyncio.to_thread(
                    locks.see_handshake, path, asked.id
                ):
                    answer.seen += (name,)
        built: dict[str, Any] = msgspec.to_builtins(answer)
        return built

    async def _listen(self) -> tuple[int, str]:
        """(port, why none): the first free one where memory would come in, open for a while."""
        while len(self._open) >= AT_ONCE:
            self._open.popleft().close()

        def taken(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        first, last = self._on.ports
        for port in range(first, last + 1):
            try:
                server = await asyncio.start_server(taken, self._on.listen, port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    return 0, f"cannot listen on {self._on.listen}: {os.strerror(error.errno or 0)}"
                continue
            asyncio.get_running_loop().call_later(LISTEN_S, server.close)
            self._open.append(server)
            return port, ""
        return 0, f"no port of {first} to {last} is free"


async def _look_back(sender: Sender, port: int) -> str:
    """Why the ldmd of the machine that asks cannot be reached from here."""
    try:
        shown = await read_certificate(sender.address, port)
    except LodomError as error:
        return str(error)
    if public_key_of(shown) != sender.key:
        return f"another machine answers at {sender.address} port {port}"
    return ""


async def _connect(host: str, port: int) -> str:
    """Why no TCP connection to it can be made."""
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        return f"port {port}: {connection_error(host, error)}"
    writer.close()
    return ""


def _names(inventory: Inventory) -> tuple[str, ...]:
    every = (f"{v.name}@{vds.name}" for vds in inventory.vds.values() for v in vds.volumes)
    return tuple(sorted(every))[:MOST]


@contextmanager
def _held(paths: Mapping[str, str], id: str) -> Iterator[tuple[str, ...]]:
    """The volumes of *paths* that could be locked, locked."""
    held = {}
    try:
        for name, path in paths.items():
            with suppress(OSError):
                held[name] = locks.take_handshake(path, id)
        yield tuple(held)
    finally:
        for fd in held.values():
            os.close(fd)


def _seen(
    name: str, mine: BackendFacts | None, theirs: BackendFacts | None, same: set[str], host: str
) -> VolumeSeen:
    for facts_of, where in ((mine, "here"), (theirs, f"on {host}")):
        if facts_of is None:
            return VolumeSeen(name, "missing", f"it is not exported {where}")
        if facts_of.problem:
            return VolumeSeen(name, "missing", f"it cannot be used {where}: {facts_of.problem}")
    assert mine
    assert theirs
    evidence = compare(mine, facts.shaken(name, theirs, same))
    return VolumeSeen(name, evidence.verdict.value, evidence.why)
