"""What a hypervisor driver needs to know of a domain to run it, with all names resolved."""

from dataclasses import dataclass

from lodom.core.model.domain import Block, Platform


@dataclass(frozen=True)
class GuestDisk:
    """One disk: ``index`` fixes its place on the guest's bus and so its name in the guest."""

    name: str
    index: int
    backend: str
    """A path, or a URL that the hypervisor opens itself."""
    read_only: bool = False
    cdrom: bool = False
    """A CD drive, not a disk."""
    boot: int = 0
    """Place in the order of devices that the firmware tries, from 1; 0: by ``index``."""

    @property
    def place(self) -> str:
        """Class and index: the stem of all its ids."""
        return f"disk{self.index}"


@dataclass(frozen=True)
class GuestNic:
    """One network device; ``index`` fixes its place on the guest's bus."""

    name: str
    index: int
    mac: str
    switch: str
    mtu: int = 1500
    pvid: int = 1
    vids: tuple[int, ...] = ()
    boot: int = 0
    """As of a disk; 0: it is not booted from."""

    @property
    def place(self) -> str:
        """Class and index: the stem of all its ids."""
        return f"nic{self.index}"


@dataclass(frozen=True)
class GuestSpec:
    """A domain as its hypervisor process is started.

    ``boot_vcpus`` and ``plugged`` describe virtual CPU slots: the process starts with slots
    0..boot_vcpus-1 and has the others of ``plugged`` added before the guest runs, so that a target
    has exactly the slots of its source.  ``strands`` maps slot to physical strand ids; a slot that
    is parked runs on the strands of the others.
    """

    uuid: str
    name: str
    platform: Platform
    boot_vcpus: int
    plugged: tuple[int, ...]
    strands: tuple[tuple[int, tuple[int, ...]], ...]
    """(slot, host CPUs its thread may use)."""
    blocks: tuple[Block, ...]
    disks: tuple[GuestDisk, ...] = ()
    nics: tuple[GuestNic, ...] = ()
    firmware: str = "bios"
    kernel: str = ""
    initrd: str = ""
    kernel_args: str = ""
    crypto: int = 0
    """Number of crypto devices plugged."""
    crypto_ports: int = 0
    """Ports for such devices: never fewer, and after a move as many as the source's process has."""
    disk_ports: int = 0
    """Ports for disks, from index 0, used or not; as of crypto devices in a move."""
    nic_ports: int = 0
