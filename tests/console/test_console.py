"""Consoles as telnet clients and guests meet them: real sockets on both sides."""

import asyncio
import contextlib
import errno
import os
import socket
import stat
from contextlib import asynccontextmanager

import pytest

from lodom.console.server import ConsoleServer
from lodom.console.session import prompt
from lodom.console.telnet import GREETING
from lodom.core.errors import StepFailed

HOST = "127.0.0.1"


def free_port():
    with socket.create_server((HOST, 0)) as found:
        return found.getsockname()[1]


class Guest:
    """A guest process's end of a console: what QEMU's socket is."""

    def __init__(self, path):
        self.path = str(path)
        self.connected = asyncio.Event()

    async def start(self):
        self.server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def _serve(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.connected.set()

    async def says(self, output):
        await self.connected.wait()
        self.writer.write(output)
        await self.writer.drain()

    async def hears(self, expected):
        await self.connected.wait()
        assert await self.reader.readexactly(len(expected)) == expected

    async def stop(self):
        self.server.close()
        if self.connected.is_set():
            self.writer.close()
        os.unlink(self.path)


class Client:
    """A telnet client that has sent nothing yet."""

    async def connect(self, port):
        self.reader, self.writer = await asyncio.open_connection(HOST, port)
        assert await self.reader.readexactly(30) == GREETING
        return self

    def type(self, keys):
        self.writer.write(keys)

    async def sees(self, expected):
        expected = expected.encode() if isinstance(expected, str) else expected
        assert await self.reader.readexactly(len(expected)) == expected

    async def sees_the_end(self):
        assert await self.reader.read() == b""

    async def attached(self, name, group=None):
        await self.sees(
            f'\r\nConnecting to console "{name}" in group "{group or name}" ....\r\n'
            "Press ~? for control options ..\r\n"
        )
        return self


class World:
    def __init__(self, tmp_path, **options):
        self.tmp = tmp_path
        self.port = free_port()
        self.broken = []
        self.consoles = ConsoleServer(HOST, self.send_break, **options)
        self.guests = []

    async def send_break(self, uuid):
        if uuid == "u-deaf":
            raise StepFailed(what="Break", reason="no guest")
        self.broken.append(uuid)

    async def guest(self, name):
        guest = await Guest(self.tmp / name).start()
        self.guests.append(guest)
        return guest

    async def open(self, name, group=None, port=None):
        await self.consoles.open(
            f"u-{name}",
            name,
            group or name,
            port or self.port,
            str(self.tmp / name),
            str(self.tmp / f"{name}.log"),
        )

    async def client(self):
        return await Client().connect(self.port)


@asynccontextmanager
async def world(tmp_path, **options):
    made = World(tmp_path, **options)
    try:
        async with asyncio.timeout(20):
            yield made
    finally:
        await made.consoles.stop()
        for guest in made.guests:
            with contextlib.suppress(FileNotFoundError):
                await guest.stop()


def scenario(story):
    """Runs an async test."""

    def test(tmp_path):
        async def run():
            async with world(tmp_path) as w:
                await story(w)

        asyncio.run(run())

    test.__doc__ = story.__doc__
    return test


@scenario
async def test_one_console_is_attached_at_once(w):
    """Greeting, the two lines of vntsd, then both ways."""
    guest = await w.guest("ldg1")
    await w.open("ldg1")
    client = await (await w.client()).attached("ldg1")
    await guest.says(b"login: \xff")
    await client.sees(b"login: \xff\xff")
    client.type(b"root\r\n")
    await guest.hears(b"root\r")


@scenario
async def test_the_second_client_only_reads_and_inherits(w):
    """Typing is refused in vntsd's words; when the writer leaves the next may type."""
    guest = await w.guest("ldg1")
    await w.open("ldg1")
    first = await (await w.client()).attached("ldg1")
    second = await (await w.client()).attached("ldg1")
    await guest.says(b"both")
    await first.sees("both")
    await second.sees("both")
    second.type(b"\r\nx")
    await second.sees("You do not have write access\r\n")
    first.type(b"\r\n~.")
    await first.sees_the_end()
    await guest.hears(b"\r")
    second.type(b"y")
    await guest.hears(b"y")


@scenario
async def test_write_access_can_be_forced(w):
    """After the warning and a yes; the other is told, and is next in the queue."""
    guest = await w.guest("ldg1")
    await w.open("ldg1")
    first = await (await w.client()).attached("ldg1")
    second = await (await w.client()).attached("ldg1")
    first.type(b"~w")
    await first.sees("You have write permission\r\n")
    for answer in ("n", "y"):
        second.type(b"~w")
        await second.sees(
            "\r\nWarning: another user currently has write permission\r\n"
            "to this console and forcibly removing him/her will terminate\r\n"
            "any current write action and all work will be lost.\r\n"
            "\r\nWould you like to continue? [y/n] "
        )
        second.type(answer.encode())
        await second.sees(f"{answer}\r\n")
    await first.sees("Warning: Console connection forced into read-only mode\r\n")
    second.type(b"2")
    await guest.hears(b"2")
    first.type(b"1")
    await first.sees("You do not have write access\r\n")


@scenario
async def test_escapes_hold_at_the_start_of_a_line(w):
    """``~~`` is a tilde, a tilde within a line too; anything unknown shows the help."""
    guest = await w.guest("ldg1")
    await w.open("ldg1")
    client = await (await w.client()).attached("ldg1")
    client.type(b"~~ls ~.\r\n~?~x")
    await guest.hears(b"~ls ~.\r")
    text = (
        "\r\nVNTSD commands\r\n~# --send break\r\n~. --exit from this console\r\n"
        "~w --force write access\r\n~n --console down\r\n~p --console up\r\n~? --this help\r\n"
    )
    await client.sees(text * 2)


@scenario
async def test_a_break_reaches_the_guests_machine(w):
    """By ``~#`` and by telnet's BRK; not from a reader; a failure is told."""
    await w.open("ldg1")
    client = await (await w.client()).attached("ldg1")
    reader = await (await w.client()).attached("ldg1")
    reader.type(b"~#")
    await reader.sees("You do not have write access\r\n")
    client.type(b"~#\xff\xf3~w")
    await client.sees("You have write permission\r\n")
    assert w.broken == ["u-ldg1", "u-ldg1"]
    await w.consoles.close("u-ldg1")
    await w.open("deaf")
    client = await (await w.client()).attached("deaf")
    client.type(b"~#")
    await client.sees("Break failed: no guest\r\n")


@scenario
async def test_a_group_asks_which_console(w):
    """The prompt, help, list and choice of vntsd."""
    await w.guest("ldg2")
    for name in ("ldg1", "ldg2"):
        await w.open(name, "g")
    asked = f"\r\n{socket.gethostname()}-vnts-g: h, l, c{{id}}, n{{name}}, q:"
    helped = (
        "\r\nh -- this help\r\nl -- list of consoles\r\nq -- quit\r\n"
        "c{id}, n{name} -- connect to a console of domain {id} or domain {name}\r\n"
    )
    client = await w.client()
    await client.sees(asked)
    for key in "hHx":
        client.type(key.encode())
        await client.sees(f"{key}{helped}{asked}")
    client.type(b"c7\r\n")
    await client.sees(f"c7\r\n{helped}{asked}")
    client.type(b"n ldg9\x7f2\r\0")
    await client.sees("n ldg9\b \b2\r\n")
    await client.attached("ldg2", "g")
    other = await w.client()
    await other.sees(asked)
    other.type(b"L")
    head = "DOMAIN ID           DOMAIN NAME                   DOMAIN STATE             \r\n"
    rows = (
        "0                   ldg1                          online                   \r\n"
        "1                   ldg2                          connected                \r\n"
    )
    await other.sees(f"L\r\n{head}{rows}{asked}")
    client.type(b"~.")
    await client.sees(asked)
    client.type(b"C0\r\n")
    await client.sees("C0\r\n")
    await client.attached("ldg1", "g")
    other.type(b"q")
    await other.sees("q")
    await other.sees_the_end()


@scenario
async def test_the_neighbours_are_a_key_away(w):
    """``~n`` and ``~p`` go round the group; alone it is the same console again."""
    await w.open("a", "g")
    client = await (await w.client()).attached("a", "g")
    client.type(b"~n")
    await client.attached("a", "g")
    for name in ("b", "c"):
        await w.open(name, "g")
    for key, name in ((b"~n", "b"), (b"~p", "a"), (b"~p", "c"), (b"~n", "a")):
        client.type(key)
        await client.attached(name, "g")


@scenario
async def test_a_guest_that_restarts_keeps_its_clients(w):
    """No client notices more than silence; what is typed meanwhile is lost, not refused."""
    guest = await w.guest("ldg1")
    await w.open("ldg1")
    client = await (await w.client()).attached("ldg1")
    await guest.says(b"one")
    await client.sees("one")
    await guest.stop()
    client.type(b"lost")
    again = await w.guest("ldg1")
    await w.consoles.attach("u-ldg1")
    await again.says(b"two")
    await client.sees("two")
    client.type(b"here")
    await again.hears(b"here")


@scenario
async def test_a_guest_is_read_when_nobody_looks(w):
    """4 MB of output with no client: the guest is never held up, and the log is bounded."""
    guest = await w.guest("ldg1")
    await w.open("ldg1")
    line = b"x" * 1023 + b"\n"
    for _ in range(4096):
        await guest.says(line)
    client = await (await w.client()).attached("ldg1")
    await guest.says(b"end")
    await client.reader.readuntil(b"end")
    kept = [w.tmp / "ldg1.log", w.tmp / "ldg1.log.1"]
    assert sum(path.stat().st_size for path in kept) < 2 * (1 << 20) + 2 * (1 << 16)
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}


@scenario
async def test_a_client_that_does_not_read_holds_up_nobody(w):
    """The other client and the guest go on; the lazy one loses output."""
    guest = await w.guest("ldg1")
    await w.open("ldg1")
    lazy = await (await w.client()).attached("ldg1")
    lazy.writer.transport.pause_reading()
    keen = await (await w.client()).attached("ldg1")
    got = 0
    chunk = b"y" * 65536
    for _ in range(256):
        await guest.says(chunk)
        got += len(await keen.reader.readexactly(len(chunk)))
    assert got == 256 * 65536


@scenario
async def test_a_removed_console_sends_its_clients_on(w):
    """To the group's prompt or its last console; with the last one the port closes."""
    for name in ("a", "b", "c"):
        await w.open(name, "g")
    client = await w.client()
    asked = "\r\n" + prompt("g")
    await client.sees(asked)
    client.type(b"na\r\n")
    await client.sees("na\r\n")
    await client.attached("a", "g")
    await w.consoles.close("u-a")
    await client.sees(asked)
    waiting = await w.client()
    await waiting.sees(asked)
    client.type(b"nb\r\n")
    await client.sees("nb\r\n")
    await client.attached("b", "g")
    await w.consoles.close("u-b")
    await client.attached("c", "g")
    await w.consoles.close("u-c")
    await client.sees_the_end()
    await waiting.sees_the_end()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, w.port)


@scenario
async def test_numbers_are_reused_smallest_first(w):
    """As long as a console lives its number stays."""
    for name in ("a", "b", "c"):
        await w.open(name, "g")
    await w.consoles.close("u-a")
    await w.open("d", "g")
    client = await w.client()
    await client.sees("\r\n" + prompt("g"))
    client.type(b"l")
    seen = await client.reader.readuntil(b"d   ")
    assert [row.split()[:2] for row in seen.split(b"\r\n")[2:]] == [
        [b"1", b"b"],
        [b"2", b"c"],
        [b"0", b"d"],
    ]


@scenario
async def test_a_port_that_is_taken_is_told(w):
    """By another process, or by another group of ours; and then nothing is open."""
    with socket.create_server((HOST, 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(OSError) as caught:
            await w.open("x", port=taken)
        assert caught.value.errno == errno.EADDRINUSE
    await w.open("a", "g")
    with pytest.raises(OSError, match="belongs to console group g") as caught:
        await w.open("b", "other")
    assert caught.value.strerror == f"port {w.port} belongs to console group g"
    await w.open("b", "g")


@scenario
async def test_open_is_repeatable_and_follows_a_rename(w):
    """The same port: clients stay, the new name shows; another port: the old one closes."""
    guest = await w.guest("ldg1")
    await w.open("ldg1")
    client = await (await w.client()).attached("ldg1")
    await w.open("ldg1")
    await guest.says(b"still")
    await client.sees("still")
    other = free_port()
    await w.open("ldg1", port=other)
    await client.sees_the_end()
    await (await Client().connect(other)).attached("ldg1")


@scenario
async def test_attach_and_close_of_the_unknown_do_nothing(w):
    """Effects may come twice, or early."""
    await w.consoles.attach("nobody")
    await w.consoles.close("nobody")
    await w.open("a")
    await w.consoles.close("u-a")
    await w.consoles.close("u-a")


@scenario
async def test_a_log_that_cannot_be_written_stops_nothing(w):
    """The console is worth more than its log."""
    guest = await w.guest("ldg1")
    (w.tmp / "ldg1.log").mkdir()
    await w.open("ldg1")
    client = await (await w.client()).attached("ldg1")
    await guest.says(b"on")
    await client.sees("on")


@pytest.mark.parametrize(("group", "short"), [("g" * 10, False), ("g" * 100, True)])
def test_a_long_prompt_is_shortened(group, short):
    """Past 71 characters, as vntsd does."""
    assert (prompt(group) == "vnts: h, l, c{id}, n{name}, q:") is short
