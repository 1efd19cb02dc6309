"""The side of ldmd that talks to other ldmds: one kept connection a peer, each wait with an end.

httpx shows no certificate before it sends a request.  It need not: ``Trust.context`` compares the
certificate inside the TLS handshake, below httpx, and fails the handshake.
"""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import httpx
import msgspec

from lodom.core.errors import (
    LodomError,
    PeerDenied,
    PeerForgot,
    PeerRefused,
    PeerTooOld,
    PeerUnreachable,
)
from lodom.core.messages import Message, Unknown
from lodom.peer import codec, signature
from lodom.peer.identity import Identity
from lodom.peer.server import VERSIONS
from lodom.peer.trust import CONNECT_S, PORT, Trust, connection_error, read_certificate

ANSWER_S = 15.0
LOGIN_S = 90.0
"""The target slows attempts that follow failures."""
SILENCE_S = 8.0
"""A peer may think for long, but its system acknowledges all the while, or it is not there."""
POLL_S = 20.0
PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Between attempts to reach a mailbox; the last one for ever."""

_PROBES: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENCE_S * 1000)),
)
"""Options of a connection by which Linux ends one that nothing comes back on.  Source: tcp(7)."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Peer:
    """What a peer said of itself; ``version`` is the protocol version to speak with it."""

    instance: str
    name: str
    release: str
    version: int


@dataclass(frozen=True)
class _Link:
    """A kept connection, good as long as the certificate is the accepted one."""

    certificate: bytes | None
    http: httpx.AsyncClient


class PeerClient:
    """Requests to peers, named by (host, port) as the administrator names them."""

    def __init__(
        self,
        identity: Identity,
        trust: Trust,
        *,
        release: str = "",
        versions: Sequence[int] = VERSIONS,
        pauses: Sequence[float] = PAUSES_S,
    ) -> None:
        self._identity, self._trust = identity, trust
        self._release, self._versions = release, tuple(versions)
        self._pauses = tuple(pauses)
        self._links: dict[tuple[str, int], _Link] = {}
        self._peers: dict[tuple[str, int], Peer] = {}
        self._taken = asyncio.Event()
        """Set for a moment when a peer has taken a message: readers need not wait longer."""

    async def close(self) -> None:
        """Close all connections."""
        links, self._links = self._links, {}
        for link in links.values():
            await link.http.aclose()

    async def is_itself(self, host: str, port: int = PORT) -> bool:
        """Whether that is this machine: the accepted, else the shown certificate is its own.

        Where nobody listens the address decides: ldmd may listen on another one.

        Raises:
            PeerUnreachable: nobody answers, and it is no address of this machine.
        """
        try:
            shown = self._trust.certificate(host, port) or await read_certificate(host, port)
        except PeerUnreachable:
            if await asyncio.to_thread(_local, host):
                return True
            raise
        return shown == self._identity.certificate

    async def hello(self, host: str, port: int = PORT) -> Peer:
        """Who answers there, and the protocol version to speak.

        Raises:
            PeerUnreachable, PeerUntrusted, PeerTooOld: see ``core.errors``.
        """
        words = {
            "versions": self._versions,
            "instance": self._identity.instance,
            "name": self._identity.name,
            "release": self._release,
        }
        path = "/peer/v1/hello"
        answer = await self._exchange(host, port, "POST", path, msgspec.json.encode(words))
        if answer.status_code not in (200, 409):
            raise PeerUnreachable(host=host, reason="what answers there is no ldmd")
        body = _object(host, answer)
        if answer.status_code == 409 or body.get("version") not in self._versions:
            theirs = ", ".join(str(v) for v in body.get("versions") or ("unknown",))
            ours = ", ".join(str(v) for v in self._versions)
            raise PeerTooOld(host=host, theirs=theirs, ours=ours)
        try:
            peer = msgspec.convert(body, Peer)
        except msgspec.ValidationError as error:
            raise PeerUnreachable(host=host, reason=f"no ldmd answers there: {error}") from error
        self._peers[host, port] = peer
        return peer

    async def login(self, user: str, password: str, host: str, port: int = PORT) -> None:
        """Have this machine's key authorised on the peer for 10 minutes.

        Without user and password: because the peer trusts this machine's certificate.

        Raises:
            PeerDenied: wrong user or password, or the user lacks the write role there.
            PeerRefused: no password was given and the certificate is not trusted there.
            PeerUnreachable, PeerUntrusted, PeerTooOld: see ``core.errors``.
        """
        body = {"user": user, "password": password}
        await self._signed(host, port, "POST", "/peer/v1/login", body, LOGIN_S)

    async def ask(
        self,
        kind: str,
        body: dict[str, Any],
        host: str,
        port: int = PORT,
        *,
        deadline: float = 60.0,
    ) -> dict[str, Any]:
        """The peer's answer to a question; needs a login.  *deadline* in seconds.

        Raises:
            PeerRefused: the peer's own words; that there is no login (any more) among them.
            PeerUnreachable, PeerUntrusted, PeerTooOld: see ``core.errors``.
        """
        words = {"kind": kind, "body": body}
        answer = await self._signed(host, port, "POST", "/peer/v1/ask", words, deadline)
        return _object(host, answer)

    async def send(self, migration: str, message: Message, host: str, port: int = PORT) -> None:
        """Have the peer take the message.  On an error it may still have taken it.

        Raises:
            PeerForgot: the peer has no record of the migration, and this machine no login there.
            PeerRefused: the peer knows the migration as another machine's.
            PeerUnreachable, PeerUntrusted, PeerTooOld: see ``core.errors``.
        """
        path = f"/peer/v1/migrations/{migration}/messages"
        words = {"message": codec.encode(message)}
        try:
            await self._signed(host, port, "POST", path, words, ANSWER_S, migration)
        except PeerUnreachable:
            # A reader may hang on a connection that died as silently, for longer than we did.
            if link := self._links.pop((host, port), None):
                await link.http.aclose()
            raise
        self._taken.set()
        self._taken.clear()

    async def mailbox(self, migration: str, host: str, port: int = PORT) -> AsyncIterator[Message]:
        """What the peer has to say about the migration, for ever; close the iterator to end it.

        A message is taken out of the peer's box when the next one is asked for, so it comes again
        if this machine fails meanwhile.  While the peer cannot be reached, or refuses, attempts go
        on with growing pauses; each new reason is logged.  A peer without a record of the
        migration counts as having said ``Unknown``, once.
        """
        box, after, failures, reason = "", 0, 0, ""
        while True:
            query = f"box={box}&after={after}&wait={POLL_S:g}"
            path = f"/peer/v1/migrations/{migration}/mailbox?{query}"
            try:
                deadline = POLL_S + ANSWER_S
                answer = await self._signed(host, port, "GET", path, None, deadline, migration)
                box, found = _letters(host, answer)
            except LodomError as error:
                if str(error) != reason:
                    reason = str(error)
                    log.warning("mailbox migration=%s: %s", migration, reason)
                    if isinstance(error, PeerForgot):
                        yield Unknown()
                with contextlib.suppress(TimeoutError):
                    pause = self._pauses[min(failures, len(self._pauses) - 1)]
                    await asyncio.wait_for(self._taken.wait(), pause)
                failures += 1
                continue
            failures, reason = 0, ""
            for number, message in found:
                yield message
                after = number

    # -- one request -----------------------------------------------------------------------------

    async def _signed(
        self,
        host: str,
        port: int,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        deadline: float,
        migration: str = "",
    ) -> httpx.Response:
        peer = self._peers.get((host, port)) or await self.hello(host, port)
        raw = b"" if body is None else msgspec.json.encode(body)
        headers = signature.sign(self._identity, peer.instance, method, path, raw)
        answer = await self._exchange(host, port, method, path, raw, headers, deadline)
        if answer.is_success:
            return answer
        # What we believe of the peer may be of another life; ask it anew next time.
        self._peers.pop((host, port), None)
        raise _refusal(host, answer, migration)

    async def _exchange(
        self,
        host: str,
        port: int,
        method: str,
        path: str,
        body: bytes,
        headers: dict[str, str] | None = None,
        deadline: float = ANSWER_S,
    ) -> httpx.Response:
        for last in (False, True):
            link = await self._link(host, port)
            try:
                async with asyncio.timeout(CONNECT_S + deadline):
                    return await link.http.request(
                        method,
                        path,
                        content=body,
                        headers=headers,
                        timeout=httpx.Timeout(deadline, connect=CONNECT_S),
                    )
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                if _silent(error):
                    reason = f"no sign of life for {SILENCE_S:g} s"
                    raise PeerUnreachable(host=host, reason=reason) from error
                # A kept connection that the peer closed meanwhile.  So a request can arrive twice;
                # messages and questions are safe to receive twice.
                if last:
                    raise connection_error(host, error) from error
            except httpx.ConnectError as error:
                raise connection_error(host, error) from error
            except httpx.ConnectTimeout as error:
                reason = f"no connection in {CONNECT_S:g} s"
                raise PeerUnreachable(host=host, reason=reason) from error
            except (httpx.TimeoutException, TimeoutError) as error:
                raise PeerUnreachable(host=host, reason=f"no answer in {deadline:g} s") from error
            except httpx.HTTPError as error:
                raise PeerUnreachable(host=host, reason=str(error)) from error
        raise AssertionError("the second attempt returns or raises")

    async def _link(self, host: str, port: int) -> _Link:
        """The kept connection to the peer, made anew when the accepted certificate is another."""
        certificate = self._trust.certificate(host, port)
        link = self._links.get((host, port))
        if link is not None and link.certificate == certificate:
            return link
        context = self._trust.context(host, port)
        address = f"[{host}]" if ":" in host else host
        fresh = _Link(
            certificate,
            httpx.AsyncClient(
                base_url=f"https://{address}:{port}",
                # No proxy of the environment, no redirect: it is this host or nobody.
                transport=httpx.AsyncHTTPTransport(
                    verify=context,
                    trust_env=False,
                    limits=httpx.Limits(max_connections=None, keepalive_expiry=30),
                    socket_options=_PROBES,
                ),
                trust_env=False,
                follow_redirects=False,
            ),
        )
        self._links[host, port] = fresh
        self._peers.pop((host, port), None)
        if link is not None:
            await link.http.aclose()
        return fresh


def _silent(error: BaseException | None) -> bool:
    """The connection was ended because nothing came back on it; libraries wrap that."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH):
            return True
        error = error.__cause__ or error.__context__
    return False


def _local(host: str) -> bool:
    """Whether the name is of an address of this machine; nothing is sent."""
    with contextlib.suppress(OSError):
        for family, kind, _, _, to in socket.getaddrinfo(host, PORT, type=socket.SOCK_DGRAM):
            with contextlib.suppress(OSError), socket.socket(family, kind) as probe:
                probe.connect(to)
                if ip_address(to[0]).is_loopback or probe.getsockname()[0] == to[0]:
                    return True
    return False


def _letters(host: str, answer: httpx.Response) -> tuple[str, list[tuple[int, Message]]]:
    body = _object(host, answer)
    try:
        found = [(int(x["n"]), codec.decode(x["message"])) for x in body["messages"]]
        return str(body["box"]), found
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PeerRefused(host=host, reason=f"its mailbox cannot be read: {error}") from error


def _refusal(host: str, answer: httpx.Response, migration: str) -> LodomError:
    body: dict[str, Any] = {}
    with contextlib.suppress(PeerRefused):
        body = _object(host, answer)
    kind, text = body.get("kind"), str(body.get("text", f"HTTP {answer.status_code}"))
    if kind == "unknown-migration":
        return PeerForgot(host=host, migration=migration)
    if kind == "password":
        return PeerDenied(host=host)
    return PeerRefused(host=host, reason=text)


def _object(host: str, answer: httpx.Response) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(answer.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise PeerRefused(host=host, reason=f"HTTP {answer.status_code}, and no JSON object")
    return body
