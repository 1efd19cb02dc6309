"""One telnet client's dialogue: choosing a console, being attached to it, the ``~`` commands.

Texts and order are those of vntsd (ldm-cli digest, 3.7).  The escape holds at the start of a line
only, as vntsd's manual page says (its code took any ``~``, and broke ``ls ~``).
"""

import asyncio
import contextlib
import logging
import socket
from collections import deque

from lodom.console.group import Console, Group, SendBreak
from lodom.console.telnet import BREAK, EOL, GREETING, Telnet, escaped
from lodom.core.errors import LodomError

CR, LF, BS, DEL = 13, 10, 8, 127
PROMPT_LIMIT = 71
_UNREAD = 256 << 10
"""Bytes that may wait for a client; a client that reads slower loses output, not the guest."""

NO_WRITE = "You do not have write access"
HELP = (
    "h -- this help",
    "l -- list of consoles",
    "q -- quit",
    "c{id}, n{name} -- connect to a console of domain {id} or domain {name}",
)
ESCAPES = (
    "VNTSD commands",
    "~# --send break",
    "~. --exit from this console",
    "~w --force write access",
    "~n --console down",
    "~p --console up",
    "~? --this help",
)
WARNING = (
    "Warning: another user currently has write permission",
    "to this console and forcibly removing him/her will terminate",
    "any current write action and all work will be lost.",
)

log = logging.getLogger(__name__)


class _Removed(Exception):
    """The console went away under the client."""


class Session:
    """A connected client; ``run`` until it leaves or nothing is left to show it."""

    def __init__(
        self,
        group: Group,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        send_break: SendBreak | None,
    ) -> None:
        self._group, self._send_break = group, send_break
        self._reader, self._writer = reader, writer
        self._telnet = Telnet()
        self._keys: deque[int] = deque()
        self._reading: asyncio.Task[bytes] | None = None

    async def run(self) -> None:
        """Serve the client."""
        self._writer.write(GREETING)
        try:
            with contextlib.suppress(EOFError, OSError):
                while console := await self._choose():
                    left = await self._attach(console)
                    if self._group.consoles == [left]:
                        break
        finally:
            if self._reading is not None:
                self._reading.cancel()
            self._writer.close()

    # -- the console's view ----------------------------------------------------------------------

    def show(self, output: bytes) -> None:
        """Give the client what the guest wrote."""
        if self._writer.transport.get_write_buffer_size() < _UNREAD:
            self._writer.write(escaped(output))

    def say(self, text: str) -> None:
        """Give the client a line of ours."""
        self._writer.write(text.encode() + EOL)

    # -- choosing --------------------------------------------------------------------------------

    async def _choose(self) -> Console | None:
        """The console the client wants; None to leave."""
        while len(self._group.consoles) > 1:
            self._writer.write(EOL + prompt(self._group.name).encode())
            key = await self._key()
            if key == BREAK:
                continue
            if key != BS:
                self._writer.write(bytes((key,)))
            match chr(key).lower():
                case "q":
                    return None
                case "l":
                    self._list()
                case "c" | "n" as by:
                    if found := self._find(by, await self._line()):
                        return found
                    self._help()
                case _:
                    self._help()
        return next(iter(self._group.consoles), None)

    def _list(self) -> None:
        self.say("")
        self.say(f"{'DOMAIN ID':<20}{'DOMAIN NAME':<30}{'DOMAIN STATE':<25}")
        for console in self._group.consoles:
            self.say(f"{console.number:<20}{console.name:<30}{console.state:<25}")

    def _help(self) -> None:
        self.say("")
        for text in HELP:
            self.say(text)

    def _find(self, by: str, wanted: str) -> Console | None:
        wanted = wanted.strip()
        for console in self._group.consoles:
            if wanted == (str(console.number) if by == "c" else console.name):
                return console
        return None

    async def _line(self) -> str:
        typed: list[str] = []
        while (key := await self._key()) not in (CR, LF):
            if key in (BS, DEL):
                if typed:
                    typed.pop()
                    self._writer.write(b"\b \b")
            elif 32 <= key < 127 and len(typed) < 80:
                typed.append(chr(key))
                self._writer.write(bytes((key,)))
        self._writer.write(EOL)
        return "".join(typed)

    # -- attached --------------------------------------------------------------------------------

    async def _attach(self, console: Console) -> Console | None:
        """Be attached to *console* and then to those beside it; the one that was left, if any."""
        while True:
            console.clients.append(self)
            self.say("")
            self.say(f'Connecting to console "{console.name}" in group "{self._group.name}" ....')
            self.say("Press ~? for control options ..")
            try:
                step = await self._talk(console)
            except _Removed:
                return None
            finally:
                console.clients.remove(self)
            if not step:
                return console
            console = self._group.beside(console, step)

    async def _talk(self, console: Console) -> int:
        """Until the client leaves this console: 0 for good, else how many places further."""
        fresh_line = True
        while True:
            key = await self._key(console)
            if key == ord("~") and fresh_line:
                key = await self._key(console)
                match chr(max(key, 0)):
                    case ".":
                        return 0
                    case "n":
                        return 1
                    case "p":
                        return -1
                    case "~":
                        self._type(console, key)
                        fresh_line = False
                    case command:
                        await self._escape(console, command)
                continue
            if key == BREAK:
                await self._break(console)
                continue
            fresh_line = key in (CR, LF)
            self._type(console, key)

    def _type(self, console: Console, key: int) -> None:
        if console.writes(self):
            console.line.write(bytes((key,)))
        elif key not in (CR, LF):
            self.say(NO_WRITE)

    async def _escape(self, console: Console, command: str) -> None:
        if command == "#":
            await self._break(console)
        elif command == "w":
            await self._force(console)
        else:
            self.say("")
            for text in ESCAPES:
                self.say(text)

    async def _break(self, console: Console) -> None:
        if not console.writes(self):
            self.say(NO_WRITE)
        elif self._send_break is None:
            self.say("A break cannot be sent to this console")
        else:
            try:
                await self._send_break(console.uuid)
            except LodomError as error:
                self.say(str(error))

    async def _force(self, console: Console) -> None:
        if console.writes(self):
            self.say("You have write permission")
            return
        self.say("")
        for text in WARNING:
            self.say(text)
        self._writer.write(EOL + b"Would you like to continue? [y/n] ")
        answer = chr(max(await self._key(console), 0)).lower()
        self.say(answer if answer.isprintable() else "")
        if answer == "y":
            console.force(self)

    # -- keys ------------------------------------------------------------------------------------

    async def _key(self, console: Console | None = None) -> int:
        """The next key.

        Raises:
            EOFError: the client is gone.
            _Removed: *console* is gone.
        """
        while not self._keys:
            received = await self._receive(console)
            if not received:
                raise EOFError
            self._keys.extend(self._telnet.keys(received))
            if self._telnet.replies:
                self._writer.write(bytes(self._telnet.replies))
                self._telnet.replies.clear()
        return self._keys.popleft()

    async def _receive(self, console: Console | None) -> bytes:
        if self._reading is None:
            self._reading = asyncio.create_task(self._reader.read(4096))
        if console is not None:
            removed = asyncio.create_task(console.removed.wait())
            try:
                await asyncio.wait((self._reading, removed), return_when=asyncio.FIRST_COMPLETED)
            finally:
                removed.cancel()
            if console.removed.is_set():
                raise _Removed
        received = await self._reading
        self._reading = None
        return received


def prompt(group: str) -> str:
    """The prompt of a group, shortened where vntsd shortens it."""
    text = f"{socket.gethostname()}-vnts-{group}: h, l, c{{id}}, n{{name}}, q:"
    return text if len(text) <= PROMPT_LIMIT else "vnts: h, l, c{id}, n{name}, q:"
