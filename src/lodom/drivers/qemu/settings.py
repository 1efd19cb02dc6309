"""What the QEMU driver is told of its machine, once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Fixed for the life of ldmd."""

    emulator: str = "qemu-system-x86_64"
    accelerator: str = "tcg"
    """``tcg`` or ``kvm``: the verdict of the probe (DESIGN, section 4)."""
    accelerator_reason: str = ""
    tcg_threads: str = "auto"
    """Under ``tcg``: ``single``, ``multi`` (a thread a virtual CPU), or ``auto``, by version."""
    listen: str = "127.0.0.1"
    """Where incoming copies are taken when the order names no address."""
    ports: tuple[int, int] = (8101, 8200)
    """An incoming copy takes the first of these TCP ports that is free; both ends count."""
    users: range | None = None
    """User ids for hypervisor processes, one a guest.  None: they run as ldmd does."""
    service_cpus: Callable[[], tuple[int, ...]] = tuple
    """Host CPUs of all threads that are not virtual CPUs, as it is now; empty: not pinned."""
    aes: bool = False
    """The host's CPUs have AES instructions."""
    sandbox: bool = True
    firmware: Mapping[str, str] = field(default_factory=dict)
    """Firmware name to file, besides ``bios``, which QEMU brings along."""
    stores: Path | None = None
    """Folder of the guests' UEFI variable stores; none: they are kept beside their sockets."""
    launch_s: float = 60.0
    """Deadline for a new process to answer."""
    answer_s: float = 15.0
    """Deadline for one QMP answer."""
    agent_s: float = 30.0
    """A guest agent without a sign of life for so long is silent."""
