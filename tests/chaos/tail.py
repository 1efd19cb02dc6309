"""Waiting for a moment: the logs of both machines from a position on."""

import re
import time
from pathlib import Path

_TICK_S = 0.001


class Tail:
    """What is written to a log after the tail was made."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._from = log.stat().st_size
        self._at = self._from
        self._rest = b""

    def met(self, words: re.Pattern[bytes]) -> bool:
        """Whether a new whole line holds the words."""
        with self._log.open("rb") as file:
            file.seek(self._at)
            data = self._rest + file.read()
            self._at = file.tell()
        *lines, self._rest = data.split(b"\n")
        return any(words.search(line) for line in lines)

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
        with self._log.open("rb") as file:
            file.seek(self._from)
            return file.read().decode(errors="replace")


def _escaped(words: str) -> str:
    """Words with ``.*`` as the only pattern."""
    return ".*".join(re.escape(part) for part in words.split(".*"))
