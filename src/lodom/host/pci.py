"""The host's PCI buses and what is on them, read from /sys.

Source: the kernel's ABI documents sysfs-bus-pci and sysfs-kernel-iommu_groups; PCI class codes.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lodom.core.model.host import Bus, PciDevice

ROOT = Path("/")
_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_KINDS: Final = {
    0x01: "storage", 0x02: "network", 0x03: "display", 0x04: "multimedia", 0x05: "memory",
    0x06: "bridge", 0x07: "serial", 0x0C: "serial", 0x10: "crypto", 0x12: "accelerator",
}  # fmt: skip
"""By the base class; ``other`` else."""
_USB = 0x0C03
_ID = ("vendor", "device")


def buses(root: Path = ROOT) -> tuple[Bus, ...]:
    """The PCI root buses: ``pci@0`` with pseudonym ``bus_a`` and so on, in address order."""
    found = sorted((root / "sys/devices").glob("pci*:*"), key=_number)
    return tuple(
        Bus(f"pci@{_number(path):x}", f"bus_{_letters(i)}", "sysfs", tuple(sorted(_devices(path))))
        for i, path in enumerate(found)
    )


def _number(bus: Path) -> int:
    """Of ``pciDOMAIN:BUS``."""
    domain, number = (int(part, 16) for part in bus.name[3:].split(":"))
    return domain << 8 | number


def _devices(folder: Path) -> Iterator[PciDevice]:
    """Those of a bus, and of the buses behind its bridges."""
    for path in folder.iterdir():
        if not _ADDRESS.fullmatch(path.name):
            continue
        number = int(_text(path / "class") or "0", 16) >> 8
        yield PciDevice(
            address=path.name,
            kind="usb" if number == _USB else _KINDS.get(number >> 8, "other"),
            id=":".join(_text(path / name).removeprefix("0x") for name in _ID),
            driver=_linked(path / "driver"),
            group=_linked(path / "iommu_group"),
            virtual=(path / "physfn").is_symlink(),
        )
        yield from _devices(path)


def _letters(index: int) -> str:
    """a, b, … z, aa, ab, …"""
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def _linked(path: Path) -> str:
    """The name of what the link points to, empty without one."""
    try:
        return path.readlink().name
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
