"""What the target has to say to the source, kept until the source has fetched it.

Only the source connects, so it reads these boxes by long polls.  In memory: the protocol of a
migration repeats what was lost (``core.messages``).
"""

import asyncio
import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

Numbered = tuple[int, dict[str, Any]]


@dataclass
class _Box:
    letters: deque[Numbered] = field(default_factory=deque)
    last: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


class Mailboxes:
    """One box a migration; at most *depth* letters in each and *most* boxes, oldest go first.

    ``id`` is new with each start of ldmd: numbers of another life mean nothing here.
    """

    def __init__(self, depth: int = 256, most: int = 1024) -> None:
        self.id = secrets.token_hex(8)
        self._depth, self._most = depth, most
        self._boxes: OrderedDict[str, _Box] = OrderedDict()
        self._closed = False

    def post(self, migration: str, letter: dict[str, Any]) -> None:
        """Put a letter into the box of the migration."""
        box = self._box(migration)
        box.last += 1
        box.letters.append((box.last, letter))
        if len(box.letters) > self._depth:
            box.letters.popleft()
        box.arrived.set()

    async def fetch(self, migration: str, after: int, wait: float) -> list[Numbered]:
        """Letters numbered above *after*, waiting up to *wait* seconds for one.

        Letters up to *after* are forgotten: who asks so has dealt with them.
        """
        box = self._box(migration)
        while box.letters and box.letters[0][0] <= after:
            box.letters.popleft()
        if not box.letters and not self._closed:
            box.arrived.clear()
            try:
                async with asyncio.timeout(wait):
                    await box.arrived.wait()
            except TimeoutError:
                return []
        return [letter for letter in box.letters if letter[0] > after]

    def forget(self, migration: str) -> None:
        """The migration is over; who still waits gets nothing."""
        box = self._boxes.pop(migration, None)
        if box is not None:
            box.letters.clear()
            box.arrived.set()

    def close(self) -> None:
        """Answer all who wait."""
        self._closed = True
        for box in self._boxes.values():
            box.arrived.set()

    def _box(self, migration: str) -> _Box:
        box = self._boxes.setdefault(migration, _Box())
        self._boxes.move_to_end(migration)
        while len(self._boxes) > self._most:
            self.forget(next(iter(self._boxes)))
        return box
