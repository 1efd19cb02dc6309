"""``GET /events`` and ``GET /metrics`` over a real socket."""

import asyncio
import urllib.request

import pytest
from test_api import Commands, Everybody, role_of

from lodom.api import events as stream
from lodom.api.events import Events
from lodom.api.listener import TcpListener
from lodom.api.server import ApiServer, metrics_app


class Listening:
    """A connection that asked for *path*."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def until(self, *words):
        """What comes until the last of *words* has come."""
        heard = b""
        while not all(w.encode() in heard for w in words):
            heard += await self.reader.readuntil(b"\n")
        return heard.decode()


async def ask(socket, path, **headers):
    reader, writer = await asyncio.open_unix_connection(str(socket))
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: x",
        *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
    ]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    return Listening(reader, writer)


def serve(tmp_path, main, roles=None):
    async def run():
        events = Events(5, 0)
        socket = tmp_path / "ldmd.sock"
        api = ApiServer(
            socket, roles or Everybody(), role_of, Commands().submit,
            metrics=lambda: b"lodom_up 1.0\n", events=events,
        )  # fmt: skip
        await api.start()
        try:
            async with asyncio.timeout(20):
                await main(socket, events)
                begin = asyncio.get_running_loop().time()
                await api.stop()
                assert asyncio.get_running_loop().time() - begin < 1.5
        finally:
            await api.stop()

    asyncio.run(run())


def test_what_happens_is_heard_and_of_one_domain_only_its_own(tmp_path):
    async def main(socket, events):
        everything, one = await ask(socket, "/events"), await ask(socket, "/events?domain=ldg1")
        for heard in (everything, one):
            assert "text/event-stream" in await heard.until(": lodom")
        events.publish(6, "domain", "ldg2", {"state": "active"})
        events.publish(7, "domain", "ldg1", {"state": "bound"})
        assert "ldg2" in await everything.until('"ldg1"')
        said = await one.until('"state":"bound"')
        assert "ldg2" not in said
        assert "id: 7-2\nevent: domain\ndata: {" in said.replace("\r\n", "\n")

    serve(tmp_path, main)


def test_who_comes_back_hears_what_he_missed(tmp_path):
    async def main(socket, events):
        for number in range(1, 5):
            events.publish(6, "domain", "ldg1", {"number": number})
        heard = await ask(socket, "/events", Last_Event_ID="6-2")
        said = await heard.until('"number":4')
        assert '"number":3' in said
        assert '"number":2' not in said
        assert "lost" not in said

    serve(tmp_path, main)


@pytest.mark.parametrize("last", ["5-1", "99-1", "1-1"])
def test_who_missed_more_than_is_kept_is_told_so(tmp_path, monkeypatch, last):
    """Too old, of a time before this start, or of a journal that a back-up has replaced."""
    monkeypatch.setattr(stream, "KEPT", 2)

    async def main(socket, events):
        for number in range(1, 5):
            events.publish(6, "domain", "ldg1", {"number": number})
        heard = await ask(socket, "/events", Last_Event_ID=last)
        said = await heard.until('"number":4')
        assert said.index("event: lost") < said.index('"number":3')
        assert '"number":2' not in said

    serve(tmp_path, main)


def test_an_id_that_is_none_is_named(tmp_path):
    async def main(socket, events):
        heard = await ask(socket, "/events", Last_Event_ID="x")
        assert "400" in await heard.until("Last-Event-ID", "LDM-001")

    serve(tmp_path, main)


def test_a_quiet_stream_shows_that_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "BEAT_S", 0.05)

    async def main(socket, events):
        await (await ask(socket, "/events")).until(": still here")

    serve(tmp_path, main)


def test_metrics_are_read_on_the_socket(tmp_path):
    async def main(socket, events):
        assert "text/plain" in await (await ask(socket, "/metrics")).until("lodom_up 1.0")

    serve(tmp_path, main)


class Nobody(Everybody):
    """Nobody has a role."""

    def of(self, user, groups):
        return frozenset()


@pytest.mark.parametrize("path", ["/events", "/metrics"])
def test_both_need_the_role_read(tmp_path, path):
    async def main(socket, events):
        assert "403" in await (await ask(socket, path)).until("LDM-050")

    serve(tmp_path, main, Nobody())


def test_by_tcp_there_are_metrics_and_nothing_else():
    async def run():
        listener = TcpListener(metrics_app(lambda: b"lodom_up 1.0\n"), "127.0.0.1", 0)
        port = await listener.start()
        try:
            read = lambda path: urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").read()  # noqa: E731
            assert await asyncio.to_thread(read, "/metrics") == b"lodom_up 1.0\n"
            with pytest.raises(urllib.error.HTTPError, match="404"):
                await asyncio.to_thread(read, "/events")
        finally:
            await listener.stop()

    asyncio.run(run())
