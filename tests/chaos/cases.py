"""The campaign as data: moments of a migration, faults, and the cases made of both.

A moment is the first line with these words in one side's debug log after the command was given.
"""

import random
from dataclasses import dataclass
from typing import Final

MOMENTS: Final[dict[str, tuple[str, str]]] = {
    # name: (side, words)
    "reserve": ("source", '"event": "effect".*Send(.*message=Reserve('),
    "launch": ("target", '"event": "effect".*LaunchGuest('),
    "waiting": ("target", '"event": "event".*GuestLaunched('),
    "prepared": ("source", '"event": "event".*message=Prepared('),
    "copy": ("source", '"event": "effect".*StartCopy('),
    "copying": ("source", '"event": "event".*CopyProgressed('),
    "paused": ("source", '"event": "event".*CopyPaused('),
    "recheck": ("target", '"event": "event".*message=Recheck('),
    "finish": ("source", '"event": "effect".*FinishCopy('),
    "loaded": ("target", '"event": "event".*IncomingLoaded('),
    "completed": ("source", '"event": "event".*CopyCompleted('),
    "cede": ("source", '"event": "effect".*message=Cede('),
    "ceded": ("target", '"event": "event".*message=Cede('),
    "run": ("target", '"event": "effect".*RunGuest('),
    "running": ("target", '"event": "event".*GuestRunning('),
    "owned": ("source", '"event": "event".*message=Owned('),
    "confirm": ("source", '"event": "effect".*message=Confirm('),
    "confirmed": ("target", '"event": "event".*message=Confirm('),
    "restored": ("target", '"event": "event".*VcpusSet('),
}
"""In the order in which an undisturbed migration passes them."""

ORDER: Final = tuple(MOMENTS)
BEFORE_PAUSE: Final = ORDER[: ORDER.index("paused")]
"""The guest runs on the source."""
BEFORE_CEDED: Final = ORDER[: ORDER.index("cede")]


@dataclass(frozen=True)
class Case:
    """One disturbed migration."""

    fault: str
    moment: str
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.fault}@{self.moment}"

    @property
    def boots(self) -> str:
        """What may become of the guest: ``same`` boot, ``any`` (a new one too), or also ``off``."""
        name, _, rest = self.fault.partition(":")
        if name == "guest":
            return "off" if rest == "poweroff" else "any"
        if name in ("power", "forever"):
            return "any"
        if name == "qemu-kill":
            kept = self.moment in BEFORE_CEDED if rest == "target" else self.moment == "confirmed"
            return "same" if kept else "any"
        return "same"


# A cancel in each status of QEMU: setup at `copy`, active `copying`, pre-switchover `paused`,
# device `finish`, completed `completed`.
FAULTS: Final[dict[str, tuple[str, ...]]] = {
    "none": ("reserve",),
    "ldmd-kill:source:0": ORDER,
    "ldmd-kill:source:3": ORDER,
    "ldmd-kill:target:0": ORDER,
    "ldmd-kill:target:3": ORDER,
    "ldmd-kill:both:3": ORDER,
    "qemu-kill:source": ORDER[: ORDER.index("confirm")],
    "qemu-kill:target": ORDER[ORDER.index("waiting") :],
    "link:source:1": ORDER,
    "link:target:1": ORDER,
    "link:target:40": ORDER,
    "ldmd-stop:source:8": ORDER,
    "ldmd-stop:target:8": ORDER,
    "qemu-stop:source:3": ORDER[: ORDER.index("confirm")],
    "qemu-stop:target:3": ORDER[ORDER.index("waiting") :],
    "guest:reboot": BEFORE_PAUSE,
    "guest:poweroff": BEFORE_PAUSE,
    "guest:panic": BEFORE_PAUSE,
    "guest:hang": BEFORE_PAUSE,
    "cancel": ORDER,
    "second": ORDER,
    "crossing": ORDER,
    "full:source:5": ORDER,
    "full:target:5": ORDER,
    "power:source": ORDER,
    "power:target": ORDER,
    "forever": ORDER,
    "clock:source:86400": ORDER,
    "clock:source:-86400": ORDER,
    "clock:target:86400": ORDER,
    "clock:target:-86400": ORDER,
    "back": ORDER[ORDER.index("running") :],
    "stale:away": ("reserve",),
    "stale:returned": ("reserve",),
}
"""Each fault with the moments at which it has a meaning; ``stale`` needs a world of its own."""

LONG_ONLY: Final[dict[str, tuple[str, ...]]] = {
    "ldmd-stop:source:70": ("copying", "paused", "completed", "cede"),
    "ldmd-stop:both:70": ("copying", "cede", "run"),
    "ldmd-stop:target:70": ("waiting", "recheck", "loaded", "ceded", "running"),
    "link:source:60": ("copying", "finish", "cede", "owned"),
    "link:target:60": ("copying", "finish", "cede", "ceded", "running", "owned"),
    "link:target:100": ("copying", "finish", "cede", "ceded", "owned"),
    "qemu-stop:source:70": ("prepared", "copying", "paused", "finish", "cede"),
    "qemu-stop:target:70": ("waiting", "copying", "loaded", "ceded", "running", "restored"),
}

SHORT: Final = tuple(
    Case(fault, moment)
    for fault, moment in (
        ("ldmd-kill:target:3", "ceded"),
        ("qemu-kill:target", "recheck"),
        ("full:source:5", "completed"),
        ("power:target", "ceded"),
    )
)
"""One of each kind."""


def chosen(seed: int) -> Case:
    """The random case of a seed; 'stale' stays with the matrix: it spoils the lab."""
    chance = random.Random(seed)
    every = {**FAULTS, **LONG_ONLY}
    fault = chance.choice([f for f in every if not f.startswith(("stale", "none"))])
    return Case(fault, chance.choice(every[fault]), seed)


def long_matrix() -> tuple[Case, ...]:
    """Each fault at each of its moments."""
    rows = [*FAULTS.items(), *LONG_ONLY.items()]
    return tuple(Case(fault, moment) for fault, moments in rows for moment in moments)
