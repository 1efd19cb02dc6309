"""A conversation with a guest's console, by telnet to its port, as an administrator has it."""

import re
import socket
from time import monotonic
from types import TracebackType
from typing import Self

from machines import Machine

from lodom.lab.demo.console import plain
from lodom.lab.watch import inside

_TERMINAL = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]|\x1b\][^\x07]*\x07|\r")


class Console:
    """An open console."""

    def __init__(self, machine: Machine, ldom: str) -> None:
        port = int(machine.row(ldom)["cons"])
        self._socket = inside(
            machine.placed.namespace, lambda: socket.create_connection(("127.0.0.1", port), 10)
        )
        self._heard = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._socket.close()

    def asked(self, line: str, answer: str, *, within: float = 20) -> re.Match[str]:
        """Type *line* and wait for what the pattern *answer* matches; nothing is read twice."""
        self._socket.sendall(line.encode() + b"\r")
        return self.until(answer, within=within)

    def until(self, answer: str, *, within: float) -> re.Match[str]:
        """Read until the pattern *answer* matches."""
        self._heard = b""
        deadline = monotonic() + within
        while not (found := re.search(answer, self._text())):
            self._socket.settimeout(max(0.1, deadline - monotonic()))
            try:
                data = self._socket.recv(4096)
            except TimeoutError:
                data = b""
            assert data, f"no {answer!r} within {within:g} s: {self._text()!r}"
            self._heard += data
        return found

    def _text(self) -> str:
        return _TERMINAL.sub("", plain(self._heard).decode(errors="replace"))
