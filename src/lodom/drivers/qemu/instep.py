"""A copy is cancelled with its threads in step.

QEMU 10.0 and 10.1 say farewell on each TLS stream of a copy that is cancelled: in the main loop,
while the stream's own thread may still write to it.  GnuTLS allows for one writer at a time, and
now and then the process died of it, and the guest with it ("double free or corruption" in
``gnutls_bye``, seen; from 10.2 on nothing is said there).  So the thread that hands out the work
is halted when the order to cancel is given; it goes on while the main loop is halted, until
nobody writes any more.  See docs/decisions/0014.
"""

import asyncio
import ctypes
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from lodom.drivers.qemu.process import Process

_LEADER, _WRITERS = "mig/src/main", "mig/src/send"
_HALT_S = 1.0
_LOOK_S = 0.002
_FUTEX = "202 "
"""The system call in which a thread waits for work, on x86-64; one that writes waits in another."""

_SEIZE, _INTERRUPT, _DETACH, _WALL = 0x4206, 0x4207, 17, 0x40000000
"""ptrace(2), waitpid(2)."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def leader(process: Process) -> int:
    """The thread that hands out a copy's work; 0 if there is none."""
    return next((int(task.name) for task in _tasks(process) if _name(task) == _LEADER), 0)


@asynccontextmanager
async def halted(thread: int) -> AsyncIterator[None]:
    """The thread stands still, if it can be made to within a second; at the end it goes on.

    It also goes on when ldmd dies.
    """
    loop, stands, over = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def hold() -> None:
        # In a thread of its own: who halted it must let it go, and it may stand only later.
        if _libc.ptrace(_SEIZE, thread, None, None) == 0:
            _libc.ptrace(_INTERRUPT, thread, None, None)
            os.waitpid(thread, _WALL)
        with suppress(RuntimeError):  # ldmd ends
            loop.call_soon_threadsafe(stands.set)
        over.wait()
        _libc.ptrace(_DETACH, thread, None, None)

    threading.Thread(target=hold, daemon=True).start()
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_HALT_S):
                await stands.wait()
        yield
    finally:
        over.set()


async def at_rest(process: Process, within: float) -> bool:
    """Whether no thread of a copy has anything to do, *within* seconds at the latest.

    That is: all sleep at two looks, and none has run in between.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    before: list[str] | None = None
    while True:
        now = list(_sleepers(process))
        if "" not in now and now == before:
            return True
        if loop.time() > end:
            return False
        before = now
        await asyncio.sleep(_LOOK_S)


def _sleepers(process: Process) -> Iterator[str]:
    """How often each thread of a copy has slept so far; empty for one that is not at rest."""
    for task in _tasks(process):
        if _name(task).startswith((_LEADER, _WRITERS)):
            with suppress(OSError):  # it has ended
                idle = (task / "syscall").read_text().startswith(_FUTEX)
                slept = (task / "status").read_text().partition("\nvoluntary_ctxt_switches:")[2]
                asleep = process.state(int(task.name)) == "S"
                yield f"{task.name} {slept}" if idle and asleep else ""


def _tasks(process: Process) -> list[Path]:
    with suppress(OSError):  # the process is gone
        return list(Path(f"/proc/{process.pid}/task").iterdir())
    return []


def _name(task: Path) -> str:
    with suppress(OSError):  # it has ended
        return (task / "comm").read_text().strip()
    return ""
