"""Named deadlines on the boot clock, which goes on while the host sleeps."""

import asyncio
from collections.abc import Callable

from lodom.host.boot import boottime

TICK_S = 1.0
"""How late a deadline may be noticed after the host slept."""


class Timers:
    """Calls *fired* with the name of each timer that runs out."""

    def __init__(self, fired: Callable[[str], None]) -> None:
        self._fired = fired
        self._due: dict[str, float] = {}
        self._changed = asyncio.Event()

    def set(self, name: str, seconds: float) -> None:
        """Start the timer, or start it again."""
        self._due[name] = boottime() + seconds
        self._changed.set()

    def cancel(self, name: str) -> None:
        """Forget the timer."""
        self._due.pop(name, None)

    async def run(self) -> None:
        """Watch the clock until cancelled."""
        while True:
            self._changed.clear()
            at = boottime()
            for name in [n for n, due in self._due.items() if due <= at]:
                del self._due[name]
                self._fired(name)
            wait = min(self._due.values()) - at if self._due else None
            try:
                limit = None if wait is None else min(max(wait, 0.0), TICK_S)
                await asyncio.wait_for(self._changed.wait(), limit)
            except TimeoutError:
                pass
