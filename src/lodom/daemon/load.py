"""How busy the virtual CPUs are: the share of time that their threads ran since the last look."""

import asyncio
import time
from collections.abc import Callable

Usage = Callable[[str], dict[int, float]]
EVERY_S = 5.0
MIN_S = 0.5
"""Looks closer together than this show the share of the look before."""


class Loads:
    """Percent by domain and by (domain, slot), from two looks at the threads' CPU time."""

    def __init__(self, usage: Usage, uuids: Callable[[], list[str]]) -> None:
        self._usage = usage
        self._uuids = uuids
        self._at = 0.0
        self._seconds: dict[tuple[str, int], float] = {}
        self._shares: dict[tuple[str, int], float] = {}

    async def run(self) -> None:
        """Look every ``EVERY_S`` until cancelled, so that the first list shows a figure."""
        while True:
            self.percent()
            await asyncio.sleep(EVERY_S)

    def percent(self) -> tuple[dict[str, float], dict[tuple[str, int], float]]:
        """(load by UUID, load by UUID and slot), 0 to 100."""
        now = time.monotonic()
        passed = now - self._at
        if passed >= MIN_S:
            seconds = {
                (uuid, slot): used
                for uuid in self._uuids()
                for slot, used in self._usage(uuid).items()
            }
            self._shares = {
                # Less than before: another process runs the domain since then.
                key: max(0.0, min(100.0, 100.0 * (used - self._seconds.get(key, used)) / passed))
                for key, used in seconds.items()
            }
            self._at, self._seconds = now, seconds
        means: dict[str, list[float]] = {}
        for (uuid, _), share in self._shares.items():
            means.setdefault(uuid, []).append(share)
        return {u: sum(v) / len(v) for u, v in means.items()}, self._shares
