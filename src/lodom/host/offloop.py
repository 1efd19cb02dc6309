"""Blocking work beside the event loop, cancelled without leaving a thread at work."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def off_loop(work: Callable[[threading.Event], T]) -> T:
    """``work(stop)`` in a thread.  *work* looks at *stop* often and returns when it is set.

    A cancelled caller gets its ``CancelledError`` only when the thread has ended.
    """
    stop = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        while not task.done():
            with suppress(asyncio.CancelledError):  # cancelled twice: wait on
                await asyncio.wait({task})
        with suppress(BaseException):
            task.result()
        raise
