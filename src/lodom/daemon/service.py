"""What the local API can ask for: reading from the inventory, orders to the engine, trust."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from lodom import __version__
from lodom.core import events as ev
from lodom.core.commands.lifecycle import each
from lodom.core.errors import InvalidValue, LodomError, PeerUntrusted, catalogue
from lodom.core.history import list_history
from lodom.core.migration import conduct
from lodom.core.migration.orders import RequestLost
from lodom.core.news import moving
from lodom.core.rules.catalogue import PAGES, explain
from lodom.core.views import VIEWS, Live, view
from lodom.daemon import backends, ids
from lodom.daemon.load import Loads
from lodom.daemon.loop import Loop
from lodom.daemon.peers import Peers
from lodom.daemon.recorder import Recorder
from lodom.host.boot import boottime
from lodom.peer.identity import Identity, fingerprint
from lodom.peer.trust import Trust, read_certificate

Document = dict[str, Any]


class Service:
    """One method the API calls: ``submit``."""

    def __init__(
        self,
        loop: Loop,
        peers: Peers,
        identity: Identity,
        trust: Trust,
        loads: Loads,
        recorder: Recorder,
    ) -> None:
        self._recorder = recorder
        self._loop = loop
        self._peers = peers
        self._identity = identity
        self._trust = trust
        self._loads = loads

    async def submit(
        self, user: str, verb: str, arguments: Mapping[str, Any]
    ) -> AsyncIterator[Document]:
        """The documents that answer a command: progress, then one result.

        Raises:
            LodomError: the command ended with it.
        """
        if verb in VIEWS:
            yield {"result": view(verb, arguments, self._loop.engine.inventory, self._live())}
        elif verb == "list-history":
            yield {"result": list_history(arguments, await self._recorder.history())}
        elif verb == "explain":
            yield {"result": {"say": page(str(arguments["id"]))}}
        elif verb == "show-fingerprint":
            yield {"result": {"fingerprint": self._identity.fingerprint}}
        elif verb == "trust-peer":
            yield {"result": await self._trusted(user, arguments)}
        elif verb == "examine-peer":
            found = await self._peers.examiner.examine(*self._peers.address(str(arguments["host"])))
            yield {"result": msgspec.to_builtins(found)}
        else:
            async for answer in self._order(user, verb, dict(arguments)):
                yield answer

    async def _order(self, user: str, verb: str, arguments: Document) -> AsyncIterator[Document]:
        password = arguments.pop("password", "")
        if accepted := arguments.pop("accept", ""):
            await self._trusted(user, {"host": arguments["host"], "fingerprint": accepted})
        if verb == "migrate-domain" and not arguments.get("user"):
            arguments["user"] = user
        count = max(1, len(arguments.get("ldoms") or ()))
        fresh = ids.fresh(count)
        order = ev.CommandGiven("", verb, arguments, fresh, ids.now())
        if verb == "recover-domain":
            heard = await self._peers.heard(str(arguments["ldom"]), self._trust.peers())
            order = replace(order, heard=heard)
        if same := await backends.same(self._loop.engine.inventory, verb, arguments):
            order = replace(order, same=same)
        last: Document = {}
        for one in each(self._loop.engine.inventory, order):
            if "say" in last:  # of the domain before: told even if this one is refused
                yield {"progress": {"say": last.pop("say")}}
            request = ids.new_id()
            if password:
                self._peers.passwords[request] = password
            try:
                with self._recorder.noted(request, user, verb, one.arguments):
                    async for answer in self._followed(request, one):
                        if "result" in answer:
                            last = msgspec.to_builtins(answer["result"])
                        else:
                            yield answer
            finally:
                self._peers.passwords.pop(request, None)
        yield {"result": last}

    async def _followed(self, request: str, order: ev.CommandGiven) -> AsyncIterator[Document]:
        event = replace(order, request=request)
        ended = False
        try:
            async for answer in self._loop.request(request, event):
                ended = "result" in answer
                yield answer
        except LodomError:
            ended = True
            raise
        finally:
            if not ended:
                self._loop.post(RequestLost(request))

    async def _trusted(self, user: str, arguments: Mapping[str, Any]) -> Document:
        """As ``_accept``; over in the history before the answer, which nobody need wait for."""
        with self._recorder.noted(ids.new_id(), user, "trust-peer", arguments):
            return await self._accept(arguments)

    async def _accept(self, arguments: Mapping[str, Any]) -> Document:
        """Accept a peer's certificate: the one with the fingerprint given, or show it."""
        host, port = self._peers.address(str(arguments["host"]))
        certificate = await read_certificate(host, port)
        shown = fingerprint(certificate)
        wanted = arguments.get("fingerprint")
        if not wanted:
            return {"host": host, "fingerprint": shown, "accepted": False}
        if wanted != shown:
            raise PeerUntrusted(host=host, fingerprint=shown, why=f"is not {wanted}")
        self._trust.accept(host, certificate, port)
        return {"host": host, "fingerprint": shown, "accepted": True}

    # -- what only the running daemon knows ------------------------------------------------------

    def _live(self) -> Live:
        engine = self._loop.engine
        inventory = engine.inventory
        load, vcpu_load = self._loads.percent()
        return Live(
            now=ids.now(),
            booted=ids.now() - int(boottime()),
            load=load,
            vcpu_load=vcpu_load,
            moving=moving(inventory, engine.numbers),
            release=__version__,
            protocol=str(max(conduct.PROTOCOLS)),
            schema="1",
        )


def page(id: str) -> str:
    """The manual page of a rule or an error code.

    Raises:
        InvalidValue: there is none.
    """
    wanted = id.upper()
    if wanted in PAGES:
        return explain(wanted)
    for error in catalogue():
        if error.code == wanted:
            text = (error.__doc__ or "").strip()
            return f"{error.code}  {text}\n\n    Text: {error.template}"
    raise InvalidValue(what="rule or error", value=id, why="R01 to R49, L01 on, LDM-001 on")
