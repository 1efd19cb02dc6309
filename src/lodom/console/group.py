"""Consoles that share a TCP port, and who is attached to them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from lodom.console.line import ConsoleLog, Line


class Attached(Protocol):
    """A client as its console sees it."""

    def show(self, output: bytes) -> None:
        """Give the client what the guest wrote."""
        ...

    def say(self, text: str) -> None:
        """Give the client a line of ours."""
        ...


SendBreak = Callable[[str], Awaitable[None]]
"""Sends a break to the guest of a domain (its UUID)."""


class Console:
    """One domain's console.  The first client in the queue writes, the others only read."""

    def __init__(
        self, uuid: str, name: str, number: int, group: "Group", socket_path: str, keep: ConsoleLog
    ) -> None:
        self.uuid, self.name, self.number, self.group = uuid, name, number, group
        self.line = Line(socket_path, keep, self._show)
        self.clients: list[Attached] = []
        self.removed = asyncio.Event()

    @property
    def state(self) -> str:
        """In the words of vntsd."""
        return "connected" if self.clients else "online"

    def writes(self, client: Attached) -> bool:
        """Whether the client may type."""
        return bool(self.clients) and self.clients[0] is client

    def force(self, client: Attached) -> None:
        """Make the client the writer; the writer of before is next."""
        if not self.writes(client):
            self.clients[0].say("Warning: Console connection forced into read-only mode")
            self.clients.remove(client)
            self.clients.insert(0, client)

    def _show(self, output: bytes) -> None:
        for client in self.clients:
            client.show(output)


@dataclass
class Group:
    """The consoles behind one port, in the order that they were opened."""

    name: str
    port: int
    consoles: list[Console] = field(default_factory=list)

    def next_number(self) -> int:
        """The smallest console number that is free."""
        taken = {console.number for console in self.consoles}
        return next(n for n in range(len(taken) + 1) if n not in taken)

    def beside(self, console: Console, step: int) -> Console:
        """The console *step* places further round."""
        return self.consoles[(self.consoles.index(console) + step) % len(self.consoles)]
