"""A control group for each guest, so that it outlives ldmd's own and can be seen as one thing.

Under systemd a guest gets a scope, as its rules on one writer ask for; elsewhere a directory in
the unified hierarchy, or in the freezer's of version 1.  A host with none of these works too.
"""

import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lodom.core.errors import StepFailed

ROOT = Path("/")
BUS_S = 5.0
"""systemd has this long to answer: nothing else is done meanwhile."""


@dataclass(frozen=True)
class Flavour:
    """How this host groups processes: ``systemd``, ``v2``, ``v1`` or ``none``, and why."""

    kind: str
    reason: str
    base: Path | None = None


def flavour(root: Path = ROOT) -> Flavour:
    """What guests are grouped with on this host."""
    if (root / "run/systemd/system").is_dir():
        return Flavour("systemd", "systemd runs this host: a scope for each guest")
    mounts = re.findall(
        r"^\S+ (\S+) (cgroup2?) (\S+)", _text(root / "proc/self/mounts"), re.MULTILINE
    )
    for path, kind, _ in mounts:
        if kind == "cgroup2":
            return Flavour("v2", f"the unified hierarchy at {path}", _under(root, path))
    for path, _, options in mounts:
        if "freezer" in options.split(","):
            return Flavour("v1", f"version 1, the freezer at {path}", _under(root, path))
    return Flavour("none", "no control groups are mounted: guests share the group of ldmd")


def adopt(machine: str, uuid: str, pid: int, on: Flavour) -> str:
    """Move a process into the group of its guest; the group's name, empty if there is none.

    Raises:
        StepFailed: systemd or the kernel refused.
    """
    if on.kind == "systemd":
        return _scope(uuid, pid)
    if not on.base:
        return ""
    group = _group(on.base, machine, uuid)
    try:
        group.mkdir(parents=True, exist_ok=True)
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as refused:
        release(machine, uuid, on)
        raise StepFailed(what=f"making group {group}", reason=str(refused.strerror)) from refused
    return str(group)


def members(machine: str, uuid: str, on: Flavour) -> tuple[int, ...]:
    """The processes in a guest's group."""
    if not on.base:
        return ()
    return tuple(int(pid) for pid in _text(_group(on.base, machine, uuid) / "cgroup.procs").split())


def release(machine: str, uuid: str, on: Flavour) -> None:
    """Remove a guest's group, and the machine's with the last one.  Safe to repeat.

    A group with processes stays; a scope of systemd goes by itself with its last process.
    """
    if on.base:
        group = _group(on.base, machine, uuid)
        for path in (group, group.parent, group.parent.parent):
            with suppress(OSError):
                path.rmdir()


def _group(base: Path, machine: str, uuid: str) -> Path:
    return base / "lodom" / machine / uuid


def _scope(uuid: str, pid: int) -> str:
    """org.freedesktop.systemd1.Manager.StartTransientUnit, named anew for each process.

    ``Before``: when the host goes down systemd ends it only after the guests were stopped in order.
    """
    unit = f"lodom-{uuid}-{pid}.scope"
    properties = (
        ("PIDs", "au", "1", str(pid)),
        ("Slice", "s", "lodom.slice"),
        ("CollectMode", "s", "inactive-or-failed"),
        ("Before", "as", "1", "lodom-guests.service"),
    )
    words = [word for one in properties for word in one]
    try:
        done = subprocess.run(
            ["busctl", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
             "org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))",
             unit, "fail", str(len(properties)), *words, "0"],
            capture_output=True, text=True, timeout=BUS_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepFailed(what=f"making {unit}", reason=str(error)) from error
    if done.returncode:
        raise StepFailed(what=f"making {unit}", reason=done.stderr.strip())
    return unit


def _under(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
