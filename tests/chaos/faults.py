"""What can be done to a migration, each for its time, and healed again."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import shim
from arena import GUEST, OTHER, Arena, kill_all
from machines import Machine, eventually

from lodom.client.http import call
from lodom.lab.watch import CLIENT, CONTROL_PORT, inside

HANG_S = 150.0
"""How long a migration of a hung guest may take to end, by its longest deadlines."""


@dataclass
class Scene:
    """One migration under fire."""

    arena: Arena
    source: Machine
    target: Machine
    control: Any = None
    """An open connection to the guest's control port."""
    extra: "list[tuple[str, subprocess.Popen[str]]]" = field(default_factory=list)
    """Commands given besides, each with what is to be said of it."""
    opposite: bool = True
    """The other domain is on the target, so that its migration crosses this one."""
    notes: list[str] = field(default_factory=list)

    def side(self, word: str) -> list[Machine]:
        """The machines that a fault names."""
        return {
            "source": [self.source],
            "target": [self.target],
            "both": [self.source, self.target],
        }[word]


def _wait(seconds: str) -> None:
    time.sleep(float(seconds))  # the length of the fault is the fault


def ldmd_kill(s: Scene, side: str, seconds: str) -> None:
    """kill -9 ldmd; it is started again after that time."""
    machines = s.side(side)
    kill_all([s.arena.lab.pid(m.placed) for m in machines], signal.SIGKILL)
    _wait(seconds)
    for machine in machines:
        s.arena.start_ldmd(machine)


def ldmd_stop(s: Scene, side: str, seconds: str) -> None:
    """SIGSTOP ldmd for that time."""
    pids = [s.arena.lab.pid(m.placed) for m in s.side(side)]
    kill_all(pids, signal.SIGSTOP)
    _wait(seconds)
    kill_all(pids, signal.SIGCONT)


def qemu_kill(s: Scene, side: str) -> None:
    """kill -9 the guest's process on that side."""
    pids = [p for m in s.side(side) for p in m.qemus(GUEST)]
    s.notes += [] if pids else ["no process there"]
    kill_all(pids, signal.SIGKILL)


def qemu_stop(s: Scene, side: str, seconds: str) -> None:
    """SIGSTOP the guest's process for that time."""
    pids = [p for m in s.side(side) for p in m.qemus(GUEST)]
    s.notes += [] if pids else ["no process there"]
    kill_all(pids, signal.SIGSTOP)
    _wait(seconds)
    kill_all(pids, signal.SIGCONT)


def link(s: Scene, side: str, seconds: str) -> None:
    """Cut the machine's link to the other one."""
    for machine in s.side(side):
        s.arena.lab.cut(machine.placed)
    _wait(seconds)
    for machine in s.side(side):
        s.arena.lab.mend(machine.placed)


def guest(s: Scene, word: str) -> None:
    """The guest reboots, powers off, panics or hangs by itself."""
    s.control.sendall(f"{word}\n".encode())


def cancel(s: Scene) -> None:
    """``ldm cancel-operation migration``."""
    try:
        arguments = {"operation": "migration", "ldom": GUEST}
        call("cancel-operation", arguments, path=str(s.source.placed.socket), timeout_s=90)
        s.notes.append("cancelled")
    except Exception as refusal:
        s.notes.append(f"cancel: {refusal}")


def second(s: Scene) -> None:
    """A second migrate of the same domain: must be refused, and must not disturb the first."""
    words = s.source.migrate_words(GUEST, s.target)
    s.extra.append(("second", s.source.begin(*words)))


def crossing(s: Scene) -> None:
    """A bound domain is to go the opposite way meanwhile."""
    if not s.opposite:
        s.notes.append("the other domain is on the source: same way")
        s.extra.append(("along", s.source.begin(*s.source.migrate_words(OTHER, s.target))))
        return
    s.extra.append(("crossing", s.target.begin(*s.target.migrate_words(OTHER, s.source))))


def full(s: Scene, side: str, seconds: str) -> None:
    """The state's file system is full for that time."""
    (machine,) = s.side(side)
    with s.arena.full_disk(machine):
        _wait(seconds)


def power(s: Scene, side: str) -> None:
    """Power loss of a whole machine, and its next boot.

    Who has no power says no goodbye: the kernel's, for the processes, does not reach the other.
    """
    (machine,) = s.side(side)
    s.arena.lab.cut(machine.placed)
    s.arena.lose_power(machine)
    s.arena.lab.mend(machine.placed)
    s.arena.start_ldmd(machine)


def forever(s: Scene) -> None:
    """The target is lost, with its link, for as long as the migration needs to be over."""
    s.arena.lab.cut(s.target.placed)
    s.arena.lose_power(s.target)


def returned(s: Scene) -> None:
    """The end of ``forever``: a hand-over in doubt is taken back; then the target is back."""
    if GUEST in s.source.names() and s.source.row(GUEST)["flags"][5] == "e":
        # What the lost machine has run is lost; from now on there must be one copy again.
        s.arena.wire.forget()
        s.source.ldm("recover-domain", "-y", GUEST)
        s.notes.append("recovered")
    s.arena.lab.mend(s.target.placed)
    s.arena.start_ldmd(s.target)


def clock(s: Scene, side: str, seconds: str) -> None:
    """The wall clock of that side's ldmd steps, for the rest of the migration."""
    for machine in s.side(side):
        shim.set_clock(machine.placed.folder, int(seconds))


def true_clock(s: Scene) -> None:
    """The end of ``clock``."""
    for machine in (s.source, s.target):
        shim.set_clock(machine.placed.folder, 0)


def unstuck(s: Scene) -> None:
    """The end of a guest's hang: the operator sees where it is, stops it and starts it."""

    def homes() -> list[Machine]:
        return [m for m in (s.source, s.target) if GUEST in m.names()]

    def at_rest() -> bool:
        rows = [m.row(GUEST) for m in homes()]
        return len(rows) == 1 and rows[0]["state"] == "active" and rows[0]["flags"][5] == "-"

    eventually(at_rest, "the hung guest is on one machine", within=HANG_S)
    assert len([p for m in (s.source, s.target) for p in m.qemus(GUEST)]) == 1, "two processes"
    (home,) = homes()
    s.notes.append(f"hung on {'source' if home is s.source else 'target'}")
    home.ldm("stop-domain", "-f", GUEST)
    home.ldm("start-domain", GUEST)


def back(s: Scene) -> None:
    """The target sends it back as soon as it lists it: done, or refused in clear words."""
    s.extra.append(("back", s.target.begin(*s.target.migrate_words(GUEST, s.source))))


def none(_: Scene) -> None:
    """An undisturbed migration."""


FAULTS: dict[str, Callable[..., None]] = {
    "none": none,
    "ldmd-kill": ldmd_kill,
    "ldmd-stop": ldmd_stop,
    "qemu-kill": qemu_kill,
    "qemu-stop": qemu_stop,
    "link": link,
    "guest": guest,
    "cancel": cancel,
    "second": second,
    "crossing": crossing,
    "full": full,
    "power": power,
    "forever": forever,
    "clock": clock,
    "back": back,
}

AFTERWARDS: dict[str, Callable[[Scene], None]] = {
    "forever": returned,
    "clock": true_clock,
    "guest:hang": unstuck,
}
"""What ends a fault that lasts until ``ldm`` has answered."""


def apply(fault: str, scene: Scene) -> None:
    """Do it, wait for its time, heal it."""
    name, *rest = fault.split(":")
    FAULTS[name](scene, *rest)


def heal(fault: str, scene: Scene) -> None:
    """What is to be done when ``ldm`` has answered."""
    for name, end in AFTERWARDS.items():
        if f"{fault}:".startswith(f"{name}:"):
            end(scene)


def ready(scene: Scene, fault: str) -> None:
    """What must be known or open before the moment comes."""
    if fault == "crossing":
        scene.opposite = OTHER in scene.target.names()
    if fault.startswith("guest:"):
        to = (scene.arena.guest.address, CONTROL_PORT)
        scene.control = inside(CLIENT, lambda: socket.create_connection(to, timeout=10))


_JOURNAL = ("journal.db", "journal.db-wal")


def saved_journal(arena: Arena, machine: Machine, to: Path) -> None:
    """A copy of the journal.  ldmd holds it for itself alone, and is killed for the while."""
    kill_all([arena.lab.pid(machine.placed)], signal.SIGKILL)
    to.mkdir()
    for name in _JOURNAL:
        with suppress(FileNotFoundError):
            shutil.copy(machine.placed.folder / "state" / name, to)
    arena.start_ldmd(machine)


def restore_journal(arena: Arena, machine: Machine, backup: Path) -> None:
    """Yesterday's journal under an ldmd that starts; none may run before, if it was refused."""
    if pid := arena.lab.pid(machine.placed):
        kill_all([pid], signal.SIGKILL)
    state = machine.placed.folder / "state"
    for name in (*_JOURNAL, "journal.db-shm"):
        (state / name).unlink(missing_ok=True)
    for file in backup.iterdir():
        shutil.copy(file, state)
    arena.start_ldmd(machine)
