"""Disks and network devices of a running domain come and go; it moves with them; nothing is left.

What the guest has is asked on its console; taps, locks and written bytes are looked at on the host.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machines import Domain, Machine, Said, World, eventually
from terminal import Console

from lodom.core.commands.devices import BOOT_S
from lodom.core.units import MIB
from lodom.lab.watch import Heartbeats

pytestmark = pytest.mark.live

Make = Callable[..., Domain]
SERVICE = "primary-vds0"


@pytest.fixture
def volume(world: World, tmp_path: Path) -> Iterator[Path]:
    """A volume on both machines, named ``extra``."""
    path = tmp_path / "extra.img"
    path.touch()
    os.truncate(path, 16 * MIB)
    for machine in (world.a, world.b):
        machine.ldm("add-vdsdev", str(path), f"extra@{SERVICE}")
    yield path
    for machine in (world.a, world.b):
        machine.tried("remove-vdsdev", f"extra@{SERVICE}")


def has(machine: Machine, ldom: str, disks: str, nics: str) -> None:
    """The guest sees these block devices and network interfaces, in the end."""

    def there() -> bool:
        ask = "cd /sys/block; echo [$(ls -d vd*)] [$(ls /sys/class/net | grep eth)]"
        found = console.asked(ask, r"\n\[([^]$]*)\] \[([^]$]*)\]")
        return (found[1], found[2]) == (disks, nics)

    with Console(machine, ldom) as console:
        eventually(there, f"{disks} and {nics} in the guest")


def taps(machine: Machine) -> int:
    """How many taps are in bridges of the machine."""
    show = ["ip", "-n", machine.placed.namespace, "-o", "link", "show"]
    listed = subprocess.run(show, check=True, capture_output=True, text=True).stdout
    return sum(": lt-" in line and " master " in line for line in listed.splitlines())


def users(path: Path) -> list[str]:
    """The processes that have the file open."""
    found = []
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.path.samestat(fd.stat(), path.stat()):
                found.append(fd.parts[2])
        except OSError:
            continue
    return sorted(set(found))


def test_devices_of_a_running_domain(world: World, domains: Make, volume: Path) -> None:
    """Added, written to, moved, kept over a restart of ldmd, removed."""
    a, b = world.a, world.b
    made = domains("ldg1")
    with Heartbeats() as beats:
        boot = made.start(beats)
        a.ldm("add-vdisk", "data", f"extra@{SERVICE}", "ldg1")
        a.ldm("add-vnet", "vnet1", "primary-vsw0", "ldg1")
        has(a, "ldg1", "vda", "eth0 eth1")
        assert (taps(a), len(users(volume))) == (2, 1)
        with Console(a, "ldg1") as console:
            write = "echo mark | dd of=/dev/vda conv=sync,fsync bs=512 2>/dev/null && echo do''ne"
            console.asked(write, r"\ndone")
        assert volume.read_bytes()[:5] == b"mark\n"
        a.migrate("ldg1", b)
        assert (taps(a), taps(b), len(users(volume))) == (0, 2, 1)
        has(b, "ldg1", "vda", "eth0 eth1")
        b.kill_ldmd()
        b.start_ldmd()
        eventually(lambda: b.has_up("ldg1"), "the agent is met again")
        with Console(b, "ldg1") as console:
            console.asked("exec 9</dev/vda; echo op''en", r"\nopen")
        said, before = b.tried("remove-vdisk", "data", "ldg1"), b.state()
        assert (said.code != 0, "ldg1 keeps data: /dev/vda is open" in said.err) == (True, True)
        assert b.state() == before
        with Console(b, "ldg1") as console:
            console.asked("exec 9<&-; echo clo''sed", r"\nclosed")
        b.ldm("remove-vdisk", "data", "ldg1")
        b.ldm("remove-vnet", "vnet1", "ldg1")
        has(b, "ldg1", "", "eth0")
        assert (taps(b), users(volume)) == (1, [])
        assert beats.boots("ldg1") == [boot]


@pytest.mark.long
def test_a_guest_without_an_agent(world: World, domains: Make, volume: Path) -> None:
    """Its boot over, it gets devices and lets them go; that no driver took one is told."""
    a = world.a
    add = ("add-vdisk", "data", f"extra@{SERVICE}", "ldg1")
    with Heartbeats() as beats:
        boot = domains("ldg1").start(beats)
        with Console(a, "ldg1") as console:
            silence = "mount --bind /bin/false /sbin/agent; killall qemu-ga; echo qui''et"
            console.asked(silence, r"\nquiet")
        eventually(lambda: not a.has_up("ldg1"), "flag t")
        tries = [a.tried(*add)]
        while tries[-1].code and "may be booting" in tries[-1].err:
            eventually(lambda: int(a.row("ldg1")["uptime"]) >= BOOT_S, "age", within=BOOT_S)
            tries.append(a.tried(*add))
        assert tries[-1] == Said(0, "", "")
        has(a, "ldg1", "vda", "eth0")
        a.ldm("remove-vdisk", "data", "ldg1")
        has(a, "ldg1", "", "eth0")
        assert users(volume) == []
        with Console(a, "ldg1") as console:
            console.asked("rmmod virtio_blk; echo go''ne", r"\ngone")
        said = a.tried(*add)
        assert (said.code, "has not taken data yet" in said.err) == (0, True), said
        a.ldm("remove-vdisk", "data", "ldg1")
        assert (users(volume), beats.boots("ldg1")) == ([], [boot])


def test_a_running_domain_refuses_what_it_cannot_have(
    world: World, domains: Make, volume: Path
) -> None:
    """A volume that is away, a place that its process has not: by name, and nothing has changed."""
    a = world.a
    made = domains("ldg1")
    with Heartbeats() as beats:
        made.start(beats)
        before = a.state()
        said = a.tried("add-vdisk", "id=23", "data", f"extra@{SERVICE}", "ldg1")
        assert "places for ids below 3; stop and start it" in said.err, said
        said = a.tried("set-vnet", "mtu=9000", "vnet0", "ldg1")
        assert "mtu of vnet0 changes only while it is stopped" in said.err, said
        volume.rename(volume.with_suffix(".away"))
        said = a.tried("add-vdisk", "data", f"extra@{SERVICE}", "ldg1")
        assert (said.code != 0, str(volume) in said.err) == (True, True), said
        assert a.state() == before
        volume.with_suffix(".away").rename(volume)
        a.ldm("add-vdisk", "data", f"extra@{SERVICE}", "ldg1")
        a.ldm("stop-domain", "-f", "ldg1")
        assert users(volume) == []
        made.start(beats)
        has(a, "ldg1", "vda", "eth0")
