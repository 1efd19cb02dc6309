"""The daemon's dealings with other ldmds: checks, reservations, messages, mailboxes."""

import asyncio
import itertools
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from lodom.core import events as ev
from lodom.core import messages as msg
from lodom.core.errors import InvalidValue, LodomError, PeerForgot, PeerRefused
from lodom.core.fsm import Event
from lodom.core.messages import Message
from lodom.core.migration.conduct import drawing, judged, own_facts, streams, to_itself
from lodom.core.migration.orders import CheckFailed, CheckTarget, ReserveAsked, TargetChecked
from lodom.core.migration.source import Phase
from lodom.core.model.inventory import Inventory, Ownership
from lodom.core.rules.case import DomainFacts, SourceFacts, release
from lodom.core.rules.facts import domain_facts, source_facts
from lodom.core.rules.form import Finding
from lodom.daemon import facts, ids
from lodom.daemon.doctor.peer import Examiner
from lodom.drivers.qemu.driver import QemuDriver
from lodom.host import locks
from lodom.peer import codec
from lodom.peer.client import PeerClient
from lodom.peer.server import PeerServer, Sender
from lodom.peer.trust import address, name_of, split_name

_log = structlog.get_logger()
CHECK_S = 60.0
EPOCHS_S = 5.0
"""A boot waits no longer than this for what other machines know of its domains."""


MEMORY_RULES = frozenset({"R12", "R13", "R15", "R16", "R17", "R18"})


class _Locks(msgspec.Struct):
    """Body of ``locks``: which volumes, and images below, show the lock of this migration?"""

    migration: str
    volumes: tuple[str, ...]


class _Question(msgspec.Struct):
    """Body of ``check``: what the source says of itself and the domain."""

    domain: DomainFacts
    source: SourceFacts
    force: bool = False
    same: tuple[str, ...] = ()
    """Volumes whose lock handshake proved the same storage."""


class _Request(msgspec.Struct):
    """Body of ``reserve``: the message, the facts it was checked with, the streams' key."""

    migration: str
    message: dict[str, Any]
    domain: DomainFacts
    source: SourceFacts
    secret: str
    force: bool = False
    same: tuple[str, ...] = ()
    since: int = 0
    variables: bytes = b""
    """Of a domain with UEFI: its variables, compressed."""


class _Verdict(msgspec.Struct):
    """Answer to ``check``."""

    findings: tuple[Finding, ...]
    target: str
    machine: str
    streams: int
    drawing: str = ""
    rules: str = "1.2"


class Peers:
    """Both sides of every migration of this machine, as far as other machines are concerned."""

    def __init__(
        self,
        *,
        client: PeerClient,
        driver: QemuDriver,
        inventory: Callable[[], Inventory],
        post: Callable[[Event], None],
        default_port: int,
        bridges: Mapping[str, str],
    ) -> None:
        self._client = client
        self._driver = driver
        self._inventory = inventory
        self._post = post
        self._port = default_port
        self._bridges = bridges
        """Switch to bridge, as they are at the time."""
        self.examiner = Examiner(client, inventory, default_port, driver.settings)
        self.server: PeerServer | None = None
        self.passwords: dict[str, str] = {}
        """Of requests under way, by request; memory only."""
        self._secrets: dict[str, str] = {}
        self._asked: dict[str, _Question] = {}
        """Of checks whose verdict has not been taken up yet, by the migration that may follow."""
        self._questions: dict[str, _Question] = {}
        """Of migrations that have begun, until the target is asked to reserve."""
        self._readers: dict[str, asyncio.Task[None]] = {}

    def secret(self, migration: str) -> str:
        """The key of the migration's memory streams; memory only."""
        return self._secrets.get(migration, "")

    # -- after a boot ----------------------------------------------------------------------------

    async def epochs(self, uuids: list[str], peers: list[str]) -> dict[str, Ownership]:
        """The highest ownership records that *peers* know of these domains.

        Asked before the first start after a boot; a peer that cannot be reached says nothing (a
        stated limit of the hand-over's argument).
        """
        answers = await asyncio.gather(*(self._epochs_of(uuids, peer) for peer in peers))
        highest: dict[str, Ownership] = {}
        for uuid, epoch, owner in itertools.chain.from_iterable(answers):
            if uuid not in highest or epoch > highest[uuid].epoch:
                highest[uuid] = Ownership(uuid, epoch, owner)
        return highest

    async def heard(self, name: str, peers: Iterable[str]) -> dict[str, tuple[int, str]]:
        """(epoch, owner) of a domain whose hand-over is in doubt, by its target and by *peers*."""
        inventory = self._inventory()
        domain = inventory.find(name)
        row = inventory.outgoing.get(domain.migration) if domain else None
        if row is None or row.phase is not Phase.CEDED:
            return {}
        target = name_of(row.host, row.peer_port)
        asked = {target: row.host, **{peer: peer for peer in peers if peer != target}}
        answers = await asyncio.gather(*(self._epochs_of([row.uuid], peer) for peer in asked))
        return {
            said: (epoch, owner)
            for said, answer in zip(asked.values(), answers, strict=True)
            for _, epoch, owner in answer
        }

    async def _epochs_of(self, uuids: list[str], peer: str) -> list[tuple[str, int, str]]:
        host, port = split_name(peer)
        try:
            async with asyncio.timeout(EPOCHS_S):
                answer = await self._client.ask("epochs", dict.fromkeys(uuids, 0), host, port)
            known = _understood(host, answer, dict[str, tuple[int, str]])
        except (LodomError, TimeoutError) as error:
            _log.warning("a peer says nothing of epochs", peer=peer, reason=str(error))
            return []
        return [(uuid, epoch, owner) for uuid, (epoch, owner) in known.items()]

    # -- as the source ---------------------------------------------------------------------------

    async def check(self, e: CheckTarget) -> None:
        """Log in at the target and have it judge; what it says comes back as an event."""
        migration = ids.new_id()
        try:
            host, port = self.address(e.host)
            if await self._client.is_itself(host, port):
                raise to_itself(self._inventory(), e)
            peer = await self._client.hello(host, port)
            login = self._client.login(e.user, self.passwords.pop(e.request, ""), host, port)
            question, _ = await asyncio.gather(self._question(e), login)
            question.same = await self._handshake(migration, e.uuid, host, port)
            body = msgspec.to_builtins(question)
            answer = await self._client.ask("check", body, host, port, deadline=CHECK_S)
            verdict = _understood(e.host, answer, _Verdict)
        except LodomError as error:
            self._post(CheckFailed(e.request, error))
            return
        self._asked[migration] = question
        self._post(
            TargetChecked(
                request=e.request,
                uuid=e.uuid,
                migration=migration,
                findings=verdict.findings,
                target=peer.instance,
                target_machine=verdict.machine,
                host=host,
                port=port,
                target_name=e.target_name,
                streams=verdict.streams,
                domain="",
                dry_run=e.dry_run,
                drawing=verdict.drawing,
                rules=verdict.rules,
                now=ids.now(),
            )
        )

    def seen(self, event: Event | None, after: Inventory) -> None:
        """What was asked is kept if a migration has come of it: not of a dry run or a refusal."""
        if isinstance(event, TargetChecked):
            question = self._asked.pop(event.migration, None)
            if question and event.migration in after.outgoing:
                self._questions[event.migration] = question

    async def _question(self, e: CheckTarget) -> _Question:
        inventory = self._inventory()
        domain = inventory.domains[e.uuid]
        mine = own_facts(inventory)
        what = domain_facts(
            inventory,
            domain,
            target_name=e.target_name,
            backends=await facts.backends(inventory, domain),
            files=await facts.boot_files(domain),
            agent=await facts.agent(self._driver, domain),
            firmware=domain.constraints.variable("firmware") or "bios",
        )
        networks = await facts.networks(self._bridges, what)
        return _Question(what, source_facts(inventory, domain, mine, networks=networks), e.force)

    async def _handshake(self, migration: str, uuid: str, host: str, port: int) -> tuple[str, ...]:
        """Volumes that both machines see as the same: our lock is seen there, then seen to go."""
        paths = await facts.files(self._inventory(), uuid)
        held = {}
        for volume, path in paths.items():
            with suppress(OSError):
                held[volume] = await asyncio.to_thread(locks.take_handshake, path, migration)
        body = {"migration": migration, "volumes": list(held)}
        try:
            seen = await self._client.ask("locks", body, host, port)
        finally:
            for fd in held.values():
                os.close(fd)
        still = await self._client.ask("locks", body, host, port) if any(seen.values()) else {}
        return tuple(v for v in held if seen.get(v) is True and still.get(v) is False)

    def address(self, host: str) -> tuple[str, int]:
        """Where *host* is, with our own port as the usual one."""
        return address(host, self._port)

    async def send(self, migration: str, message: Message) -> None:
        """One message, to wherever the other side of the migration is."""
        row = self._inventory().outgoing.get(migration)
        if row is None:
            if self.server:
                self.server.post_to_mailbox(migration, codec.encode(message))
            return
        self._read_mailbox(migration, row.host, row.peer_port)
        try:
            if isinstance(message, msg.Reserve):
                await self._reserve(migration, message, row.host, row.peer_port)
            else:
                await self._client.send(migration, message, row.host, row.peer_port)
        except PeerForgot:
            self._post(ev.Received(migration, msg.Unknown()))
        except LodomError as error:
            self._post(ev.Unsent(migration, str(error)))

    async def _reserve(self, migration: str, message: msg.Reserve, host: str, port: int) -> None:
        secret = self._secrets[migration] = ids.new_key()
        question = self._questions.pop(migration)
        request = _Request(
            migration=migration,
            message=codec.encode(message),
            domain=question.domain,
            source=question.source,
            secret=secret,
            force=question.force,
            same=question.same,
            since=self._inventory().domains[message.uuid].running_since,
            variables=self._driver.variables(message.uuid),
        )
        await self._client.ask("reserve", msgspec.to_builtins(request), host, port)

    def _read_mailbox(self, migration: str, host: str, port: int) -> None:
        if migration not in self._readers:
            self._readers[migration] = asyncio.create_task(self._read(migration, host, port))

    async def _read(self, migration: str, host: str, port: int) -> None:
        async for letter in self._client.mailbox(migration, host, port):
            if isinstance(letter, Message):
                self._post(ev.Received(migration, letter))

    async def tidy(self) -> None:
        """Stop reading for migrations that have ended, and forget what was kept for them."""
        inventory = self._inventory()
        live = {*inventory.outgoing, *inventory.incoming}
        for known in (self._secrets, self._questions):
            for migration in [m for m in known if m not in live]:
                del known[migration]
        for migration in [m for m in self._readers if m not in inventory.outgoing]:
            task = self._readers.pop(migration)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    # -- as the target (the server's hooks) ------------------------------------------------------

    def key_of_migration(self, migration: str) -> str | None:
        """The key that the journal knows for the migration's source."""
        row = self._inventory().incoming.get(migration)
        return row.source_key if row else None

    async def ask(self, sender: Sender, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """Judge a case (``check``) or take a reservation (``reserve``)."""
        if kind == "check":
            return await self._judge(_convert(body, _Question))
        if kind == "epochs":
            known = self._inventory().ownership
            return {u: [known[u].epoch, known[u].owner] for u in body if u in known}
        if kind == "examine":
            return await self.examiner.answer(sender, body)
        if kind == "locks":
            return await self._locks(_convert(body, _Locks))
        if kind == "reserve":
            await self._take(sender, _convert(body, _Request))
            return {}
        raise InvalidValue(what="question", value=kind, why="this release does not know it")

    async def _locks(self, asked: "_Locks") -> dict[str, Any]:
        """Which of the volumes show the source's lock here."""
        found: dict[str, bool] = {}
        for volume, path in (await facts.paths(self._inventory(), asked.volumes)).items():
            with suppress(OSError):
                found[volume] = await asyncio.to_thread(locks.see_handshake, path, asked.migration)
        return found

    async def _judge(self, q: _Question) -> dict[str, Any]:
        inventory = self._inventory()
        found = judged(
            inventory,
            q.domain,
            q.source,
            backends=await facts.exported(inventory, q.domain, q.same),
            files=await facts.same_files(q.domain),
            force=q.force,
            networks=await facts.networks(self._bridges, q.domain),
        )
        mine = own_facts(inventory)
        unfit = any(f.rule in MEMORY_RULES for f in found)
        verdict = _Verdict(
            findings=found,
            target=mine.instance,
            machine=mine.name,
            streams=streams(q.source.machine, mine),
            rules=release(q.source.machine, mine),
            drawing=drawing(inventory, q.domain, q.source) if unfit else "",
        )
        built: dict[str, Any] = msgspec.to_builtins(verdict)
        return built

    async def _take(self, sender: Sender, r: _Request) -> None:
        message = codec.decode(r.message)
        if not isinstance(message, msg.Reserve):
            raise InvalidValue(what="message", value=type(message).__name__, why="not a Reserve")
        self._secrets[r.migration] = r.secret
        inventory = self._inventory()
        record = inventory.ownership.get(message.uuid)
        # Nobody writes over the variables of a domain that is ours.
        if r.variables and not (record and record.owner == inventory.machine.instance):
            self._driver.keep_variables(message.uuid, r.variables)
        self._post(
            ReserveAsked(
                migration=r.migration,
                message=message,
                key=sender.key,
                domain=r.domain,
                source=r.source,
                backends=await facts.exported(inventory, r.domain, r.same),
                files=await facts.same_files(r.domain),
                since=r.since,
                force=r.force,
                now=ids.now(),
            )
        )

    async def message(self, sender: Sender, migration: str, message: Message) -> None:
        """A message of the source."""
        self._post(ev.Received(migration, message))


def _convert(body: dict[str, Any], kind: Any) -> Any:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise InvalidValue(what="request of a peer", value=kind.__name__, why=str(error)) from error


def _understood(host: str, answer: dict[str, Any], kind: Any) -> Any:
    """The answer of a peer, which may be of another release.

    Raises:
        PeerRefused: it is none.
    """
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise PeerRefused(host=host, reason=f"its answer cannot be read: {error}") from error
