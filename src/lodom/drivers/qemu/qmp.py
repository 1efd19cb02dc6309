"""One QMP session: commands with deadlines, events, and who is at the other end.

"No answer" is not "gone": a session that fails says nothing about its process (HANDOVER).
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError, Runstate


class Refused(Exception):
    """QEMU carried the command out and reported an error; its own words."""


class NoAnswer(Exception):
    """No answer within the deadline, or the connection was lost: whether it was done is unknown."""


def reach(path: Path) -> tuple[socket.socket, int]:
    """A socket connected to *path*, and the pid of the process that listens there (SO_PEERCRED).

    Raises:
        BlockingIOError: somebody listens who takes no calls; those of before fill the queue.
        OSError: nobody listens.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        # Local: done at once or not at all.  asyncio takes a full queue for a connection.
        sock.connect(str(path))
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    except BaseException:
        sock.close()
        raise
    pid, _uid, _gid = struct.unpack("3i", credentials)
    return sock, pid


class Session:
    """A session with one QEMU."""

    def __init__(self, client: QMPClient, listener: EventListener, answer_s: float) -> None:
        self._client = client
        self._listener = listener
        self._answer_s = answer_s

    @classmethod
    async def open(cls, sock: socket.socket, *, answer_s: float) -> "Session":
        """Negotiate on *sock*, which is closed on failure.

        Raises:
            NoAnswer: no greeting in *answer_s* seconds, or something that is no QMP.
        """
        client = QMPClient("guest")
        listener = EventListener()
        client.register_listener(listener)
        try:
            async with asyncio.timeout(answer_s):
                await client.connect(sock)
        except (QMPError, OSError, TimeoutError) as e:
            sock.close()
            raise NoAnswer(f"no greeting: {e}") from e
        return cls(client, listener, answer_s)

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        deadline: float | None = None,
        oob: bool = False,
    ) -> Any:
        """The value that QEMU returns; *oob* also while its main loop is busy ("exec-oob").

        Raises:
            Refused: QEMU reported an error.
            NoAnswer: the deadline (seconds) passed, or the session ended.
        """
        limit = self._answer_s if deadline is None else deadline
        try:
            # Not wait_for: before Python 3.12 that can lose a cancellation.
            async with asyncio.timeout(limit):
                return await self._client.execute(command, arguments, oob=oob)
        except ExecuteError as e:
            raise Refused(str(e)) from e
        except TimeoutError as e:
            raise NoAnswer(f"{command} was not answered in {limit:.0f} s") from e
        except (QMPError, OSError) as e:
            raise NoAnswer(f"the connection was lost during {command}") from e

    async def hand(self, fd: int, command: str, arguments: Mapping[str, Any]) -> Any:
        """As ``execute``, for a command that takes the descriptor *fd*; it stays the caller's.

        Raises:
            Refused, NoAnswer: as ``execute``.
        """
        try:
            self._client.send_fd_scm(fd)
        except (QMPError, OSError) as e:
            raise NoAnswer(f"the connection was lost before {command}") from e
        return await self.execute(command, arguments)

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """The events as they come, until the session ends."""
        ended = asyncio.ensure_future(self._ended())
        event = asyncio.ensure_future(self._listener.get())
        try:
            while True:
                await asyncio.wait({event, ended}, return_when=asyncio.FIRST_COMPLETED)
                if not event.done():
                    return
                message, event = event.result(), asyncio.ensure_future(self._listener.get())
                yield dict(message)
        finally:
            event.cancel()
            ended.cancel()

    async def _ended(self) -> None:
        while self._client.runstate == Runstate.RUNNING:
            await self._client.runstate_changed()

    async def close(self) -> None:
        """End the session; the process is not touched."""
        if self._client.runstate == Runstate.IDLE:
            return
        # How it broke does not matter any more.
        with suppress(QMPError, OSError, EOFError, TimeoutError):
            async with asyncio.timeout(self._answer_s):
                await self._client.disconnect()
