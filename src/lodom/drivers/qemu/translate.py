"""QEMU's words in the words of core.  Pure.

Source: QMP reference: RunState, MigrationStatus, MigrationInfo, SHUTDOWN, RESET, GUEST_PANICKED.
"""

from collections.abc import Mapping
from typing import Any, Final

from lodom.core import events as ev
from lodom.core.fsm import Event

_STATUS: Final = {
    "running": "running",
    # Asleep by the guest's own will; its CPUs count as running.
    "suspended": "running",
    "shutdown": "shutdown",
    "guest-panicked": "panicked",
    "postmigrate": "postmigrate",
    "inmigrate": "inmigrate",
}

ACTIVE: Final = frozenset(
    {"setup", "active", "device", "wait-unplug", "postcopy-active", "postcopy-paused",
     "postcopy-recover", "postcopy-recover-setup", "postcopy-device", "cancelling", "colo"}
)  # fmt: skip
"""Migration states in which QEMU still works on it, pre-switchover apart."""

ENDED: Final = frozenset({"completed", "failed", "cancelled", "none"})


def guest_status(run_state: str) -> str:
    """The status of ``GuestFound`` for a run state; all kinds of being stopped are ``paused``."""
    return _STATUS.get(run_state, "paused")


def copy_state(status: str) -> str:
    """The state of ``GuestFound.copy`` for the status of ``query-migrate``."""
    if status in ACTIVE:
        return "active"
    known = {"pre-switchover": "paused", "completed": "completed", "failed": "failed"}
    return known.get(status, "none")


def numbers(answer: Mapping[str, Any]) -> dict[str, int]:
    """Progress of a copy from ``query-migrate``: bytes, bytes a second, milliseconds.

    Keys: transferred, total, remaining, rate_bytes_s, dirty_bytes_s, round, downtime_ms,
    total_ms, setup_ms, throttle_percent.  What QEMU does not say is 0.
    """
    ram = answer.get("ram", {})
    return {
        "transferred": int(ram.get("transferred", 0)),
        "total": int(ram.get("total", 0)),
        "remaining": int(ram.get("remaining", 0)),
        "rate_bytes_s": int(ram.get("mbps", 0) * 1e6 / 8),
        "dirty_bytes_s": int(ram.get("dirty-pages-rate", 0)) * int(ram.get("page-size", 4096)),
        "round": int(ram.get("dirty-sync-count", 0)),
        "downtime_ms": int(answer.get("downtime", answer.get("expected-downtime", 0))),
        "total_ms": int(answer.get("total-time", 0)),
        "setup_ms": int(answer.get("setup-time", 0)),
        "throttle_percent": int(answer.get("cpu-throttle-percentage", 0)),
    }


def pause_ms(round: int) -> int:
    """How long a guest may stand still for its last bytes, in that round of the copy.

    A short pause is tried first; a guest that writes too fast for it gets QEMU's usual one.
    """
    return next((ms for last, ms in _PAUSES if round <= last), 300)


_PAUSES: Final = ((4, 50), (8, 100))


def guest_event(uuid: str, message: Mapping[str, Any], *, now: int) -> Event | None:
    """What the guest did, if the QMP event *message* is about that.

    With ``shutdown=pause`` and ``reboot=shutdown`` a reset shows as SHUTDOWN with its own reason.
    """
    details = message.get("data", {})
    reason = details.get("reason", "")
    match message.get("event"):
        case "SHUTDOWN" if reason == "guest-reset":
            return ev.GuestRebooted(uuid, ended=True, now=now)
        case "SHUTDOWN" if details.get("guest") and reason != "guest-panic":
            return ev.GuestPoweredOff(uuid)
        case "RESET" if details.get("guest"):
            return ev.GuestRebooted(uuid, now=now)
        case "GUEST_PANICKED":
            return ev.GuestPanicked(uuid)
        case _:
            return None


def home_of(command: list[str]) -> str:
    """``home`` or the migration id in a QEMU command line, empty if there is none."""
    if "-name" not in command[:-1]:
        return ""
    options = command[command.index("-name") + 1].split(",")
    return next((o.removeprefix("guest=") for o in options if o.startswith("guest=")), "")
