"""What a machine is made of: strands in cores, regions of memory, crypto units, buses.

Facts about a host, read once at the start of ldmd and never changed by a command.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

RA_BASE = 0x8000000
"""Real address of a domain's first block unless the machine says otherwise."""

MAX_BLOCKS = 128
MAX_MEMORY = 1 << 46
"""Bytes that a domain can ask for: what the 46 address bits of a large x86-64 machine reach."""


@dataclass(frozen=True, order=True)
class Region:
    """``size`` bytes of the machine's memory from physical address ``base``, half open."""

    base: int
    size: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.base + self.size


@dataclass(frozen=True, order=True)
class Strand:
    """A CPU thread: physical id, the core it belongs to, the host CPU that runs it."""

    pid: int
    core: int
    cpu: int


@dataclass(frozen=True, order=True)
class CryptoUnit:
    """A crypto unit (MAU) and the core it belongs to."""

    id: int
    core: int


@dataclass(frozen=True, order=True)
class PciDevice:
    """One function of a PCI device of the host, as its kernel tells of it."""

    address: str
    """``0000:00:1f.2``."""
    kind: str
    """What it is for, in a word: ``network``, ``storage``, …"""
    id: str
    """Vendor and device, ``8086:2922``."""
    driver: str = ""
    """The driver of the host that uses it."""
    group: str = ""
    """Its IOMMU group: what can only be given away together; empty where there is no IOMMU."""
    virtual: bool = False
    """A virtual function (SR-IOV)."""


@dataclass(frozen=True, order=True)
class Bus:
    """An I/O bus that can be given to a domain; ``source`` is ``sysfs`` or ``declared``."""

    name: str
    pseudonym: str
    source: str = "declared"
    devices: tuple[PciDevice, ...] = ()
    """What is on it and behind its bridges; nothing on one that is declared."""


@dataclass(frozen=True)
class Hypervisor:
    """What the driver can run; compared between two machines by the L rules."""

    version: str = ""
    accelerator: str = "tcg"
    accelerator_reason: str = ""
    machine_types: tuple[str, ...] = ()
    default_machine_type: str = ""
    cpu_model: str = ""
    cpu_features: tuple[str, ...] = ()
    firmware: Mapping[str, str] = field(default_factory=dict)
    """Firmware name to digest, for instance ``{"bios": "sha256:…"}``."""


@dataclass(frozen=True)
class Machine:
    """One physical host under one ldmd, or a declared slice of it."""

    name: str
    instance: str
    processor: str
    frequency_hz: int | None
    strands: tuple[Strand, ...]
    regions: tuple[Region, ...]
    page: int
    crypto: tuple[CryptoUnit, ...] = ()
    buses: tuple[Bus, ...] = ()
    hypervisor: Hypervisor = field(default_factory=Hypervisor)
    ra_base: int = RA_BASE
    backing: str = "tmpfs"
    emulated: bool = False
    rules: str = "1.2"
    strict: bool = False
    vlans: bool = False
    """The kernel can filter VLANs on bridges."""
    vfio: str = ""
    """Why no real device can be given to a guest; empty where the host has VFIO."""
    uplinks: Mapping[str, str] = field(default_factory=dict)
    """The device behind each switch that is added without ``net-dev``."""

    def bus(self, name: str) -> Bus | None:
        """The I/O bus of that name or pseudonym."""
        return next((b for b in self.buses if name in (b.name, b.pseudonym)), None)

    def core_of(self, pid: int) -> int:
        """The core that strand *pid* belongs to."""
        return next(s.core for s in self.strands if s.pid == pid)

    def core_strands(self, core: int) -> tuple[int, ...]:
        """Physical ids of the strands of *core*, ascending."""
        return tuple(s.pid for s in self.strands if s.core == core)
