"""From effects to adapters: what must not be lost when an adapter fails."""

import asyncio
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.errors import StepFailed
from lodom.core.fsm import Event
from lodom.core.model.host import Machine, Region
from lodom.core.units import MIB
from lodom.daemon import interpret
from lodom.host.pool import Pool, PoolSpec

REGION = Region(0x8000000, 2 * MIB)


class Failing(Pool):
    """A pool whose scrub fails once in each way, and then does not."""

    faults: Iterator[Exception]

    async def scrub(self, region: Region) -> None:
        """Raise what is left."""
        for fault in self.faults:
            raise fault


def test_memory_is_scrubbed_as_soon_as_the_host_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a refusal nor an error of the system ends the attempts: who unbinds waits for it."""
    monkeypatch.setattr(interpret, "SCRUB_AGAIN_S", 0.0)
    pool = Failing(PoolSpec((REGION,), "tmpfs", tmp_path / "pool"))
    pool.faults = iter([StepFailed(what="a", reason="b"), OSError(errno.EMFILE, "full")])
    posted: list[Event] = []
    nothing: Any = None
    interpreter = interpret.Interpreter(
        host=interpret.Host(Machine("a", "i", "p", 0, (), (REGION,), 2 * MIB), pool),
        driver=nothing, consoles=nothing, peers=nothing, console_path=nothing,
        kept=tuple, post=posted.append,
    )  # fmt: skip
    asyncio.run(interpreter.perform(do.Scrub(REGION)))
    assert posted == [ev.Scrubbed(REGION)]
