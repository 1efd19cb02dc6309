"""The machine of the 1.2 guide's chapter 9, and a stand-in for ldmd on a real Unix socket."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from stub_ldmd import StubLdmd

from lodom.core.model.devices import (
    BoundConsole,
    Concentrator,
    Console,
    DiskServer,
    Switch,
    Vdisk,
    Vnet,
    Volume,
)
from lodom.core.model.domain import Bindings, Block, Constraints, Domain, State, Vcpu
from lodom.core.model.host import Bus, CryptoUnit, Hypervisor, Machine, Region, Strand
from lodom.core.model.inventory import Freed, Inventory
from lodom.core.units import GIB, KIB, MIB

MACHINE = Machine(
    name="t1",
    instance="i1",
    processor="Test CPU",
    frequency_hz=1_200_000_000,
    strands=tuple(Strand(pid, pid // 4, pid % 2) for pid in range(8)),
    regions=(Region(0x4000000, 1 * GIB), Region(0x54000000, 8 * MIB)),
    page=8 * KIB,
    crypto=(CryptoUnit(0, 0), CryptoUnit(1, 1)),
    buses=(Bus("pci@780", "bus_a", "sysfs"), Bus("pci@7c0", "bus_b", "sysfs")),
    hypervisor=Hypervisor("10.0.2", "tcg", "KVM is not usable", firmware={"bios": "sha256:ab"}),
)
PRIMARY = Domain(
    uuid="u0",
    name="primary",
    mac="00:03:ba:d8:b1:46",
    hostid=0x83D8B146,
    state=State.ACTIVE,
    running_since=1_000,
    constraints=Constraints(vcpu=4, memory=768 * MIB, mau=1, io=("pci@780",)),
    bindings=Bindings(
        vcpus=tuple(Vcpu(i, i) for i in range(4)),
        blocks=(Block(0x4000000, 0x4000000, 768 * MIB),),
        crypto=(0,),
        io=("pci@780",),
    ),
)
LDG1 = Domain(
    uuid="u1",
    name="ldg1",
    mac="00:14:4f:fa:ed:88",
    hostid=0x84FAED88,
    state=State.BOUND,
    constraints=Constraints(
        vcpu=1,
        memory=256 * MIB,
        vdisks=(Vdisk("mydisk-a", "myvol-a", "vds0", 0), Vdisk("mydisk-b", "myvol-b", "vds0", 1)),
        vnets=(
            Vnet("mynet-b", "vsw0", "08:00:20:ab:9a:12", 0),
            Vnet("mynet-a", "vsw0", "08:00:20:ab:9a:11", 1, pvid=3, vids=(4, 5)),
        ),
        console=Console(service="vcc0", group="mygroup"),
        variables=(("boot-device", "/virtual-devices@100/disk@0:a"), ("auto-boot?", "false")),
        masters=("primary",),
    ),
    bindings=Bindings(
        vcpus=(Vcpu(0, 4),),
        blocks=(Block(0x4000000, 0x34000000, 256 * MIB),),
        console=BoundConsole("vcc0", "mygroup", 5000),
        held=(5,),
    ),
)
LDG2 = Domain(uuid="u2", name="ldg2", mac="00:14:4f:fa:00:02")
INVENTORY = Inventory(
    machine=MACHINE,
    domains={d.uuid: d for d in (LDG2, LDG1, PRIMARY)},
    vds={
        "vds0": DiskServer(
            "vds0",
            "primary",
            (
                Volume("myvol-a", "/disk/a", ("slice",)),
                Volume("myvol-b", "/disk/b"),
                Volume("myvol-c", "/disk/c", ("ro", "slice", "excl"), "mp1"),
            ),
        ),
        "vds1": DiskServer("vds1", "primary", (Volume("myvol-d", "/disk/d"),)),
    },
    vsw={"vsw0": Switch("vsw0", "primary", "08:00:20:aa:bb:e0", "e1000g0", mtu=1500)},
    vcc={"vcc0": Concentrator("vcc0", "primary", 5000, 5100)},
    dirty={"0x54000000": Freed(Region(0x54000000, 4 * MIB))},
)


@pytest.fixture
def inventory() -> Inventory:
    """Two domains of the guide, one without anything, a strand held back, memory being scrubbed."""
    return INVENTORY


@pytest.fixture
def emulated() -> Inventory:
    """The same machine with more strands than the host has CPUs."""
    return replace(INVENTORY, machine=replace(MACHINE, emulated=True))


@pytest.fixture
def ldmd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubLdmd]:
    """A stand-in for ldmd that ``LODOM_SOCKET`` points to."""
    path = str(tmp_path / "ldmd.sock")
    monkeypatch.setenv("LODOM_SOCKET", path)
    with StubLdmd(path) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
