"""The far ends of a copy, held open when the process that takes it ends.

QEMU 10.0 sends on several streams and makes them meet after each round, the last one with its
guest stopped and its main loop shut out.  A sender that ends there because another one has found
its far end broken does not say so, and is waited for, for ever: one target process in forty that
was killed at switch-over took the source's guest with it (seen; nothing but SIGKILL helps then).
So the ends do not break: ldmd has them too, and reads on for the dead until the source, which
hears of the death by message, has closed its own.
"""

import asyncio
import os
import socket
import struct
from contextlib import suppress
from typing import Any

from lodom.drivers.qemu.process import Process

_CHUNK = 1 << 20
_TCP_INFO_RECEIVED = 128
"""Offset of ``tcpi_bytes_received`` in ``struct tcp_info`` (linux/tcp.h)."""


class Held:
    """Descriptors of our own for the connections that a process has taken on one port."""

    def __init__(self) -> None:
        self._ends: dict[Any, socket.socket] = {}

    def take(self, process: Process, port: int) -> int:
        """Hold those that are there now.

        Returns:
            the bytes that came in on them all: the only sign of life of an incoming copy.
        """
        for sock in process.connections():
            with suppress(OSError):  # it listens, or was closed by the other side
                if sock.getsockname()[1] == port and sock.getpeername() not in self._ends:
                    # Not sock.dup(), which makes the connection block, the process's end too.
                    self._ends[sock.getpeername()] = socket.socket(fileno=os.dup(sock.fileno()))
        return sum(map(_received, self._ends.values()))

    def release(self) -> None:
        """Let go."""
        while self._ends:
            self._ends.popitem()[1].close()

    async def outlast(self, limit: float) -> None:
        """Read on for a process that is gone until the other side closes, *limit* seconds at most.

        They are the caller's to release.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await asyncio.gather(*map(_drain, self._ends.values()))


def _received(sock: socket.socket) -> int:
    known = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int(struct.unpack_from("=Q", known, _TCP_INFO_RECEIVED)[0])


async def _drain(sock: socket.socket) -> None:
    sock.setblocking(False)  # of all descriptors of the connection: the others are gone
    buffer, loop = bytearray(_CHUNK), asyncio.get_running_loop()
    with suppress(OSError):
        while await loop.sock_recv_into(sock, buffer):  # noqa: ASYNC110 - no wait, a turn
            await asyncio.sleep(0)  # while there are bytes it returns at once: others have a turn
