"""The wire as witness: each heartbeat, with the machine that it came from.

One packet socket on each machine's cable of the guests' network sees what that machine sends,
before any bridge mixes them.  Where a copy runs, and whether two do, follows from these frames.
"""

import socket
import struct
import threading
import time
from dataclasses import dataclass
from select import select
from typing import NamedTuple

from lodom.lab.lab import WIRE
from lodom.lab.watch import HEARTBEAT_PORT, inside

_ALL, _OUTGOING, _TIMESTAMPNS = 3, 4, 35
_BURST_S = 0.1
"""A burst takes this long on a busy host; seen: 5 ms and more, the first three beats of a boot."""


class Beat(NamedTuple):
    """One heartbeat: when (wall clock of the kernel), from which machine, which boot and count."""

    at: float
    machine: int
    boot: str
    count: int


@dataclass(frozen=True)
class Verdict:
    """What the frames since some moment say."""

    faults: tuple[str, ...]
    boots: tuple[str, ...]
    silence: float
    """Longest time between two beats."""


class Wire:
    """Listens on the cables of *machines* (indices) for the heartbeats of one guest."""

    def __init__(self, name: str, machines: range) -> None:
        self._name = name.encode()
        self._sockets = {inside(WIRE, lambda i=i: _listen(f"g{i}x0")): i for i in machines}
        self._beats: list[Beat] = []
        self._closing = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            for sock in select(list(self._sockets), [], [], 0.2)[0]:
                data, notes, _, (_, _, kind, *_) = sock.recvmsg(2048, 64)
                at = next((_stamp(v) for _, t, v in notes if t == _TIMESTAMPNS), time.time())
                beat = None if kind == _OUTGOING else self._read(data, at, self._sockets[sock])
                if beat:
                    with self._lock:
                        self._beats.append(beat)

    def _read(self, frame: bytes, at: float, machine: int) -> Beat | None:
        """The beat in an Ethernet frame: UDP to the heartbeats' port, of our guest."""
        if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_UDP:
            return None
        udp = 14 + (frame[14] & 15) * 4
        if struct.unpack_from("!H", frame, udp + 2)[0] != HEARTBEAT_PORT:
            return None
        words = frame[udp + 8 :].split()
        if len(words) < 4 or words[:2] != [b"lodom1", self._name]:
            return None
        return Beat(at, machine, words[2].decode(), int(words[3]))

    def beats(self, since: float = 0.0) -> list[Beat]:
        """The beats since then, in the order in which they came."""
        with self._lock:
            return sorted(b for b in self._beats if b.at >= since)

    def last(self, since: float) -> Beat | None:
        """The latest beat, if one came since then."""
        with self._lock:
            found = [b for b in self._beats[-400:] if b.at >= since]
        return max(found, default=None)

    def forget(self) -> None:
        """Drop what was heard: a new case begins."""
        with self._lock:
            self._beats.clear()

    def close(self) -> None:
        """End the thread and close the sockets."""
        self._closing = True
        self._thread.join()
        for sock in self._sockets:
            sock.close()


def judge(beats: list[Beat], until: float) -> Verdict:
    """At most one copy: no count of one boot comes twice or late, no boot after a newer one.

    A booting guest's frames wait for its neighbour's address, and leave together in any order: one
    that was never seen may be late by ``_BURST_S`` if it comes from the same machine.
    """
    faults: list[str] = []
    boots: list[str] = []
    counts: dict[str, Beat] = {}
    seen: set[tuple[str, int]] = set()
    last: Beat | None = None
    silence = 0.0
    for beat in beats:
        before = counts.get(beat.boot)
        if before is None:
            boots.append(beat.boot)
        elif beat.boot != boots[-1]:
            faults.append(f"boot {beat.boot} on {beat.machine} goes on after {boots[-1]} began")
        elif beat.count <= before.count and not _of_burst(beat, before, seen):
            faults.append(
                f"count {beat.count} on {beat.machine} after {before.count} on {before.machine}"
            )
        seen.add((beat.boot, beat.count))
        if before is None or beat.count > before.count:
            counts[beat.boot] = beat
        silence = max(silence, beat.at - last.at) if last else silence
        last = beat
    if last:
        silence = max(silence, until - last.at)
    return Verdict(tuple(faults[:3]), tuple(boots), silence)


def _of_burst(beat: Beat, newest: Beat, seen: set[tuple[str, int]]) -> bool:
    together = beat.machine == newest.machine and beat.at - newest.at < _BURST_S
    return together and (beat.boot, beat.count) not in seen


def _listen(device: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
    sock.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
    sock.bind((device, _ALL))
    return sock


def _stamp(data: bytes) -> float:
    seconds, nanoseconds = struct.unpack("qq", data[:16])
    return float(seconds + nanoseconds / 1e9)
