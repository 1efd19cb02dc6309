"""uvicorn inside our own event loop: no signal handlers, our own TLS, sockets bound by us."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

FIRST_REQUEST_S = 10


class _Protocol(H11Protocol):
    """Drops a connection that does not bring its first request in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(FIRST_REQUEST_S, self._drop_if_silent)

    def shutdown(self) -> None:
        """Ends an idle connection at once; a polite end of TLS would wait for the peer's."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
        else:
            super().shutdown()

    def _drop_if_silent(self) -> None:
        if getattr(self, "scope", None) is None:  # set by the first whole request head
            self.transport.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the daemon's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


class Listener:
    """An ASGI application served over TLS at (host, port); port 0 takes any."""

    def __init__(self, app: Any, listen: tuple[str, int], tls: ssl.SSLContext) -> None:
        self._listen = listen
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # Else X-Forwarded-For from the loopback would be believed.
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
        )
        config.load()
        config.ssl = tls
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None
        self.port = listen[1]

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be had.
        """
        host, port = self._listen
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server(
            (host, port), family=family, dualstack_ipv6=host == "::", backlog=128
        )
        # asyncio sets this only on sockets that name their protocol, which those accepted here do
        # not: each answer waited 40 ms for a delayed acknowledgement, in the hand-over too.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = listening.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve([listening]))
        await self._server.up.wait()

    async def stop(self) -> None:
        """Stop listening; requests under way have 2 s to end."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task
            self._task = None
