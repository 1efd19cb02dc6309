"""The concentrator: a listener for each port, a line for each domain."""

import asyncio
import errno
import logging
from pathlib import Path

from lodom.console.group import Console, Group, SendBreak
from lodom.console.line import LOG_BYTES, ConsoleLog
from lodom.console.session import Session

log = logging.getLogger(__name__)


class ConsoleServer:
    """Consoles on ports of the address *listen*.

    A domain's console outlives its guest processes: clients stay attached over a restart.
    *send_break* sends a break to the guest of a domain; without it ``~#`` says that it cannot.
    """

    def __init__(
        self, listen: str, send_break: SendBreak | None = None, log_bytes: int = LOG_BYTES
    ) -> None:
        self._listen, self._send_break, self._log_bytes = listen, send_break, log_bytes
        self._groups: dict[int, Group] = {}
        self._listeners: dict[int, asyncio.Server] = {}
        self._consoles: dict[str, Console] = {}
        self._sessions: dict[asyncio.Task[None], Group] = {}

    async def open(
        self, uuid: str, name: str, group: str, port: int, socket_path: str, log_path: str
    ) -> None:
        """Listen for the domain on *port*, and read its guest if there is one.  Repeatable.

        Raises:
            OSError: the port is taken, by another process or another group.
        """
        old = self._consoles.get(uuid)
        if old is not None and (old.group.name, old.group.port) == (group, port):
            old.name, old.line.socket_path = name, socket_path
            return
        await self.close(uuid)
        found = self._groups.get(port)
        if found is None:
            found = Group(name=group, port=port)
            self._listeners[port] = await self._serve(found)
            self._groups[port] = found
        elif found.name != group:
            reason = f"port {port} belongs to console group {found.name}"
            raise OSError(errno.EADDRINUSE, reason)
        keep = ConsoleLog(Path(log_path), self._log_bytes)
        console = Console(uuid, name, found.next_number(), found, socket_path, keep)
        found.consoles.append(console)
        self._consoles[uuid] = console
        await console.line.attach()

    async def attach(self, uuid: str) -> None:
        """The guest process of the domain has started anew: read that one."""
        console = self._consoles.get(uuid)
        if console is not None:
            await console.line.attach()

    async def close(self, uuid: str) -> None:
        """Forget the domain's console; the port closes with the last one of its group."""
        console = self._consoles.pop(uuid, None)
        if console is None:
            return
        group = console.group
        group.consoles.remove(console)
        console.removed.set()
        await console.line.detach()
        if not group.consoles:
            del self._groups[group.port]
            self._listeners.pop(group.port).close()
            sessions = [task for task, of in self._sessions.items() if of is group]
            for session in sessions:
                session.cancel()
            await asyncio.gather(*sessions, return_exceptions=True)

    async def stop(self) -> None:
        """Close every console and send all clients away."""
        for uuid in list(self._consoles):
            await self.close(uuid)

    async def _serve(self, group: Group) -> asyncio.Server:
        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._sessions[task] = group
            try:
                await Session(group, reader, writer, self._send_break).run()
            except asyncio.CancelledError:
                log.debug("client of console group %s sent away", group.name)
            finally:
                del self._sessions[task]

        return await asyncio.start_server(client, self._listen, group.port)
