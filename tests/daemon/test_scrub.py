"""Memory that cannot be scrubbed now is scrubbed later; whoever waits for it gets an answer."""

import asyncio
import errno
from pathlib import Path

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.model.host import Region
from lodom.daemon import interpret
from lodom.host.pool import Pool, PoolSpec

REGION = Region(0, 2 << 20)


class FullAtFirst(Pool):
    """The file system with the pool's record is full when the control domain's share changes."""

    full = True

    async def keep(self, kept: tuple[Region, ...]) -> None:
        if self.full:
            self.full = False
            raise OSError(errno.ENOSPC, "No space left on device")

    async def scrub(self, region: Region) -> None:
        pass


def test_a_full_disk_leaves_nobody_waiting_for_ever(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(interpret, "SCRUB_AGAIN_S", 0.0)
    said: list[object] = []
    pool = FullAtFirst(PoolSpec((REGION,), "tmpfs", tmp_path / "pool"))
    interpreter = interpret.Interpreter(
        host=interpret.Host(None, pool), driver=None, consoles=None, peers=None,
        console_path=lambda uuid: (uuid, uuid), kept=tuple, post=said.append,
    )  # fmt: skip
    asyncio.run(interpreter.perform(do.Scrub(REGION)))
    assert said == [ev.Scrubbed(REGION)]
