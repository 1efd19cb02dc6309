"""Connections outlive who took them, and are read to their end."""

import asyncio
import os
import socket
import threading

from lodom.drivers.qemu.held import Held
from lodom.drivers.qemu.process import Process


def test_a_connection_outlives_its_owner() -> None:
    """The other side sees no break, whatever it sends; its own end ends it.  Others have turns."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            other = socket.create_connection(server.getsockname())
            taken, _ = server.accept()
            other.sendall(b"12345")
            while taken.recv(5, socket.MSG_PEEK) != b"12345":
                pass
            held, owner, port = Held(), Process(os.getpid()), server.getsockname()[1]
            assert held.take(owner, port) == 5
            assert held.take(owner, port) == 5, "each is held once"
            assert taken.getblocking(), "as its owner has it"
            assert Held().take(owner, other.getsockname()[1]) == 0, "who calls is another's"
            owner.release()
            taken.close()

        flood = threading.Event()
        sender = threading.Thread(target=_send, args=(other, flood))
        sender.start()
        outlasting = asyncio.create_task(held.outlast(30))
        turns = 0
        async with asyncio.timeout(20):
            while turns < 100:
                await asyncio.sleep(0)
                turns += 1
        assert not outlasting.done()
        flood.set()
        await loop.run_in_executor(None, sender.join)
        await asyncio.wait_for(outlasting, 20)
        held.release()

    asyncio.run(story())


def _send(other: socket.socket, enough: threading.Event) -> None:
    with other:
        while not enough.is_set():
            other.sendall(bytes(1 << 20))


def test_who_never_closes_is_not_waited_for() -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            other = socket.create_connection(server.getsockname())
            taken, _ = server.accept()
            held, owner = Held(), Process(os.getpid())
            held.take(owner, server.getsockname()[1])
            owner.release()
            taken.close()
        await held.outlast(0.05)
        other.setblocking(False)
        held.release()
        async with asyncio.timeout(10):
            assert await asyncio.get_running_loop().sock_recv(other, 1) == b""
        other.close()

    asyncio.run(story())
