"""What a domain boots from: UEFI whose variables move along, CDs, the order of devices, the net."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from machines import Domain, Machine, World, eventually
from terminal import Console

from conftest import ROOT
from lodom.drivers.qemu.firmware import TEMPLATE, installed
from lodom.lab.watch import Heartbeats

pytestmark = pytest.mark.live

Make = Callable[..., Domain]


def stores(machine: Machine) -> dict[str, bytes]:
    """The UEFI variable stores of a machine, those of earlier domains too."""
    return {f.name: f.read_bytes() for f in (machine.placed.folder / "state/uefi").glob("*.fd")}


def test_uefi_variables_move_with_the_domain(world: World, domains: Make) -> None:
    """Running: with the memory.  Stopped: with the reservation.  Unknown firmware is refused."""
    if not installed():
        pytest.skip("UEFI needs the package ovmf")
    a, b = world.a, world.b
    made = domains("ldg1")
    said = a.tried("set-variable", "firmware=openboot", "ldg1")
    assert (said.code != 0, "this machine has bios, uefi" in said.err) == (True, True), said
    a.ldm("set-variable", "firmware=uefi", "ldg1")
    earlier = set(stores(a))
    with Heartbeats() as beats:
        boot = made.start(beats)
        with Console(a, "ldg1") as console:
            console.asked("ls /sys/firmware/efi", r"\nconfig_table.*runtime")
        (name,) = set(stores(a)) - earlier
        written = stores(a)[name]
        assert written != TEMPLATE.read_bytes()
        a.migrate("ldg1", b)
        assert stores(b)[name] == written
        eventually(lambda: b.has_up("ldg1"), "the agent over there")
        assert beats.boots("ldg1") == [boot]
    b.ldm("stop-domain", "-f", "ldg1")
    (a.placed.folder / "state/uefi" / name).unlink()
    b.ldm(*b.migrate_words("ldg1", a))
    assert stores(a)[name] == written
    a.ldm("start-domain", "ldg1")


@pytest.fixture
def cds(world: World, guest: tuple[Path, Path], tmp_path: Path) -> list[str]:
    """Two bootable CDs, exported on the first machine; the guest says which one it booted."""
    missing = [p for p in ("genisoimage", "apt-get") if not shutil.which(p)]
    if missing:
        pytest.skip(f"a boot CD needs {', '.join(missing)}: tools/setup.sh --debian")
    names = ["cd1", "cd2"]
    for name in names:
        file = tmp_path / f"{name}.iso"
        words = (
            f"console=ttyS0 quiet no_timer_check lodom.name={name} lodom.ip=10.97.1.60/24 "
            "lodom.heartbeat=10.97.1.254:7999"
        )
        order = [ROOT / "guest/iso.sh", file, *words.split()]
        subprocess.run(order, check=True)
        world.a.ldm("add-vdsdev", "options=ro", str(file), f"{name}@primary-vds0")
    return names


@pytest.mark.long
def test_an_installation_boots_from_cd_and_the_order_decides(
    world: World, cds: list[str], domains: Make
) -> None:
    """An empty disk is passed over for the CD; ``boot-device`` names another one."""
    a = world.a
    domains("ldg1", disk=16 << 20)
    a.ldm("remove-variable", "boot-kernel", "boot-initrd", "boot-args", "ldg1")
    for name in cds:
        a.ldm("add-vdisk", name, f"{name}@primary-vds0", "ldg1")
    a.ldm("bind-domain", "ldg1")
    with Heartbeats() as beats:
        for order, booted in (("disk cdrom", "cd1"), ("cd2 disk", "cd2")):
            a.ldm("set-variable", f"boot-device={order}", "ldg1")
            a.ldm("start-domain", "ldg1")
            beats.first(booted, within=60)
            a.ldm("stop-domain", "-f", "ldg1")
        assert len(beats.boots("cd1")) == len(beats.boots("cd2")) == 1


def test_the_network_is_tried_first_when_it_is_named_first(world: World, domains: Make) -> None:
    """The boot ROM runs; nobody answers it here."""
    a = world.a
    domains("ldg1")
    a.ldm("remove-variable", "boot-kernel", "boot-initrd", "boot-args", "ldg1")
    a.ldm("set-variable", "boot-device=net", "ldg1")
    a.ldm("bind-domain", "ldg1")
    with Console(a, "ldg1") as console:
        a.ldm("start-domain", "ldg1")
        console.until("iPXE .*net0", within=60)
    a.migrate("ldg1", world.b)
