"""Logs that another process keeps open: bounded while it writes."""

import asyncio
import os
import shutil
from contextlib import suppress
from pathlib import Path

MOST = 1 << 20
"""A log is put aside as ``.1`` at this size."""
EVERY_S = 10.0
"""How often the logs are looked at: nobody tells when a file grows that QEMU writes by itself."""


def turn_over(log: Path, most: int = MOST) -> None:
    """Put the log aside and empty it, if it has grown to *most* bytes.

    The file stays the same one: its writer appends (``O_APPEND``) and goes on at the new end.
    """
    if log.is_symlink() or not log.is_file() or log.stat().st_size < most:
        return
    aside = log.with_name(f"{log.name}.1")
    shutil.copyfile(log, aside)
    aside.chmod(0o600)
    os.truncate(log, 0)


async def bound(folder: Path) -> None:
    """Turn over every ``*.log`` of the folder that grows, until cancelled."""
    while True:
        for log in folder.glob("*.log"):
            with suppress(OSError):  # a full disk: a log is no reason to end ldmd
                await asyncio.to_thread(turn_over, log)
        await asyncio.sleep(EVERY_S)
