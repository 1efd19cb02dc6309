"""The two machines of the demonstration and the guest that moves between them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lodom.client.http import call
from lodom.core.model.host import Region
from lodom.core.units import GIB, MIB, format_size
from lodom.lab.demo.stage import DemoFault
from lodom.lab.lab import PASSWORD, Lab
from lodom.lab.topology import LabMachine, Placed, Topology

NAME, ADDRESS = "ldg1", "10.97.1.11"
GUEST, PRIMARY = 256 * MIB, 256 * MIB
_REST = 640 * MIB
"""What processes need besides the machines' memory."""


def topology(block: int) -> Topology:
    """The specification's example: a block that fits twice half, but not once whole."""
    low = Region(0x8000000, PRIMARY + GUEST)
    one = LabMachine("dt90-319", regions=(low, Region(0x208000000, block)), primary_memory=PRIMARY)
    halves = (Region(0x108000000, block // 2), Region(0x188000000, block // 2))
    two = LabMachine(
        "dt212-239", regions=(Region(0x8000000, PRIMARY), *halves), primary_memory=PRIMARY
    )
    return Topology((one, two))


def fitting(free: int) -> int:
    """The size of the example's block that the host has memory for: 2G as specified, or less.

    Raises:
        DemoFault: not even a small one.
    """
    for block in (2 * GIB, GIB, GIB // 2):
        # Twice that block, the guest on both sides of a move; the control domains' is not real.
        if 2 * block + 2 * GUEST + _REST <= free:
            return block
    need = GIB + 2 * GUEST + _REST
    raise DemoFault(f"{format_size(need)} of free memory are needed, {free // MIB}M are free")


@dataclass(frozen=True)
class World:
    """What the acts share."""

    lab: Lab
    block: int
    image: Path
    """Folder with the lab guest's vmlinuz and initrd."""

    @property
    def one(self) -> Placed:
        """Where the guest starts."""
        return self.lab.machine("dt90-319")

    @property
    def two(self) -> Placed:
        """Where it moves to."""
        return self.lab.machine("dt212-239")

    @property
    def volume(self) -> Path:
        """The guest's disk, on storage that both machines see."""
        return self.lab.root / "vol1.img"

    @property
    def secret(self) -> str:
        """The target user's password."""
        return PASSWORD

    @property
    def password_file(self) -> str:
        """The same in a file, for ``-p``."""
        return str(self.lab.root / "password")


def ask(p: Placed, verb: str, **arguments: Any) -> dict[str, Any]:
    """What ldmd of that machine answers, as a document."""
    return call(verb, arguments, path=str(p.socket))


def domain(p: Placed, name: str = NAME) -> dict[str, Any] | None:
    """The domain as that machine lists it, or None."""
    listed = ask(p, "list-domain")["domains"]
    return next((d for d in listed if d["name"] == name), None)


def copies(name: str = NAME) -> int:
    """Processes on this host that are that domain, on whichever machine."""
    found = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words[0].startswith(b"qemu-system") or b"/qemu-system" in words[0]:
            found += f"lodom.name={name} ".encode() in b" ".join(words) + b" "
    return found
