"""What a domain boots from: firmware, and the order of its devices."""

from dataclasses import replace

import pytest
from test_deeds import guest, served

from lodom.core.errors import InvalidValue
from lodom.core.lifecycle.spec import boot_order, guest_spec
from lodom.core.model.domain import Platform
from lodom.sim.world import World


@pytest.fixture
def host():
    host = served(World(seed=1).hosts["a"])
    host.ldm("add-vswitch", name="vsw0", ldom="primary")
    host.ldm(
        "add-vdiskserverdevice", backend="/x.ISO", volume="iso", service="vds0", options=["ro"]
    )
    host.ldm("add-vdiskserverdevice", backend="/y", volume="base", service="vds0", options=["ro"])
    guest(host, start=False)
    for name, volume in (("cd", "iso"), ("shared", "base"), ("vdisk0", "vol1")):
        host.ldm("add-vdisk", name=name, volume=volume, service="vds0", ldom="ldg1")
    host.ldm("add-vnet", name="vnet0", switch="vsw0", ldom="ldg1")
    return host


def order(host, words):
    host.ldm("set-variable", variables=[["boot-device", words]], ldom="ldg1")
    inventory = host.engine.inventory
    return boot_order(inventory, inventory.named("ldg1"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", ("cd", "shared", "vdisk0")),
        ("disk", ("vdisk0", "cd", "shared")),
        ("cdrom disk", ("cd", "vdisk0", "shared")),
        ("net vdisk0", ("vnet0", "vdisk0", "cd", "shared")),
        ("vdisk0 disk vdisk0", ("vdisk0", "cd", "shared")),
        ("/virtual-devices@100/channel-devices@200/disk@0:a shared", ("shared", "cd", "vdisk0")),
    ],
)
def test_boot_device_is_names_and_classes(host, words, expected):
    assert order(host, words) == expected


def test_the_hypervisor_is_told_the_order(host):
    order(host, "net disk")
    inventory = host.engine.inventory
    domain = inventory.named("ldg1")
    given = replace(domain.bound, platform=Platform("pc-q35-8.2", "Westmere-v1", 4))
    spec = guest_spec(inventory, replace(domain, bindings=given))
    assert {d.name: (d.boot, d.cdrom, d.read_only) for d in spec.disks} == {
        "cd": (3, True, True),
        "shared": (4, False, True),
        "vdisk0": (2, False, False),
    }
    assert [n.boot for n in spec.nics] == [1]


def test_firmware_that_the_machine_lacks_is_refused_when_it_is_set(host):
    with pytest.raises(InvalidValue, match="install the package ovmf"):
        host.ldm("set-variable", variables=[["firmware", "uefi"]], ldom="ldg1")
    with pytest.raises(InvalidValue, match="this machine has bios"):
        host.ldm("set-variable", variables=[["firmware", "openboot"]], ldom="ldg1")
    for value in ("bios", ""):
        host.ldm("set-variable", variables=[["firmware", value]], ldom="ldg1")
