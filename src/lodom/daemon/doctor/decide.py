"""From facts to checks: what a fact means for Lodom, and the remedy."""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass

from lodom.core.units import MIB, format_size
from lodom.daemon.doctor.form import Check, State
from lodom.daemon.doctor.peer import PeerFacts, VolumeSeen
from lodom.host.accelerator import Verdict
from lodom.host.firewall import Firewall, traps
from lodom.host.probe import Feature

OLDEST_QEMU = (8, 2)
NEEDED = frozenset({"taps"})
"""Kernel features without which no domain has a network; the others are limits."""
DEVICES = (
    "pcie-root-port",
    "pvpanic-pci",
    "scsi-cd",
    "virtio-blk-pci",
    "virtio-crypto-pci",
    "virtio-net-pci",
    "virtio-scsi-pci",
    "virtio-serial-pci",
    "virtserialport",
)
"""What QEMU must know to run a domain with all that a domain can have."""
CLOCK_S = 5.0
"""A difference that makes histories and logs of two machines hard to lay side by side."""


def yes(name: str, found: str) -> Check:
    """All is well."""
    return Check(name, State.OK, found)


# -- this host ----------------------------------------------------------------------------------


def accelerator(wanted: str, found: Verdict | None, why: str) -> Check:
    """*found* is the verdict by booting; None and *why* where nothing boots at all."""
    name = "accelerator"
    if found is None:
        return Check(name, State.LACK, why, "apt install qemu-system-x86 (8.2 or newer)")
    if found.accelerator == "kvm":
        return yes(name, f"kvm: {found.reason}")
    words = f"software emulation: {found.reason}"
    if os.strerror(errno.EACCES) in found.reason:
        return Check(name, State.UNKNOWN, words, "run as root")
    if wanted == "kvm":
        remedy = 'set accelerator = "auto" in machine.toml, or make KVM work'
        return Check(name, State.LACK, f"machine.toml wants kvm; {words}", remedy)
    remedy = "switch virtualization on in the firmware, modprobe kvm_intel or kvm_amd"
    return Check(name, State.LIMIT, words, remedy)


def qemu(version: str, missing: Sequence[str]) -> Check:
    """*version* as QEMU says it, empty without one; *missing*: devices that Lodom uses."""
    remedy = "install QEMU 8.2 or newer (Debian 12: qemu-system-x86 from bookworm-backports)"
    if not version:
        return Check("QEMU", State.LACK, "qemu-system-x86_64 is not installed", remedy)
    numbers = tuple(int(n) for n in version.split(".")[:2] if n.isdigit())
    if numbers < OLDEST_QEMU:
        return Check("QEMU", State.LACK, f"{version} is too old", remedy)
    if missing:
        words = f"{version} lacks the devices {', '.join(missing)}"
        return Check("QEMU", State.LACK, words, "install qemu-system-x86 with all its modules")
    return yes("QEMU", f"{version} with all devices that Lodom uses")


@dataclass(frozen=True)
class MemoryFacts:
    """The memory of machine.toml, and of the host; bytes."""

    wanted: int
    page: int
    backing: str
    total: int
    available: int
    reserved: int = 0
    """Huge pages of that size that are free."""
    made: bool = False
    """The memory pool is there already."""
    supported: bool = True
    """The kernel has pages of that size."""


def memory(m: MemoryFacts) -> Check:
    """Whether the host can back what machine.toml promises."""
    name, wanted = "memory", _size(m.wanted)
    if not m.supported:
        words = f"machine.toml wants {m.backing}, which this kernel does not have"
        return Check(name, State.LACK, words, 'backing = "tmpfs" in section [memory]')
    if m.wanted > m.total:
        words = f"the machine is to have {wanted}, the host has {_size(m.total)}"
        return Check(name, State.LACK, words, "a smaller size in section [memory] of machine.toml")
    if m.made:
        return yes(name, f"the pool is made, on {m.backing}")
    can = m.available + m.reserved
    words = f"{wanted} on {m.backing}; {_size(can)} can be had now"
    if m.reserved:
        words += f", {_size(m.reserved)} of it reserved as huge pages"
    if can >= m.wanted:
        return yes(name, words)
    remedy = "keep the rest for primary (ldm set-memory SIZE primary), or free memory"
    if m.backing.startswith("hugetlb"):
        remedy += f"; reserve pages at boot: hugepagesz={format_size(m.page)} hugepages=" + str(
            m.wanted // m.page
        )
    return Check(name, State.LIMIT, words, remedy)


def _size(size: int) -> str:
    return format_size(size // MIB * MIB)


def feature(f: Feature) -> Check:
    """A feature of the kernel."""
    if f.present:
        return yes(f.name, f.why)
    return Check(f.name, State.LACK if f.name in NEEDED else State.LIMIT, f.why, f.remedy)


def firewall(fire: Firewall) -> list[Check]:
    """Each trap; that there is none; or that it cannot be known."""
    name = "firewall"
    found = [Check(name, State.LACK, trap.found, trap.remedy) for trap in traps(fire)]
    if found:
        return found
    if fire.unknown:
        return [Check(name, State.UNKNOWN, fire.unknown, "apt install nftables, run as root")]
    if fire.chains:
        words = "it drops what the host forwards; frames between guests and wire do not meet it"
        return [yes(name, words)]
    return [yes(name, "nothing drops the frames of guests")]


def users(backend: str, file: str, *, there: bool) -> Check:
    """Where passwords of incoming migrations are checked; *file* is what that needs."""
    name = "passwords"
    if there:
        return yes(name, f"by {backend}: {file}")
    remedy = "cp packaging/pam.d-lodom /etc/pam.d/lodom; ./install does it"
    if backend != "pam":
        remedy = "make the file, or set backend in section [auth]"
    return Check(name, State.LACK, f"backend {backend} needs {file}, which is not there", remedy)


def trust(peers: Sequence[str], why: str = "") -> Check:
    """The machines whose certificates were accepted."""
    if why:
        return Check("trust", State.UNKNOWN, why, "run as root")
    if peers:
        return yes("trust", f"certificates accepted: {', '.join(peers)}")
    words = "no other machine's certificate was accepted"
    return Check("trust", State.LIMIT, words, "ldm-setup trust HOST, on both machines")


@dataclass(frozen=True)
class Port:
    """Where ldmd is to listen; *key* of machine.toml says so, *why* it cannot."""

    where: str
    key: str
    why: str = ""


def ports(tried: Sequence[Port], *, root: bool) -> list[Check]:
    """Each that cannot be had while ldmd does not answer, to others than *root* perhaps."""
    name = "ports"
    lacking = [port for port in tried if port.why]
    if not lacking:
        return [yes(name, "those of ldmd can be had")]
    if not root:
        return [Check(name, State.UNKNOWN, f"{p.where}: {p.why}", "run as root") for p in lacking]
    who = "ss -ltnp names who has it"
    return [
        Check(name, State.LACK, f"{p.where}: {p.why}", f"{who}; or another {p.key} of machine.toml")
        for p in lacking
    ]


def running(name: str, why: str) -> Check:
    """Whether ldmd answers; *why* not."""
    if not why:
        return yes("ldmd", f"it serves machine {name}")
    return Check("ldmd", State.LIMIT, why, "systemctl start ldmd")


# -- another machine ----------------------------------------------------------------------------


def peer(f: PeerFacts, port: int, own: int) -> list[Check]:
    """What two machines need of each other; the first lack hides what it makes unknowable.

    *port*: the other one's ldmd; *own*: this one's.
    """
    who = f.host
    if f.reach:
        remedy = f"start ldmd there, let TCP port {port} through the firewalls of both"
        return [Check("peer", State.LACK, f.reach, remedy)]
    reached = yes("peer", f"{who} answers on port {port} with the certificate {f.fingerprint}")
    if f.unasked:
        words = f"only a TCP and TLS connection to {who} was tried: {f.unasked}"
        return [reached, Check("peer trust", State.UNKNOWN, words, f.remedy)]
    if f.trust:
        return [reached, Check("peer trust", State.LACK, f.trust, f"ldm-setup trust {who}")]
    if f.asked:
        remedy = f"on {who}: ldm-setup trust THIS-MACHINE; the same release on both"
        return [reached, Check("peer trust", State.LACK, f.asked, remedy)]
    words = f"{who} is machine {f.machine}, release {f.release}; each has accepted the other"
    return [
        reached,
        yes("peer trust", words),
        _way("from peer", f.back, f"{who} reaches ldmd here", f"TCP port {own} to this host"),
        _way("memory out", f.stream_out, f"memory can go to {who}", f"TCP 8101-8200 to {who}"),
        _way("memory in", f.stream_in, f"memory can come from {who}", "TCP 8101-8200 to this host"),
        _clock(f),
        *_volumes(f.volumes, who),
    ]


def _way(name: str, why: str, found: str, opened: str) -> Check:
    if not why:
        return yes(name, found)
    return Check(name, State.LACK, why, f"let {opened} through every firewall on the way")


def _clock(f: PeerFacts) -> Check:
    words = f"{f.host} is {abs(f.clock_s):.1f} s {'ahead' if f.clock_s > 0 else 'behind'}"
    if abs(f.clock_s) - f.doubt_s > CLOCK_S:
        remedy = "timedatectl set-ntp true, on both machines"
        return Check("clock", State.LIMIT, f"{words}: logs cannot be compared", remedy)
    return yes("clock", f"{words}, give or take {f.doubt_s:.1f} s")


def _volumes(volumes: Sequence[VolumeSeen], who: str) -> list[Check]:
    if not volumes:
        words = "no volume is exported here"
        return [Check("volumes", State.LIMIT, words, "ldm add-vdsdev BACKEND VOLUME@SERVICE")]
    return [_volume(v, who) for v in volumes]


def _volume(v: VolumeSeen, who: str) -> Check:
    name = f"volume {v.name}"
    if v.verdict == "same":
        return yes(name, f"the same storage on both: {v.why}")
    if v.verdict == "unknown":
        remedy = "compare by hand; on a file system with locks, or by WWN, it could be proved"
        return Check(name, State.UNKNOWN, f"not known to be the same on both: {v.why}", remedy)
    if v.verdict == "other":
        remedy = f"on {who}: export the same storage under this name"
        return Check(name, State.LACK, f"other storage on {who}: {v.why}", remedy)
    remedy = f"ldm add-vdsdev BACKEND {v.name}, on {who} if it is missing there"
    return Check(name, State.LIMIT, v.why, remedy)
