"""PCI buses and devices, from trees as /sys has them."""

from pathlib import Path

from lodom.core.model.host import Bus, PciDevice
from lodom.host import pci

BRIDGE = "pci0000:00/0000:00:01.0"
PHYSICAL = f"{BRIDGE}/0000:01:00.0"
VIRTUAL = f"{BRIDGE}/0000:01:10.0"
DISK = "pci0000:80/0000:80:1f.2"


def device(root: Path, path: str, kind: str, id: str, **links: str) -> None:
    """One device's folder; *links* point to a folder of that name."""
    folder = root / "sys/devices" / path
    folder.mkdir(parents=True)
    vendor, number = id.split(":")
    for name, text in (("class", kind), ("vendor", f"0x{vendor}"), ("device", f"0x{number}")):
        (folder / name).write_text(f"{text}\n")
    for name, target in links.items():
        (folder / name).symlink_to(Path("../../somewhere") / target)


def test_root_buses_are_named_in_address_order(tmp_path: Path) -> None:
    for name in ("pci0000:80", "pci0000:00", "pci0001:00"):
        (tmp_path / "sys/devices" / name).mkdir(parents=True)
    assert pci.buses(tmp_path) == (
        Bus("pci@0", "bus_a", "sysfs"),
        Bus("pci@80", "bus_b", "sysfs"),
        Bus("pci@100", "bus_c", "sysfs"),
    )


def test_devices_with_groups_behind_a_bridge_and_virtual_functions(tmp_path: Path) -> None:
    device(tmp_path, BRIDGE, "0x060400", "8086:6f02", driver="pcieport", iommu_group="1")
    device(tmp_path, PHYSICAL, "0x020000", "8086:1572", driver="i40e", iommu_group="7")
    device(tmp_path, VIRTUAL, "0x020000", "8086:154c", iommu_group="8", physfn="0000:01:00.0")
    device(tmp_path, DISK, "0x010601", "8086:2922", driver="ahci", iommu_group="9")
    one, other = pci.buses(tmp_path)
    assert one.devices == (
        PciDevice("0000:00:01.0", "bridge", "8086:6f02", "pcieport", "1"),
        PciDevice("0000:01:00.0", "network", "8086:1572", "i40e", "7"),
        PciDevice("0000:01:10.0", "network", "8086:154c", "", "8", virtual=True),
    )
    assert other.devices == (PciDevice("0000:80:1f.2", "storage", "8086:2922", "ahci", "9"),)


def test_devices_without_an_iommu_and_of_unknown_kinds(tmp_path: Path) -> None:
    device(tmp_path, "pci0000:00/0000:00:14.0", "0x0c0330", "8086:a12f", driver="xhci_hcd")
    device(tmp_path, "pci0000:00/0000:00:1c.0", "0xff0000", "1af4:1005")
    (bus,) = pci.buses(tmp_path)
    assert bus.devices == (
        PciDevice("0000:00:14.0", "usb", "8086:a12f", "xhci_hcd"),
        PciDevice("0000:00:1c.0", "other", "1af4:1005"),
    )


def test_the_devices_of_this_host_are_those_of_its_kernel() -> None:
    """Found in the tree of buses; the kernel has a flat list too."""
    listed = Path("/sys/bus/pci/devices")
    for bus in pci.buses():
        for found in bus.devices:
            kind = int((listed / found.address / "class").read_text(), 16) >> 16
            assert (found.kind == "network") == (kind == 2), found
