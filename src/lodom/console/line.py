"""The wire to one guest's console: always read, logged, and given to whoever is attached."""

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

LOG_BYTES = 1 << 20
"""A log file is put aside as ``.1`` at this size: twice this is the most that is kept."""
CONNECT_S = 5.0
_TYPED_AHEAD = 64 << 10

log = logging.getLogger(__name__)


class ConsoleLog:
    """What a guest wrote, in a file of mode 0600 (people type passwords into consoles)."""

    def __init__(self, path: Path, limit: int = LOG_BYTES) -> None:
        self._path, self._limit = path, limit
        self._broken = False

    def write(self, output: bytes) -> None:
        """Append.  A log that cannot be written does not stop a console; it is told once."""
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(self._path, flags, 0o600)
            try:
                os.write(file, output)
                if os.fstat(file).st_size >= self._limit:
                    self._path.rename(f"{self._path}.1")
            finally:
                os.close(file)
            self._broken = False
        except OSError as error:
            if not self._broken:
                log.warning("console log %s: %s", self._path, error)
            self._broken = True


class Line:
    """The console of one domain, over all its guest processes.

    Reading never waits for a client or the log: a guest's output must not block.
    """

    def __init__(self, socket_path: str, keep: ConsoleLog, show: Callable[[bytes], None]) -> None:
        self.socket_path = socket_path
        self._keep, self._show = keep, show
        self._writer: asyncio.StreamWriter | None = None
        self._pump: asyncio.Task[None] | None = None

    async def attach(self) -> bool:
        """Connect to the guest process that serves the socket now; whether there is one."""
        await self.detach()
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, self._writer = await asyncio.open_unix_connection(self.socket_path)
        except (OSError, TimeoutError) as error:
            # ENOENT and ECONNREFUSED: no guest runs; it is attached when it starts.
            if getattr(error, "errno", 0) not in (errno.ENOENT, errno.ECONNREFUSED):
                log.warning("console %s: %s", self.socket_path, error or "no answer")
            return False
        self._pump = asyncio.create_task(self._read(reader))
        return True

    async def detach(self) -> None:
        """Let go of the guest process."""
        if self._pump is not None:
            self._pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pump
        if self._writer is not None:
            self._writer.close()
        self._pump = self._writer = None

    def write(self, typed: bytes) -> None:
        """Send to the guest.  What a guest does not take in time is lost, as on a serial line."""
        if self._writer is None or self._writer.is_closing():
            return
        if self._writer.transport.get_write_buffer_size() < _TYPED_AHEAD:
            self._writer.write(typed)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while output := await reader.read(1 << 16):
                self._keep.write(output)
                self._show(output)
        if self._writer is not None:
            self._writer.close()
