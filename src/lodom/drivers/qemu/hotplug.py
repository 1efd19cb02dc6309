"""Disks and network devices of a running guest: plugged into the ports that its process has free.

A process without privileges opens no volume: it gets the descriptor (``add-fd``, ``getfd``), as it
gets its taps at launch.  Source: QEMU's QMP reference; ``docs/pcie_pci_bridge.txt``.
"""

import asyncio
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog

from lodom.core import events as ev
from lodom.core.errors import LodomError, NotSupported
from lodom.core.model.guest import GuestDisk, GuestNic
from lodom.drivers.qemu import argv, images
from lodom.drivers.qemu.agent import AgentRefused, AgentSilent
from lodom.drivers.qemu.guest import Guest
from lodom.drivers.qemu.launch import OpenTap
from lodom.drivers.qemu.qmp import NoAnswer, Refused

_log = structlog.get_logger()
_UNPLUG_S = 10.0
_TAKE_S = 5.0
_PAUSE_S = 0.5
_DEVICE: Final = re.compile(r"((?:disk|nic)\d+)-dev$")
_QCOW2_BACKING: Final = slice(8, 16)
"""Where a qcow2 header says at which offset the name of the image below stands; 0: none."""

USERS = """
for b in /sys/block/*; do
  case "$(readlink -f "$b")" in *"/0000:00:$1/"*) ;; *) continue ;; esac
  d="${b##*/}"
  cat /proc/mounts /proc/swaps 2>/dev/null | while read -r dev where rest; do
    case "$dev" in "/dev/$d" | "/dev/$d"[0-9]*) echo "$dev is in use ($where)" ;; esac
  done
  for h in "$b"/holders/* "$b"/*/holders/*; do
    [ -e "$h" ] && echo "/dev/$d is held by ${h##*/}"
  done
  ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q -e "-> /dev/$d[0-9]*$" && echo "/dev/$d is open"
done
exit 0
"""
"""Shell for the guest: who uses the disk behind the port at PCI address $1, a line each."""


async def plug(guest: Guest, device: GuestDisk | GuestNic, firmware: str, tap: OpenTap) -> None:
    """Give the guest *device*.

    Raises:
        LodomError, OSError, Refused, NoAnswer: it has not got it; nothing is left of it.
    """
    await _clear(guest, device.place)  # what an order that was cut short has left
    try:
        if isinstance(device, GuestDisk):
            await _plug_disk(guest, device)
        else:
            await _plug_nic(guest, device, firmware, tap)
    except (LodomError, OSError, Refused, NoAnswer):
        with suppress(Refused, NoAnswer):
            await _remove(guest, device.place)
            await _clear(guest, device.place)
        raise


async def _plug_disk(guest: Guest, disk: GuestDisk) -> None:
    image = await asyncio.to_thread(images.inspect, disk)
    below, above = argv.disk_nodes(disk, image)
    path = image.protocol.get("filename")
    if path is None:
        await guest.execute("blockdev-add", below)
        await guest.execute("blockdev-add", above)
    else:
        fd = await asyncio.to_thread(_open, str(path), disk, image)
        try:
            files = await guest.hand(fd, "add-fd", {})
        finally:
            os.close(fd)
        try:
            named = {**below, "filename": f"/dev/fdset/{files['fdset-id']}"}
            await guest.execute("blockdev-add", named)
            await guest.execute("blockdev-add", above)
        finally:
            await guest.execute("remove-fd", {"fdset-id": files["fdset-id"]})
    for properties in argv.disk_devices(disk):
        await _add(guest, properties)


def _open(path: str, disk: GuestDisk, image: argv.Image) -> int:
    """The volume as QEMU wants it: an ``fdset`` is searched by access mode and O_DIRECT."""
    if image.format == "qcow2":
        with Path(path).open("rb") as file:
            if any(file.read(16)[_QCOW2_BACKING]):
                why = "it has images below it; stop the domain, add the disk, start it"
                raise NotSupported(what=f"Adding {path} to a running domain", why=why)
    access = os.O_RDONLY if disk.read_only else os.O_RDWR
    return os.open(path, access | os.O_CLOEXEC | (os.O_DIRECT if image.direct else 0))


async def _plug_nic(guest: Guest, nic: GuestNic, firmware: str, tap: OpenTap) -> None:
    fd = await tap(nic, guest.uuid)
    try:
        await guest.hand(fd, "getfd", {"fdname": nic.place})
    finally:
        os.close(fd)
    order = {"type": "tap", "id": nic.place, "fd": nic.place, "vhost": False}
    try:
        await guest.execute("netdev_add", order)
    except Refused:
        await guest.execute("closefd", {"fdname": nic.place})
        raise
    device = argv.nic_device(nic, firmware)
    await _add(guest, device)


async def _add(guest: Guest, properties: dict[str, Any]) -> None:
    """Another device may have its place in the boot order since the process started."""
    order = {key: value for key, value in properties.items() if key != "bootindex"}
    await guest.execute("device_add", order)


async def taken(guest: Guest, place: str) -> bool:
    """Whether a driver of the guest has set the device up, within ``_TAKE_S``; needs no agent."""
    with suppress(TimeoutError, Refused, NoAnswer):
        device = max({f"{place}-dev", f"{place}-scsi"} & await _devices(guest), default="")
        path = {"path": f"/machine/peripheral/{device}/virtio-backend"}
        async with asyncio.timeout(_TAKE_S):
            while True:
                status = (await guest.execute("x-query-virtio-status", path))["status"]
                if any(s.startswith("VIRTIO_CONFIG_S_DRIVER_OK") for s in status["statuses"]):
                    return True
                await guest.stirred(_PAUSE_S)
    return False


async def unplug(guest: Guest, place: str, *, force: bool) -> str:
    """Why the guest keeps the device at *place*; empty when it and what is behind it are gone.

    Raises:
        Refused, NoAnswer: QEMU said no, or nothing.
    """
    if not force and (users := await _users(guest, place)):
        return "; ".join(users)
    if why := await _remove(guest, place):
        return why
    await _clear(guest, place)
    return ""


async def _remove(guest: Guest, place: str) -> str:
    """Have the guest let go of a device, if it is there; why it does not."""
    mine = {f"{place}-dev", f"{place}-scsi"}
    if not (there := mine & await _devices(guest)):
        return ""
    guest.leaving[place] = ""
    try:
        await guest.execute("device_del", {"id": max(there)})  # a controller before its drive
        async with asyncio.timeout(_UNPLUG_S):
            while mine & await _devices(guest):
                if guest.leaving[place]:
                    return guest.leaving[place]
                await guest.stirred(_PAUSE_S)
    except TimeoutError:
        return f"its system did not let go within {_UNPLUG_S:.0f} s; if it does later, it is gone"
    finally:
        del guest.leaving[place]
    return ""


async def lost(guest: Guest, place: str) -> None:
    """The guest let a device go that no order waits for: it is taken out of the domain."""
    try:
        if f"{place}-scsi" in await _devices(guest):
            return  # its own news follows
        await _clear(guest, place)
    except (Refused, NoAnswer) as e:
        _log.warning("a device has gone", uuid=guest.uuid, place=place, reason=str(e))
    guest.post(ev.DeviceUnplugged(guest.uuid, place))


async def places(guest: Guest) -> tuple[str, ...]:
    """Where the guest has disks and network devices.

    Raises:
        Refused, NoAnswer: it is not known.
    """
    found = (_DEVICE.match(name) for name in await _devices(guest))
    return tuple(sorted(m[1] for m in found if m))


async def _devices(guest: Guest) -> set[str]:
    listed = await guest.execute("qom-list", {"path": "/machine/peripheral"})
    return {str(entry["name"]) for entry in listed}


async def _clear(guest: Guest, place: str) -> None:
    """Close what is behind a device that is gone: tap, or volume and its lock."""
    if place.startswith("nic"):
        with suppress(Refused):  # there is none
            await guest.execute("netdev_del", {"id": place})
        return
    nodes = await guest.execute("query-named-block-nodes", {"flat": True})
    names = {str(n.get("node-name")) for n in nodes} & {place, f"{place}-file"}
    for name in sorted(names):
        await guest.execute("blockdev-del", {"node-name": name})


async def _users(guest: Guest, place: str) -> list[str]:
    """Who uses a disk in the guest; empty where that cannot be known."""
    if not place.startswith("disk"):
        return []
    slot, function = argv.address("disk", int(place.removeprefix("disk")))
    try:
        await guest.need_agent()
        address = f"{slot:02x}.{function}"
        said = await guest.agent.run(["/bin/sh", "-c", USERS, "sh", address])
    except (AgentSilent, AgentRefused):
        return []
    return [line.strip() for line in said.splitlines() if line.strip()]
