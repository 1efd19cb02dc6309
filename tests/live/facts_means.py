"""What the rows of facts use: the pair of machines, a table to enter facts in, and means."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from machines import Domain, Machine, World

from lodom.core.units import MIB

A, B = "dt90-319", "dt212-239"
VDS, VCC, VSW = "primary-vds0", "primary-vcc0", "primary-vsw0"
DISK: Final = 16 * MIB
INITRD: Final = Path(__file__).parents[2] / "build/guest/initrd"


@dataclass(frozen=True)
class Pair:
    """Two machines, and on the first a running domain that can move to the second."""

    world: World
    domain: Domain
    folder: Path

    @property
    def a(self) -> Machine:
        """The source."""
        return self.world.a

    @property
    def b(self) -> Machine:
        """The target."""
        return self.world.b


Change = Callable[[Pair], Iterator[None]]


@dataclass(frozen=True)
class Row:
    """One fact: the rules that speak of it, what they say, and whose move they forbid."""

    rules: tuple[str, ...]
    change: Callable[[Pair], AbstractContextManager[None]]
    lines: tuple[str, ...]
    name: str
    ldom: str
    severity: str
    options: tuple[str, ...]


ROWS: list[Row] = []


def row(
    rules: str, *lines: str, ldom: str = "ldg1", severity: str = "blocker", options: str = ""
) -> Callable[[Change], Change]:
    """Enter a fact under the rules that find it; *lines* is what they say, in this order."""

    def enter(change: Change) -> Change:
        entry = Row(
            tuple(rules.split()), contextmanager(change), lines, change.__name__, ldom, severity,
            tuple(options.split()),
        )  # fmt: skip
        ROWS.append(entry)
        return change

    return enter


# -- means --------------------------------------------------------------------------------------


@contextmanager
def bound(
    machine: Machine, *names: str, vcpus: int = 1, memory: str = "8M", mau: int = 0
) -> Iterator[None]:
    """Domains that hold strands and memory; *machine* is as before when they are gone."""
    try:
        for name in names:
            for words in (
                "add-domain",
                f"set-vcpu {vcpus}",
                f"set-memory {memory}",
                f"set-mau {mau}",
            ):
                machine.ldm(*words.split(), name)
            machine.ldm("bind-domain", name)
        yield
    finally:
        for name in names:
            removed(machine, name)


def removed(machine: Machine, name: str) -> None:
    """Take a domain away, in whatever state it is."""
    for words in ("stop-domain -f", "unbind-domain", "remove-domain"):
        machine.tried(*words.split(), name)


@contextmanager
def configured(machine: Machine, old: str, new: str) -> Iterator[None]:
    """The machine's ldmd under another machine.toml: the pattern *old* has become *new*."""
    file = machine.placed.folder / "machine.toml"
    before = file.read_text()
    changed, count = re.subn(old, new, before, flags=re.MULTILINE)
    assert count == 1, (old, before)
    file.write_text(changed)
    restarted(machine)
    try:
        yield
    finally:
        file.write_text(before)
        restarted(machine)


def restarted(machine: Machine) -> None:
    """Another ldmd on the same machine; guests run on."""
    machine.lab.stop(machine.placed)
    machine.start_ldmd()


@contextmanager
def exported(machine: Machine, backend: Path, *options: str) -> Iterator[None]:
    """The volume of ``ldg1`` leads to another back end."""
    name = f"ldg1@{VDS}"
    before = machine.lab.root / "ldg1.img"
    machine.ldm("remove-vdsdev", name)
    machine.ldm("add-vdsdev", "-f", *options, str(backend), name)
    try:
        yield
    finally:
        machine.ldm("remove-vdsdev", name)
        machine.ldm("add-vdsdev", "-f", str(before), name)


@contextmanager
def hidden(machine: Machine, path: Path, stand_in: Path) -> Iterator[None]:
    """The machine's ldmd sees another file at *path*: it has a mount namespace of its own."""
    inside = ["nsenter", f"--target={machine.lab.pid(machine.placed)}", "--mount", "--root"]
    subprocess.run([*inside, "mount", "--bind", stand_in, path], check=True)
    try:
        yield
    finally:
        subprocess.run([*inside, "umount", path], check=True)


def file_of(path: Path, size: int) -> Path:
    """A file of zeros."""
    path.touch()
    os.truncate(path, size)
    return path
