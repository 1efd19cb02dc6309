"""The side of ldmd that other ldmds talk to.  The requests:

========================================================= =======================================
``POST /peer/v1/hello`` {versions, instance, name, release} no signature; answers the same words
                                                          and the ``version`` to speak
``POST /peer/v1/login`` {user, password}                  the key that signed it is good for
                                                          10 minutes; without user: the key of an
                                                          accepted certificate
``POST /peer/v1/ask`` {kind, body}                        the daemon's answer
``POST /peer/v1/migrations/ID/messages`` {message}        204
``GET /peer/v1/migrations/ID/mailbox?box=B&after=N&wait=S`` {box, messages: [{n, message}]}
========================================================= =======================================

All but hello are signed (``peer.signature``).  A migration's messages are taken from the key that
the journal knows for it, so a restart of either ldmd needs no new password.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lodom.core.errors import LodomError, Unexpected
from lodom.core.messages import Message
from lodom.peer import codec, signature
from lodom.peer.auth import WRITE, Authenticator
from lodom.peer.identity import Identity
from lodom.peer.listener import Listener
from lodom.peer.mailbox import Mailboxes

VERSIONS = (1,)
"""Protocol versions of this release; with the next one, its own and this."""

OPEN_KINDS = frozenset({"epochs"})
"""Questions that any machine may ask: a source that was restored need not have been accepted here,
and what it is told of domains that it can name keeps it from starting what has moved away."""
FREE_KINDS = OPEN_KINDS | {"examine"}
"""Questions that a machine of a known key may ask without a login."""

LOGIN_S = 600.0
SMALL, LARGE = 16 << 10, 4 << 20
"""Bytes of a body: from anybody, and from a known key."""
BODY_S = 30.0
MAX_WAIT_S = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sender:
    """Who signed a request.  ``user`` is empty when only the journal vouches for the key."""

    instance: str
    key: str
    user: str = ""
    address: str = ""
    """Where a question came from."""


class Hooks(Protocol):
    """What the daemon answers.  ``LodomError`` raised in a hook goes to the peer as it is."""

    def key_of_migration(self, migration: str) -> str | None:
        """The public key of the source of this migration, from the journal."""
        ...

    async def ask(self, sender: Sender, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a question, for instance ``check``."""
        ...

    async def message(self, sender: Sender, migration: str, message: Message) -> None:
        """Take a message.  The key of the first one is to be kept for ``key_of_migration``."""
        ...


class _Rejected(Exception):
    """A request that is answered with an HTTP error and a reason."""

    def __init__(self, status: int, kind: str, text: str) -> None:
        super().__init__(text)
        self.status, self.kind = status, kind


@dataclass(frozen=True)
class _Session:
    sender: Sender
    until: float


class PeerServer:
    """HTTPS on (*host*, *port*); port 0 takes any, ``port`` says which after ``start``."""

    def __init__(
        self,
        identity: Identity,
        listen: tuple[str, int],
        auth: Authenticator,
        hooks: Hooks,
        *,
        release: str = "",
        versions: Sequence[int] = VERSIONS,
        trusts_key: Callable[[str], bool] = lambda _: False,
        knows_key: Callable[[str], bool] = lambda _: False,
        login_s: float = LOGIN_S,
    ) -> None:
        self._identity, self._auth, self._hooks = identity, auth, hooks
        self._release, self._versions = release, sorted(versions)
        self._trusts_key, self._knows_key, self._login_s = trusts_key, knows_key, login_s
        self._sessions: dict[str, _Session] = {}
        self._mail = Mailboxes()
        app = Starlette(
            routes=[
                Route("/peer/v1/hello", self._answering(self._hello), methods=["POST"]),
                Route("/peer/v1/login", self._answering(self._login), methods=["POST"]),
                Route("/peer/v1/ask", self._answering(self._ask), methods=["POST"]),
                Route(
                    "/peer/v1/migrations/{migration}/messages",
                    self._answering(self._message),
                    methods=["POST"],
                ),
                Route(
                    "/peer/v1/migrations/{migration}/mailbox",
                    self._answering(self._mailbox),
                    methods=["GET"],
                ),
            ]
        )
        self._listener = Listener(app, listen, identity.server_context())

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be had.
        """
        await self._listener.start()

    async def stop(self) -> None:
        """Answer who waits, and stop listening."""
        self._mail.close()
        await self._listener.stop()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._listener.port

    def post_to_mailbox(self, migration: str, message: dict[str, Any]) -> None:
        """Leave an encoded message for the source of the migration."""
        self._mail.post(migration, message)

    def forget_mailbox(self, migration: str) -> None:
        """The migration is over."""
        self._mail.forget(migration)

    # -- requests --------------------------------------------------------------------------------

    async def _hello(self, request: Request) -> Response:
        body = await _json(request, SMALL)
        theirs = body.get("versions")
        if not isinstance(theirs, list) or not all(isinstance(v, int) for v in theirs):
            raise _Rejected(400, "malformed", "versions: a list of numbers is wanted")
        common = [version for version in self._versions if version in theirs]
        words = {
            "versions": self._versions,
            "instance": self._identity.instance,
            "name": self._identity.name,
            "release": self._release,
        }
        if not common:
            return JSONResponse({"kind": "version", **words}, 409)
        return JSONResponse({"version": common[-1], **words})

    async def _login(self, request: Request) -> Response:
        raw = await _read(request, SMALL)
        self._check_signature(request, raw)
        body = _object(raw)
        key = request.headers[signature.KEY]
        user, password = body.get("user", ""), body.get("password", "")
        if not isinstance(user, str) or not isinstance(password, str):
            raise _Rejected(400, "malformed", "user, password: text is wanted")
        if not user and not password:
            if not self._trusts_key(key):
                why = (
                    "it takes no certificate of this machine for a password: that needs, there, "
                    "certificates = true under [auth] of machine.toml, and ldm-setup trust"
                )
                raise _Rejected(403, "denied", why)
        else:
            address = request.client.host if request.client else ""
            if WRITE not in (await self._auth.login(user, password, address) or ()):
                raise _Rejected(403, "password", "wrong user or password, or no write role")
        sender = Sender(request.headers[signature.INSTANCE], key, user)
        now = time.monotonic()
        live = {k: s for k, s in self._sessions.items() if s.until > now}
        self._sessions = {**live, key: _Session(sender, now + self._login_s)}
        log.info("login user=%r from instance=%s", user, sender.instance)
        return Response(status_code=204)

    async def _ask(self, request: Request) -> Response:
        sender = self._logged_in(request)
        key = request.headers.get(signature.KEY, "")
        known = sender is not None or self._knows_key(key)
        body = await self._signed(request, LARGE if known else SMALL)
        kind, inner = body.get("kind"), body.get("body", {})
        if not isinstance(kind, str) or not isinstance(inner, dict):
            raise _Rejected(400, "malformed", "kind: text, body: an object is wanted")
        if sender is None:
            if kind not in (FREE_KINDS if known else OPEN_KINDS):
                raise _Rejected(401, "login", "the login is over, or there was none")
            sender = Sender(request.headers.get(signature.INSTANCE, ""), key)
        address = request.client.host if request.client else ""
        sender = replace(sender, address=address.removeprefix("::ffff:"))
        return _ok(await self._hooks.ask(sender, kind, inner))

    async def _message(self, request: Request) -> Response:
        migration = request.path_params["migration"]
        sender = self._sender(request, migration)
        body = await self._signed(request)
        try:
            message = codec.decode(body.get("message") or {})
        except (codec.Malformed, AttributeError) as error:
            raise _Rejected(400, "malformed", str(error)) from error
        await self._hooks.message(sender, migration, message)
        return Response(status_code=204)

    async def _mailbox(self, request: Request) -> Response:
        migration = request.path_params["migration"]
        self._sender(request, migration)
        self._check_signature(request, b"")
        query = request.query_params
        try:
            after, wait = int(query.get("after", "0")), float(query.get("wait", "0"))
        except ValueError as error:
            raise _Rejected(400, "malformed", "after, wait: numbers are wanted") from error
        if query.get("box") != self._mail.id:
            after = 0
        wait = min(wait, MAX_WAIT_S) if wait > 0 else 0.0  # "nan" is a number to float
        letters = await self._mail.fetch(migration, after, wait)
        found = [{"n": number, "message": letter} for number, letter in letters]
        return _ok({"box": self._mail.id, "messages": found})

    # -- who asks --------------------------------------------------------------------------------

    def _logged_in(self, request: Request) -> Sender | None:
        session = self._sessions.get(request.headers.get(signature.KEY, ""))
        if session is None or session.until <= time.monotonic():
            return None
        if session.sender.instance != request.headers.get(signature.INSTANCE):
            return None
        return session.sender

    def _sender(self, request: Request, migration: str) -> Sender:
        """Who may speak of this migration: its journalled key, else a key that is logged in."""
        key = request.headers.get(signature.KEY, "")
        wanted = self._hooks.key_of_migration(migration)
        sender = self._logged_in(request)
        if wanted is None:
            if sender is None:
                raise _Rejected(404, "unknown-migration", "the migration is not known here")
            return sender
        if key != wanted:
            raise _Rejected(403, "denied", "the migration belongs to another machine")
        return sender or Sender(request.headers.get(signature.INSTANCE, ""), key)

    async def _signed(self, request: Request, limit: int = LARGE) -> dict[str, Any]:
        """The body of a request of a known key, its signature verified."""
        raw = await _read(request, limit)
        self._check_signature(request, raw)
        return _object(raw)

    def _check_signature(self, request: Request, body: bytes) -> None:
        path, query = request.scope["raw_path"].decode(), request.scope["query_string"].decode()
        path += f"?{query}" if query else ""
        to = self._identity.instance
        if not signature.verify(request.headers, to, request.method, path, body):
            raise _Rejected(401, "signature", "the signature does not fit the request")

    def _answering(
        self, handler: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except _Rejected as error:
                log.info("rejected %s %s: %s", request.method, request.url.path, error)
                return JSONResponse({"kind": error.kind, "text": str(error)}, error.status)
            except LodomError as error:
                return _failure(error)
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception as error:
                # The boundary: a bug must not show a peer more than its name.
                log.exception("request of a peer failed: %s", request.url.path)
                return _failure(Unexpected(detail=type(error).__name__))

        return answer


def _failure(error: LodomError) -> Response:
    body = {"kind": error.kind.slug, "code": error.code, "text": str(error)}
    return JSONResponse(body, error.kind.http_status)


def _ok(body: object) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")


async def _read(request: Request, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise _Rejected(413, "too-large", f"more than {limit} bytes")
                chunks.append(chunk)
    except TimeoutError as error:
        raise _Rejected(408, "too-slow", f"no whole request in {BODY_S:g} s") from error
    return b"".join(chunks)


async def _json(request: Request, limit: int) -> dict[str, Any]:
    return _object(await _read(request, limit))


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Rejected(400, "malformed", f"not JSON: {error}") from error
    if not isinstance(body, dict):
        raise _Rejected(400, "malformed", "a JSON object is wanted")
    return body
