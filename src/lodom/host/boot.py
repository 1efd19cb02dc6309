"""The host's boot: its id, and the clock that deadlines count on (HANDOVER, "Time")."""

import time
from pathlib import Path


def boot_id(root: Path = Path("/")) -> str:
    """The random id of this boot; another one means that the host was restarted."""
    return (root / "proc/sys/kernel/random/boot_id").read_text().strip()


def boottime() -> float:
    """Seconds since boot, suspend included; never goes back and knows no wall clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
