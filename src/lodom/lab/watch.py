"""Witnesses: what a host on the guests' network sees and hears of a guest of the lab.

Nothing here asks an ``ldmd``.  Each witness opens its socket in a network namespace (the lab's
client, unless another is named) and listens in a thread of its own until closed; a socket stays in
the namespace in which it was opened.  What the guest says is described in guest/README.md.

    with Heartbeats() as beats, Counter("10.97.1.11") as counter, Probe("10.97.1.11") as probe:
        beats.first("ldg1", within=20)
        begin = monotonic()
        ...
        counter.gap(begin), probe.gap(begin), counter.backwards, beats.repeated("ldg1")
"""

import ctypes
import json
import os
import socket
import struct
import threading
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from select import select
from time import monotonic
from typing import Any, Self, TypeVar

CLIENT = "lodom-client"
"""The namespace of the lab's host that guests are watched from."""
HEARTBEAT_PORT, COUNTER_PORT, CONTROL_PORT = 7999, 7000, 7001
TICK_S = 0.005
"""Pace of the guest's counter and of the probe."""
_POLL_S = 0.2
"""How soon a thread sees that it is to end."""

T = TypeVar("T")


def inside(namespace: str, make: Callable[[], T]) -> T:
    """What *make* returns when called in the network namespace; the caller stays where it is.

    Raises:
        OSError: there is no such namespace, or *make* raised it.
    """
    made: list[T] = []
    failed: list[OSError] = []

    def enter() -> None:
        try:
            fd = os.open(Path("/run/netns", namespace), os.O_RDONLY)
            try:
                # os.setns came with Python 3.12; 0x40000000 is CLONE_NEWNET.
                if ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000):
                    raise OSError(ctypes.get_errno(), f"namespace {namespace}")
            finally:
                os.close(fd)
            made.append(make())
        except OSError as error:
            failed.append(error)

    # A thread that has changed its namespace must not be used for anything else.
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


class Arrivals:
    """When something came, and the number that it carried; safe between threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._times: list[float] = []
        self._numbers: list[int] = []

    def add(self, number: int) -> None:
        """Note an arrival, now."""
        with self._changed:
            self._times.append(monotonic())
            self._numbers.append(number)
            self._changed.notify_all()

    @property
    def last(self) -> int:
        """The number that came last; -1 before the first."""
        with self._changed:
            return self._numbers[-1] if self._numbers else -1

    @property
    def backwards(self) -> int:
        """How often a number was not greater than the one before it."""
        with self._changed:
            return sum(b <= a for a, b in pairwise(self._numbers))

    @property
    def repeated(self) -> int:
        """How many came with a number that had come before."""
        with self._changed:
            return len(self._numbers) - len(set(self._numbers))

    @property
    def missing(self) -> int:
        """How many numbers were left out between one and the next."""
        with self._changed:
            return sum(max(b - a - 1, 0) for a, b in pairwise(self._numbers))

    def came(self, since: float = 0.0) -> int:
        """How many came at *since* (of ``monotonic()``) or later."""
        with self._changed:
            return len(self._times) - bisect_left(self._times, since)

    def gap(self, since: float = 0.0, until: float | None = None) -> float:
        """Longest time in seconds without an arrival from *since* to *until*, or to the last one.

        The two ends count: with *until* given, silence up to it is part of the answer.
        """
        return self.silence(since, until)[1]

    def silence(self, since: float = 0.0, until: float | None = None) -> tuple[float, float]:
        """When that longest time began (of ``monotonic()``), and how long it was."""
        with self._changed:
            times = [t for t in self._times if t >= since and (until is None or t <= until)]
        if since:
            times.insert(0, since)
        if until is not None:
            times.append(until)
        gaps = ((b - a, a) for a, b in pairwise(times))
        length, begin = max(gaps, default=(0.0, since))
        return begin, length

    def wait(self, count: int = 1, *, since: float | None = None, within: float) -> None:
        """Return when *count* arrivals came at *since* (default: now) or later.

        Raises:
            TimeoutError: they did not within so many seconds.
        """
        begin = monotonic() if since is None else since
        with self._changed:
            if not self._changed.wait_for(lambda: self.came(begin) >= count, timeout=within):
                raise TimeoutError(f"{self.came(begin)} of {count} arrivals in {within:g} s")


class _Listener:
    """A thread that calls ``_turn`` until closed."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing and self._turn():
            pass

    def _turn(self) -> bool:
        """Listen for a short while; False when there will be nothing more."""
        raise NotImplementedError

    def _readable(self, within: float = _POLL_S) -> bool:
        return bool(select([self._socket], [], [], max(within, 0.0))[0])

    def close(self) -> None:
        """End the thread and close the socket."""
        self._closing = True
        self._thread.join()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Heartbeats(_Listener):
    """Hears the datagrams that guests send each tick: who lives, of which boot, in how many copies.

    Guests send to ``lodom.heartbeat=10.97.1.254:7999``.
    """

    def __init__(self, namespace: str = CLIENT, port: int = HEARTBEAT_PORT) -> None:
        self._heard: dict[tuple[str, str], Arrivals] = {}
        self._news = threading.Condition()

        def listen() -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("0.0.0.0", port))  # noqa: S104 - all of a namespace made for it
            return sock

        super().__init__(inside(namespace, listen))

    def _turn(self) -> bool:
        if self._readable():
            words = self._socket.recv(512).decode(errors="replace").split()
            if len(words) == 5 and words[0] == "lodom1" and words[3].isdigit():
                with self._news:
                    arrivals = self._heard.setdefault((words[1], words[2]), Arrivals())
                    arrivals.add(int(words[3]))
                    self._news.notify_all()
        return True

    def boots(self, name: str) -> list[str]:
        """Boot ids under which the guest was heard, in their order; one if it never restarted."""
        with self._news:
            return [boot for guest, boot in self._heard if guest == name]

    def of(self, name: str) -> Arrivals:
        """Heartbeats of the guest's latest boot.

        Raises:
            KeyError: it was never heard.
        """
        with self._news:
            return self._heard[name, (self.boots(name) or [""])[-1]]

    def first(self, name: str, *, within: float, unlike: str = "") -> str:
        """Wait until the guest is heard; its boot id.  A boot id *unlike* does not count.

        Raises:
            TimeoutError: it was not within so many seconds.
        """

        def found() -> list[str]:
            return [b for b in self.boots(name) if b != unlike]

        with self._news:
            if not self._news.wait_for(found, timeout=within):
                raise TimeoutError(f"no heartbeat of {name} in {within:g} s")
            return found()[-1]

    def repeated(self, name: str) -> int:
        """Beats whose number came before, of one boot: more than 0 is a second running copy.

        Not those that changed places: datagrams of one burst may, where a CPU takes them from
        another.
        """
        with self._news:
            return sum(a.repeated for (guest, _), a in self._heard.items() if guest == name)


class Counter(_Listener, Arrivals):
    """One TCP connection, opened once, to the guest's counter (port 7000).

    A guest that was started anew, or from an older state, shows as an ended connection, another
    boot id or a number that went back.  ``gap`` less 5 ms is how long the guest stood still.
    """

    def __init__(
        self, address: str, namespace: str = CLIENT, *, port: int = COUNTER_PORT, within: float = 10
    ) -> None:
        Arrivals.__init__(self)
        self.boots: list[str] = []
        """Boot ids that it told, in their order."""
        self.ended = ""
        """Why the connection ended; empty while it is open."""
        self._rest = b""
        sock = inside(namespace, lambda: socket.create_connection((address, port), timeout=within))
        _Listener.__init__(self, sock)

    def _turn(self) -> bool:
        if not self._readable():
            return True
        try:
            data = self._socket.recv(65536)
        except OSError as error:
            data, self.ended = b"", str(error)
        if not data:
            self.ended = self.ended or "closed by the guest"
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            boot, number, _ = line.decode().split()
            if boot not in self.boots:
                self.boots.append(boot)
            self.add(int(number))
        return True

    def wait(self, count: int = 1, *, since: float | None = None, within: float) -> None:
        """As of any arrivals; the error tells if the connection has ended."""
        try:
            super().wait(count, since=since, within=within)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.ended or 'the connection is open'}") from None

    @property
    def unbroken(self) -> bool:
        """Still open, of one boot, and it never went back."""
        return not self.ended and len(self.boots) == 1 and not self.backwards


class Probe(_Listener, Arrivals):
    """Asks every 5 ms whether the guest answers (ICMP echo); ``gap`` is between two answers."""

    def __init__(self, address: str, namespace: str = CLIENT) -> None:
        Arrivals.__init__(self)
        self.sent = 0
        self._due = monotonic()

        def connect() -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            sock.connect((address, 0))
            sock.setblocking(False)
            return sock

        self._id = os.getpid() & 0xFFFF
        _Listener.__init__(self, inside(namespace, connect))

    def _turn(self) -> bool:
        if self._readable(self._due - monotonic()):
            packet = self._socket.recv(2048)
            kind, _, _, ident, low = struct.unpack_from("!BBHHH", packet, (packet[0] & 15) * 4)
            if kind == 0 and ident == self._id:
                # Sixteen bits go over the wire; the rest is known here.
                self.add(self.sent - ((self.sent - low) & 0xFFFF))
        if monotonic() >= self._due:
            self._due = max(self._due + TICK_S, monotonic())
            self.sent += 1
            # No neighbour yet, or a full queue: a question that was not asked.
            with suppress(OSError):
                self._socket.send(_echo(self._id, self.sent & 0xFFFF))
        return True


def _echo(ident: int, number: int) -> bytes:
    total = 0x0800 + ident + number
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", 8, 0, ~(total + (total >> 16)) & 0xFFFF, ident, number)


class Status:
    """Asks the guest's control port (7001): what it says of itself, and orders to it."""

    def __init__(self, address: str, namespace: str = CLIENT, *, port: int = CONTROL_PORT) -> None:
        self._to = (address, port)
        self._namespace = namespace

    def say(self, line: str, *, within: float = 10) -> str:
        """The answer to one line.

        Raises:
            OSError: the guest cannot be reached, or does not answer within so many seconds.
        """
        with inside(
            self._namespace, lambda: socket.create_connection(self._to, timeout=within)
        ) as connection:
            connection.sendall(f"{line}\n".encode())
            return connection.makefile().readline().strip()

    def read(self) -> dict[str, Any]:
        """The guest's status document; the pattern is checked first."""
        return dict(json.loads(self.say("status")))
