"""uvicorn inside our own event loop on a Unix socket; each request knows its peer's credentials."""

import asyncio
import contextlib
import grp
import logging
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

GROUP = "lodom"
_UCRED = struct.Struct("3i")

log = logging.getLogger(__name__)


class _Protocol(H11Protocol):
    """Puts (pid, uid, gid) of the connected process into ``scope["state"]["credentials"]``."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        peer = transport.get_extra_info("socket")
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        self.app_state = {**self.app_state, "credentials": _UCRED.unpack(raw)}
        super().connection_made(transport)


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
    """An ASGI application on a Unix socket, mode 0660 for group ``lodom``, 0600 without one."""

    def __init__(self, app: Any, path: Path, group: str) -> None:
        self._path, self._group = path, group
        self._server = _server(app, _Protocol)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: another ldmd listens there, or the socket cannot be made.
        """
        listening = _bind(self._path, self._group)
        self._task = asyncio.create_task(self._server.serve([listening]))
        await self._server.up.wait()

    async def stop(self) -> None:
        """Take the socket away; requests under way have 2 s to end."""
        if self._task is not None:
            self._path.unlink(missing_ok=True)
            self._server.should_exit = True
            await self._task
            self._task = None


class TcpListener:
    """An ASGI application on a TCP address, for everybody who reaches it."""

    def __init__(self, app: Any, host: str, port: int) -> None:
        self._address = (host, port)
        self._server = _server(app, H11Protocol)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen; the port.

        Raises:
            OSError: the address cannot be had.
        """
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        listening = socket.create_server(self._address, family=family)
        self._task = asyncio.create_task(self._server.serve([listening]))
        await self._server.up.wait()
        return int(listening.getsockname()[1])

    async def stop(self) -> None:
        """Requests under way have 2 s to end."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task
            self._task = None


def _server(app: Any, protocol: type[H11Protocol]) -> _Server:
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    return _Server(config)


def _bind(path: Path, group: str) -> socket.socket:
    """A listening socket at *path*, never there with a wider mode than it shall have."""
    _refuse_if_served(path)
    making = path.with_name(path.name + ".new")
    making.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Nobody connects before listen(), and nobody knows this name.
        listening.bind(str(making))
        making.chmod(0o600)
        try:
            os.chown(making, -1, grp.getgrnam(group).gr_gid)
            making.chmod(0o660)
        except KeyError:
            log.info("no group %s: the socket %s is for root only", group, path)
        listening.listen(128)
        making.rename(path)
    except OSError:
        listening.close()
        making.unlink(missing_ok=True)
        raise
    return listening


def _refuse_if_served(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return
    raise FileExistsError(17, f"another ldmd listens at {path}")
