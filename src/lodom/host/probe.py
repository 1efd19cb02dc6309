"""What this kernel can, asked once, each answer with its remedy."""

import os
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path

from lodom.core.errors import LodomError
from lodom.host import cgroup, net


@dataclass(frozen=True)
class Feature:
    """One feature of the kernel.  *why* says what was found; *remedy* is empty when present."""

    name: str
    present: bool
    why: str
    remedy: str = ""


async def features() -> tuple[Feature, ...]:
    """All that Lodom can use, in the order that ``ldmd --doctor`` shows.  Changes nothing."""
    return (
        await _network("VLAN filtering", net.can_filter_vlans(), "CONFIG_BRIDGE_VLAN_FILTERING"),
        await _network("802.1Q", net.can_tag_vlans(), "CONFIG_VLAN_8021Q, module 8021q"),
        taps(),
        vfio(),
        huge_pages(),
        control_groups(),
    )


async def _network(name: str, probing: Awaitable[bool], needs: str) -> Feature:
    try:
        can = await probing
    except LodomError as refused:
        return Feature(name, False, str(refused), "run as root")
    if can:
        return Feature(name, True, "a scratch device was made")
    return Feature(name, False, "the kernel refused a scratch device", f"a kernel with {needs}")


def taps(root: Path = Path("/")) -> Feature:
    """Network devices of guests."""
    if (root / "dev/net/tun").exists():
        return Feature("taps", True, "/dev/net/tun is there")
    return Feature("taps", False, "there is no /dev/net/tun", "modprobe tun")


def vfio(root: Path = Path("/")) -> Feature:
    """Giving a PCI device to a guest needs VFIO and an IOMMU."""
    if not (root / "dev/vfio/vfio").exists():
        return Feature("VFIO", False, "there is no /dev/vfio/vfio", "modprobe vfio-pci")
    groups = root / "sys/kernel/iommu_groups"
    if not groups.is_dir() or not any(groups.iterdir()):
        remedy = "switch the IOMMU on in the firmware, and intel_iommu=on on the kernel's line"
        return Feature("VFIO", False, "no IOMMU groups", remedy)
    return Feature("VFIO", True, f"{len(list(groups.iterdir()))} IOMMU groups")


def huge_pages(root: Path = Path("/")) -> Feature:
    """Page sizes that the memory pool can be made of."""
    base = root / "sys/kernel/mm/hugepages"
    sizes = sorted(int(p.name.split("-")[1][:-2]) for p in base.glob("hugepages-*kB"))
    if not sizes:
        remedy = "a kernel with CONFIG_HUGETLBFS; until then the pool is on tmpfs"
        return Feature("huge pages", False, "none in /sys/kernel/mm/hugepages", remedy)
    return Feature("huge pages", True, ", ".join(f"{size >> 10}M" for size in sizes))


def control_groups() -> Feature:
    """A group for each guest."""
    found = cgroup.flavour()
    remedy = "" if found.kind != "none" else "mount -t cgroup2 none /sys/fs/cgroup"
    return Feature("control groups", found.kind != "none", found.reason, remedy)


def kvm_device() -> str:
    """Why /dev/kvm cannot be used; empty when it can be tried."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as refused:
        return f"/dev/kvm: {refused.strerror}"
    return ""
