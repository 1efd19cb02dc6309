"""A bar on standard error while a migration runs; loaded on a terminal only."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

WORDS = {
    "preparing": "prepare",
    "shrinking": "prepare",
    "copying": "transfer",
    "switching": "hand over",
    "finishing": "hand over",
    "ceded": "hand over",
    "cleaning": "hand over",
    "confirming": "hand over",
    "aborted": "give up",
    "resuming": "give up",
    "restoring": "give up",
}
"""Phases of the source's machine in the words of DESIGN 6."""
MIB = 1 << 20


class Bar:
    """Shows phase, percent, rate, what remains and how fast the guest writes.

    A terminal that is lost, also one that sends no SIGHUP to who is in its background, ends
    nothing: what cannot be drawn is left out.
    """

    def __init__(self, ldom: str, host: str) -> None:
        # Rich's own estimate of the rate is of percents; ours comes with each event.
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=Console(file=sys.stderr),
            transient=True,
        )
        self._name = f"{ldom} -> {host}"
        self._task = self._progress.add_task(f"{self._name}  check", total=100, numbers="")

    def __enter__(self) -> Self:
        with suppress(OSError):
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._progress.stop()

    def show(self, event: Mapping[str, Any]) -> None:
        """Draw one progress document."""
        phase = str(event.get("phase", ""))
        self._progress.update(
            self._task,
            description=Text(f"{self._name}  {WORDS.get(phase, phase)}").plain,
            completed=percent(event),
            numbers=figures(event),
        )


def percent(event: Mapping[str, Any]) -> float:
    """How much of the memory is there: what remains shrinks and grows as the guest writes."""
    if "percent" in event:
        return float(event["percent"])
    total = event.get("total", 0)
    return 100 * (1 - event.get("remaining", 0) / total) if total else 0.0


def figures(event: Mapping[str, Any]) -> str:
    """``51.2 MB/s, 120 MB left, guest writes 3.1 MB/s``, what is known of it."""
    parts = []
    if event.get("rate_bytes_s"):
        parts.append(f"{event['rate_bytes_s'] / MIB:.1f} MB/s")
    if "remaining" in event:
        parts.append(f"{event['remaining'] / MIB:.0f} MB left")
    if event.get("dirty_bytes_s"):
        parts.append(f"guest writes {event['dirty_bytes_s'] / MIB:.1f} MB/s")
    return ", ".join(parts)
