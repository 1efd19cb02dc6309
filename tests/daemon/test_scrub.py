"""Memory that cannot be scrubbed now is scrubbed later; whoever waits for it gets an answer."""

import asyncio
import errno
from pathlib import Path

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.errors import StepFailed
from lodom.core.model.host import Region
from lodom.daemon import interpret
from lodom.host.pool import Pool, PoolSpec

REGION = Region(0, 2 << 20)


class FailsAtFirst(Pool):
    """The record's file system is full when the control domain's share changes; then the scrub."""

    full = True
    faults = iter([StepFailed(what="a", reason="b"), OSError(errno.EMFILE, "Too many open files")])

    async def keep(self, kept: tuple[Region, ...]) -> None:
        if self.full:
            self.full = False
            raise OSError(errno.ENOSPC, "No space left on device")

    async def scrub(self, region: Region) -> None:
        for fault in self.faults:
            raise fault


def test_nobody_waits_for_ever(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(interpret, "SCRUB_AGAIN_S", 0.0)
    said: list[object] = []
    pool = FailsAtFirst(PoolSpec((REGION,), "tmpfs", tmp_path / "pool"))
    interpreter = interpret.Interpreter(
        host=interpret.Host(None, pool), driver=None, consoles=None, peers=None,
        console_path=lambda uuid: (uuid, uuid), kept=tuple, post=said.append,
    )  # fmt: skip
    asyncio.run(interpreter.perform(do.Scrub(REGION)))
    assert said == [ev.Scrubbed(REGION)]
