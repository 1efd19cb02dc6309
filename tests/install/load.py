"""A busy client of a PostgreSQL server; run as a program, ended by the end of its input.

One session commits a row after the other; beside it a new session is opened every 20 ms.  At the
end it prints one JSON object: rows acknowledged, rows found, sessions lost, connections refused,
how many were opened, and the longest wait of each kind in seconds.
"""

import json
import select
import socket
import struct
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

EVERY_S = 0.02
LIMIT_S, START_S = 30.0, 300.0


class Session:
    """As much of the protocol (version 3, no password) as one row a message needs."""

    def __init__(self, address: str) -> None:
        self._socket = socket.create_connection((address, 5432), LIMIT_S)
        self._file = self._socket.makefile("rb")
        body = b"\0\3\0\0user\0postgres\0database\0postgres\0\0"
        self._socket.sendall(struct.pack("!I", len(body) + 4) + body)
        self._answers()

    def ask(self, query: str) -> list[str]:
        """The first column of each row."""
        body = query.encode() + b"\0"
        self._socket.sendall(b"Q" + struct.pack("!I", len(body) + 4) + body)
        return self._answers()

    def _answers(self) -> list[str]:
        rows = []
        while True:
            head = self._file.read(5)
            if len(head) < 5:
                raise ConnectionResetError("closed")
            kind, length = head[:1], struct.unpack("!I", head[1:])[0]
            body = self._file.read(length - 4)
            if kind == b"E":
                raise OSError(body.replace(b"\0", b" ").decode())
            if kind == b"D":
                rows.append(body[6:].decode())
            if kind == b"Z":
                return rows

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()


def writer(address: str, told: dict[str, Any], more: Callable[[], bool]) -> None:
    """Commit row after row; what is acknowledged must be there in the end."""
    session = Session(address)
    number, last = 0, monotonic()
    while more():
        try:
            session.ask(f"INSERT INTO load VALUES ({number})")
            told["acknowledged"].append(number)
        except OSError as lost:
            told["lost"].append(str(lost))
            session = Session(address)
        now = monotonic()
        told["longest_commit"] = max(told["longest_commit"], now - last)
        last, number = now, number + 1


def visitor(address: str, told: dict[str, Any], more: Callable[[], bool]) -> None:
    """Open a session, and close it."""
    while more():
        begin = monotonic()
        try:
            Session(address).close()
            told["opened"] += 1
        except OSError as refused:
            told["refused"].append(str(refused))
        told["longest_open"] = max(told["longest_open"], monotonic() - begin)
        select.select([], [], [], EVERY_S)


def first(address: str) -> Session:
    """The first session; the agent answers some seconds before the server does."""
    deadline = monotonic() + START_S
    while True:
        try:
            return Session(address)
        except OSError:
            if monotonic() > deadline:
                raise
            select.select([], [], [], EVERY_S)


def main(address: str) -> None:
    """Until standard input ends."""
    told: dict[str, Any] = {
        "acknowledged": [], "lost": [], "refused": [], "opened": 0, "longest_commit": 0.0,
        "longest_open": 0.0,
    }  # fmt: skip
    setup = first(address)
    setup.ask("CREATE TABLE load (n integer PRIMARY KEY)")
    ended = threading.Event()
    threads = [
        threading.Thread(target=work, args=(address, told, lambda: not ended.is_set()))
        for work in (writer, visitor)
    ]
    for thread in threads:
        thread.start()
    print("busy", flush=True)
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join()
    told["found"] = sorted(int(n) for n in setup.ask("SELECT n FROM load"))
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
