"""``POST /v1/commands`` {verb, arguments} on the local socket; beside it ``GET /metrics`` and
``GET /events`` (``api.events``), for whoever may read.

The answer is lines of JSON: any number of ``{"progress": …}``, then one ``{"result": …}`` or
``{"error": {code, kind, exit, text, remedy}}`` (and ``findings`` of a refused migration).  The HTTP
status is that of an error which comes first, else 200.
"""

import asyncio
import contextlib
import grp
import logging
import os
import pwd
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from lodom.api.events import Events
from lodom.api.listener import GROUP, Listener
from lodom.core.errors import Busy, InvalidValue, LodomError, NotAuthorised, Unexpected
from lodom.grammar.judge import judge

Document = dict[str, Any]
Submit = Callable[[str, str, Document], AsyncIterator[Document]]
"""(user, verb, arguments) -> documents; an async generator.  It is cancelled or closed when the
client goes away before the end, and left alone when ldmd stops."""

BODY_LIMIT = 4 << 20
BODY_S = 30.0
JSON = [(b"content-type", b"application/x-ndjson")]
METRICS = "text/plain; version=1.0.0; charset=utf-8"
STOPPING = "ldmd is stopping; what was begun is taken up again when it is back"

log = logging.getLogger(__name__)


class Roles(Protocol):
    """Who has which role."""

    def of(self, user: str, groups: frozenset[str]) -> frozenset[str]:
        """Any of ``read`` and ``write``."""
        ...


class ApiServer:
    """The local API at *path*, open to *group*.  *role_of* says which role a verb needs."""

    def __init__(
        self,
        path: Path,
        roles: Roles,
        role_of: Callable[[str], str],
        submit: Submit,
        group: str = GROUP,
        *,
        metrics: Callable[[], bytes] = bytes,
        events: Events | None = None,
    ) -> None:
        self._roles, self._role_of, self._submit = roles, role_of, submit
        self._metrics, self._events = metrics, events or Events(0, 0)
        self._stopping = asyncio.Event()
        self._left: set[asyncio.Future[Any]] = set()
        routes = [
            Route("/v1/commands", self._command, methods=["POST"]),
            Route("/metrics", self._read_metrics, methods=["GET"]),
            Route("/events", self._listen, methods=["GET"]),
        ]
        self._listener = Listener(Starlette(routes=routes), path, group)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: another ldmd listens there, or the socket cannot be made.
        """
        await self._listener.start()

    async def stop(self) -> None:
        """End all answers, without a word to those who work on them: a migration goes on."""
        self._stopping.set()
        await self._listener.stop()

    async def _command(self, request: Request) -> Response:
        try:
            verb, arguments = _parse(await _read(request))
            user = await self._admit(request, verb, self._role_of(verb))
            judge(verb, arguments)
        except LodomError as error:
            return _refusal(error)
        except ClientDisconnect:
            return Response(status_code=400)
        log.info("command user=%s verb=%s", user, verb)
        return _Answer(self._submit(user, verb, arguments), self._stopping, self._left)

    async def _admit(self, request: Request, what: str, role: str) -> str:
        """The user at the other end.

        Raises:
            NotAuthorised: he has not the role.
        """
        user, groups = await asyncio.to_thread(_who, request.state.credentials)
        if role not in self._roles.of(user, groups):
            log.warning("denied user=%s verb=%s role=%s", user, what, role)
            raise NotAuthorised(user=user, role=role)
        return user

    async def _read_metrics(self, request: Request) -> Response:
        try:
            await self._admit(request, "metrics", "read")
        except LodomError as error:
            return _refusal(error)
        return Response(self._metrics(), media_type=METRICS)

    async def _listen(self, request: Request) -> Response:
        try:
            await self._admit(request, "events", "read")
            at = self._events.since(request.headers.get("last-event-id", ""))
        except LodomError as error:
            return _refusal(error)
        ldom = request.query_params.get("domain", "")
        told = self._events.follow(at, ldom, self._stopping)
        headers = {"cache-control": "no-cache"}
        return StreamingResponse(told, headers=headers, media_type="text/event-stream")


def metrics_app(metrics: Callable[[], bytes]) -> Starlette:
    """``GET /metrics`` alone, for whoever reaches it."""

    async def scraped(request: Request) -> Response:
        return Response(metrics(), media_type=METRICS)

    return Starlette(routes=[Route("/metrics", scraped, methods=["GET"])])


class _Answer(Response):
    """Sends the documents as they come, and watches the client meanwhile."""

    def __init__(
        self,
        documents: AsyncIterator[Document],
        stopping: asyncio.Event,
        left: set[asyncio.Future[Any]],
    ) -> None:
        super().__init__()
        self._documents, self._stopping, self._left = documents, stopping, left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_disconnect(receive))
        stopping = asyncio.ensure_future(self._stopping.wait())
        begun = last = False
        try:
            while not last:
                coming = asyncio.ensure_future(_next(self._documents))
                await asyncio.wait((coming, gone, stopping), return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    status, line, last = coming.result()
                elif gone.done():
                    await _give_up(coming, self._documents)
                    return
                else:
                    # Neither cancelled nor closed, or the command would take its client for gone.
                    self._left.add(coming)
                    status, line, last = _error(Busy(what="The command", why=STOPPING))
                if not begun:
                    begun = True
                    await send({"type": "http.response.start", "status": status, "headers": JSON})
                await send({"type": "http.response.body", "body": line, "more_body": not last})
        finally:
            gone.cancel()
            stopping.cancel()


def document(error: LodomError) -> Document:
    """An error as the API tells it."""
    context = error.context()
    more = {name: context[name] for name in ("findings", "drawing", "rules") if context.get(name)}
    return {
        "code": error.code,
        "kind": error.kind.slug,
        "exit": error.kind.exit_code,
        "text": str(error),
        "remedy": error.remedy(),
        **more,
    }


def _refusal(error: LodomError) -> Response:
    return Response(_line({"error": document(error)}), error.kind.http_status)


Part = tuple[int, bytes, bool]
"""HTTP status if it is the first, the line, whether it is the last."""


async def _next(documents: AsyncIterator[Document]) -> Part:
    try:
        found = await anext(documents)
        return 200, _line(found), "progress" not in found
    except StopAsyncIteration:
        return _error(Unexpected(detail="the command ended without an answer"))
    except LodomError as error:
        return _error(error)
    except Exception as bug:
        # The boundary: users see its name, the log has the traceback.
        log.exception("a command crashed")
        return _error(Unexpected(detail=f"{type(bug).__name__}; the log of ldmd has more"))


def _error(error: LodomError) -> Part:
    return error.kind.http_status, _line({"error": document(error)}), True


async def _give_up(coming: asyncio.Future[Part], documents: AsyncIterator[Document]) -> None:
    coming.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await coming
    if isinstance(documents, AsyncGenerator):
        await documents.aclose()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read(request: Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_LIMIT:
                    why = f"more than {BODY_LIMIT} bytes"
                    raise InvalidValue(what="request", value="body", why=why)
    except TimeoutError as error:
        why = f"not whole in {BODY_S:g} s"
        raise InvalidValue(what="request", value="body", why=why) from error
    return body


def _parse(body: bytes) -> tuple[str, Document]:
    try:
        command = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = f"not JSON: {error}"
        raise InvalidValue(what="request", value="body", why=why) from error
    if isinstance(command, dict):
        verb, arguments = command.get("verb"), command.get("arguments", {})
        if isinstance(verb, str) and isinstance(arguments, dict):
            return verb, arguments
    why = "an object with verb (text) and arguments (object) is wanted"
    raise InvalidValue(what="request", value="body", why=why)


def _who(credentials: tuple[int, int, int]) -> tuple[str, frozenset[str]]:
    """Name and groups of the process at the other end; blocks on the name service."""
    _, uid, gid = credentials
    try:
        user = pwd.getpwuid(uid).pw_name
        gids = os.getgrouplist(user, gid)
    except KeyError:
        user, gids = f"uid {uid}", [gid]
    names = set()
    for number in gids:
        with contextlib.suppress(KeyError):
            names.add(grp.getgrgid(number).gr_name)
    return user, frozenset(names)


def _line(line: Document) -> bytes:
    return msgspec.json.encode(line) + b"\n"
