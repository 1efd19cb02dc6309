"""Waiting for a moment: the logs of both machines from a position on."""

import re
import time
from pathlib import Path

_TICK_S = 0.001


class Tail:
    """What is written to a log after the tail was made; ldmd puts a long one aside as ``.1``."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._at = log.stat().st_size
        self._read = b""
        self._rest = b""

    def met(self, words: re.Pattern[bytes]) -> bool:
        """Whether a new whole line holds the words."""
        new = self._news()
        self._read += new
        *lines, self._rest = (self._rest + new).split(b"\n")
        return any(words.search(line) for line in lines)

    def _news(self) -> bytes:
        before = b""
        if self._log.stat().st_size < self._at:
            before, self._at = _from(self._log.with_name(f"{self._log.name}.1"), self._at), 0
        new = _from(self._log, self._at)
        self._at += len(new)
        return before + new

    def wait(self, words: str, within: float) -> bool:
        """Whether such a line came in time.  A log is a file: it is read again each millisecond."""
        pattern = re.compile(_escaped(words).encode())
        deadline = time.monotonic() + within
        while not self.met(pattern):
            if time.monotonic() > deadline:
                return False
            time.sleep(_TICK_S)
        return True

    def text(self) -> str:
        """All of it since the beginning."""
        self._read += self._news()
        return self._read.decode(errors="replace")


def _from(log: Path, position: int) -> bytes:
    with log.open("rb") as file:
        file.seek(position)
        return file.read()


def _escaped(words: str) -> str:
    """Words with ``.*`` as the only pattern."""
    return ".*".join(re.escape(part) for part in words.split(".*"))
