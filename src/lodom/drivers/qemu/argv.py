"""The command line of a guest's QEMU: a pure function of the guest's specification and its files.

Source and target of a migration must build the same machine, so everything the guest can see is a
function of the ``GuestSpec`` alone: block order, slots, PCI addresses, ids.
Source: QEMU's ``invocation.rst``; measured forms in docs/decisions.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lodom.core.errors import NotSupported
from lodom.core.model.guest import GuestDisk, GuestNic, GuestSpec
from lodom.drivers.qemu.firmware import UEFI
from lodom.drivers.qemu.settings import Settings

_RUN_WITH = (9, 0, 0)
"""Older ones have ``-runas`` instead of ``-run-with user=``."""
_SAFE_THREADS = (10, 1, 0)
"""Until then an emulated CPU could use a memory map that another one's change had just freed:
interrupts were lost, and QEMU died of ``iotlb_to_section: Assertion`` (decision 0013)."""
_PORTS_A_SLOT = 8
_ROM_SIZE = 0x40000
_FIRST_SLOT = {"disk": 0x08, "nic": 0x10, "crypto": 0x18}
_PLACES = {"disk": 64, "nic": 64, "crypto": 24}
MAX_PLACES = max(_PLACES.values())
"""Places of each class: eight functions on each of the PCI slots that the class owns."""


@dataclass(frozen=True)
class Paths:
    """Where one guest's sockets and console log lie."""

    qmp: str
    agent: str
    console: str
    console_log: str


@dataclass(frozen=True)
class Image:
    """How a disk's back end is opened, found out by ``images.inspect``."""

    protocol: dict[str, Any]
    """The protocol node without names, for instance ``{"driver": "file", "filename": …}``."""
    format: str = "raw"
    direct: bool = False


@dataclass(frozen=True)
class Launch:
    """All that a command line needs besides the specification.

    ``backing``, ``images`` and ``taps`` are in the order of the sorted blocks, disks and nics.
    """

    home: str
    paths: Paths
    backing: Sequence[tuple[str, int]]
    images: Sequence[Image]
    taps: Sequence[int]
    version: tuple[int, int, int]
    """Of the emulator."""
    incoming: bool = False
    user: int | None = None
    variables: str = ""
    """The file of the guest's UEFI variables."""


def arguments(spec: GuestSpec, launch: Launch, settings: Settings) -> list[str]:
    """The arguments, the emulator's name first.

    Raises:
        NotSupported: firmware that is not configured, or a device index without a place.
    """
    return [
        settings.emulator,
        *_process(spec, launch, settings),
        *_machine(spec, launch, settings),
        *_firmware(spec, launch, settings),
        *_cpus(spec),
        *_memory(spec, launch.backing),
        *_services(launch.paths),
        *_disks(spec, launch.images),
        *_nics(spec, launch.taps),
        *_crypto(spec, plugged=not launch.incoming),
        *(("-incoming", "defer") if launch.incoming else ()),
    ]


def _process(spec: GuestSpec, launch: Launch, settings: Settings) -> list[str]:
    """What kind of process it is.  Always ``-S``: only ``RunGuest`` sets a guest running."""
    name = f"guest={_escape(launch.home)},process=lodom-{_escape(spec.name)},debug-threads=on"
    args = ["-nodefaults", "-no-user-config", "-S", "-name", name, "-uuid", spec.uuid]
    args += ["-action", "reboot=reset,shutdown=pause,panic=pause", "-display", "none"]
    if launch.user is not None:
        ids = f"{launch.user}:{launch.user}"
        old = launch.version < _RUN_WITH
        args += ["-runas", ids] if old else ["-run-with", f"user={ids}"]
    if settings.sandbox:
        # elevateprivileges=deny kills QEMU in its own setuid (measured, 10.0.2).  Without
        # capabilities and with no_new_privs, which the filter sets, nothing is left to elevate to.
        elevate = "" if launch.user is not None else ",elevateprivileges=deny"
        args += ["-sandbox", f"on,obsolete=deny,spawn=deny,resourcecontrol=deny{elevate}"]
    return args


def _machine(spec: GuestSpec, launch: Launch, settings: Settings) -> list[str]:
    # graphics=off sends SeaBIOS and boot loaders to the serial console.
    machine = f"{spec.platform.machine_type},usb=off,vmport=off,dump-guest-core=off,graphics=off"
    accel = settings.accelerator
    if accel == "tcg":
        threads = "multi" if launch.version >= _SAFE_THREADS else "single"
        accel += f",thread={threads if settings.tcg_threads == 'auto' else settings.tcg_threads}"
    if spec.firmware == UEFI:
        machine += ",pflash0=firmware,pflash1=variables"
    args = ["-machine", machine, "-accel", accel, "-rtc", "base=utc"]
    if spec.kernel:
        args += ["-kernel", spec.kernel]
        args += ["-initrd", spec.initrd] if spec.initrd else []
        args += ["-append", spec.kernel_args] if spec.kernel_args else []
    return args


def _firmware(spec: GuestSpec, launch: Launch, settings: Settings) -> list[str]:
    """UEFI is two flash images: the code, which all guests share, and the guest's variables."""
    if spec.firmware not in settings.firmware:
        if spec.firmware == "bios":
            return []
        why = "this machine has no file for it; uefi comes with the package ovmf"
        raise NotSupported(what=f"firmware {spec.firmware}", why=why)
    code = settings.firmware[spec.firmware]
    if spec.firmware != UEFI:
        return ["-bios", code]
    args = []
    for node, path, fixed in (("firmware", code, True), ("variables", launch.variables, False)):
        file = {"driver": "file", "filename": path, "locking": "on"}
        image = {"driver": "raw", "node-name": node, "read-only": fixed, "file": file}
        args += ["-blockdev", json.dumps(image)]
    return args


def vcpu_device(cpu_model: str, slot: int) -> dict[str, Any]:
    """The properties of the hot-plugged virtual CPU *slot*; one socket, a core a slot.

    With NUMA nodes a plugged CPU must name its node (measured); all are in node 0.
    """
    return {
        "driver": f"{cpu_model.partition(',')[0]}-x86_64-cpu",
        "id": f"cpu{slot}",
        "socket-id": 0,
        "core-id": slot,
        "thread-id": 0,
        "node-id": 0,
    }


def _cpus(spec: GuestSpec) -> list[str]:
    most = spec.platform.max_vcpus
    smp = f"cpus={spec.boot_vcpus},maxcpus={most},sockets=1,cores={most},threads=1"
    args = ["-cpu", spec.platform.cpu_model, "-smp", smp]
    for slot in sorted(spec.plugged):
        if slot >= spec.boot_vcpus:
            args += ["-device", json.dumps(vcpu_device(spec.platform.cpu_model, slot))]
    return args


def _memory(spec: GuestSpec, backing: Sequence[tuple[str, int]]) -> list[str]:
    """Blocks by real address, one behind the other: a back end and a NUMA node each.

    The largest back end is made first.  When it looks for dirty pages under emulation, QEMU 10.0
    takes each block for one at offset 0 of all RAM; where the block there is smaller, it dies of
    ``tlb_reset_dirty_range_all: Assertion`` in the middle of a migration (measured).
    The pool is pre-faulted and scrubbed by its owner, so nothing is pre-allocated here.
    """
    blocks = sorted(spec.blocks)
    made: list[tuple[int, str]] = []
    nodes: list[str] = []
    for i, (block, (path, offset)) in enumerate(zip(blocks, backing, strict=True)):
        backend = {
            "qom-type": "memory-backend-file",
            "id": f"m{i}",
            "size": block.size,
            "mem-path": path,
            "offset": offset,
            "share": True,
            "prealloc": False,
        }
        cpus = f"cpus=0-{spec.platform.max_vcpus - 1}," if i == 0 else ""
        made.append((block.size, json.dumps(backend)))
        nodes += ["-numa", f"node,nodeid={i},{cpus}memdev=m{i}"]
    made.sort(key=lambda sized: -sized[0])
    objects = [word for _, backend in made for word in ("-object", backend)]
    return ["-m", f"size={sum(b.size for b in blocks) >> 10}k", *objects, *nodes]


def _services(paths: Paths) -> list[str]:
    """QMP, serial console, guest agent, panic notifier.

    A socket chardev without a client drops what the guest writes: the console never blocks it.
    """
    log = _escape(paths.console_log)
    agent = {"driver": "virtserialport", "chardev": "agent", "name": "org.qemu.guest_agent.0"}
    return [
        *("-chardev", f"socket,id=qmp,path={_escape(paths.qmp)},server=on,wait=off"),
        *("-mon", "chardev=qmp,mode=control"),
        *("-chardev", f"socket,id=console,path={_escape(paths.console)},server=on,wait=off,"
          f"logfile={log},logappend=on"),
        *("-serial", "chardev:console"),
        *("-device", '{"driver": "virtio-serial-pci", "id": "ports", "addr": "0x2"}'),
        *("-chardev", f"socket,id=agent,path={_escape(paths.agent)},server=on,wait=off"),
        *("-device", json.dumps({**agent, "id": "agent-port"})),
        *("-device", '{"driver": "pvpanic-pci", "addr": "0x3"}'),
    ]  # fmt: skip


def _disks(spec: GuestSpec, images: Sequence[Image]) -> list[str]:
    args = _ports("disk", [*range(spec.disk_ports), *(d.index for d in spec.disks)])
    for disk, image in zip(spec.disks, images, strict=True):
        for node in disk_nodes(disk, image):
            args += ["-blockdev", json.dumps(node)]
        for device in disk_devices(disk):
            args += ["-device", json.dumps(device)]
    return args


def disk_nodes(disk: GuestDisk, image: Image) -> tuple[dict[str, Any], dict[str, Any]]:
    """The nodes of a disk's back end: protocol, then format."""
    node = disk.place
    common = {
        "read-only": disk.read_only,
        "auto-read-only": False,
        "discard": "unmap",
        "cache": {"direct": image.direct, "no-flush": False},
    }
    below = {**image.protocol, **common, "node-name": f"{node}-file"}
    return below, {"driver": image.format, "file": f"{node}-file", **common, "node-name": node}


def disk_devices(disk: GuestDisk) -> list[dict[str, Any]]:
    """The device of a disk; a CD drive hangs on a controller that takes the disk's place."""
    node = disk.place
    place = {"bus": f"disk-port{disk.index}", "disable-legacy": "on"}
    medium = {
        "id": f"{node}-dev",
        "drive": node,
        "serial": disk.name[:20],
        "bootindex": disk.boot or disk.index + 1,
    }
    if not disk.cdrom:
        return [{"driver": "virtio-blk-pci", **medium, **place}]
    controller = {"driver": "virtio-scsi-pci", "id": f"{node}-scsi", "num_queues": 1, **place}
    return [controller, {"driver": "scsi-cd", **medium, "bus": f"{node}-scsi.0"}]


def _nics(spec: GuestSpec, taps: Sequence[int]) -> list[str]:
    args = _ports("nic", [*range(spec.nic_ports), *(n.index for n in spec.nics)])
    for nic, fd in zip(spec.nics, taps, strict=True):
        args += ["-netdev", f"tap,id={nic.place},fd={fd},vhost=off"]
        args += ["-device", json.dumps(nic_device(nic, spec.firmware))]
    return args


def nic_device(nic: GuestNic, firmware: str) -> dict[str, Any]:
    """The properties of a network device."""
    return {
        "driver": "virtio-net-pci",
        "id": f"{nic.place}-dev",
        "bus": f"nic-port{nic.index}",
        "netdev": nic.place,
        "mac": nic.mac,
        "host_mtu": nic.mtu,
        "disable-legacy": "on",
        **_boot_rom(nic, firmware),
    }


def _boot_rom(nic: GuestNic, firmware: str) -> dict[str, Any]:
    """A ROM only for who boots from the network, its size fixed: unequal ones stop a migration.

    UEFI has a driver of its own.
    """
    order = {"bootindex": nic.boot} if nic.boot else {}
    if not nic.boot or firmware != "bios":
        return {"romfile": "", **order}
    return {"romfile": "pxe-virtio.rom", "romsize": _ROM_SIZE, **order}


def crypto_device(index: int) -> dict[str, Any]:
    """The properties of crypto device *index*; its root port makes it removable."""
    return {
        "driver": "virtio-crypto-pci",
        "id": f"crypto{index}-dev",
        "bus": f"crypto-port{index}",
        "cryptodev": f"crypto{index}",
        "disable-legacy": "on",
    }


def crypto_backend(index: int) -> dict[str, Any]:
    """The properties of the back end of crypto device *index*."""
    return {"qom-type": "cryptodev-backend-builtin", "id": f"crypto{index}"}


def _crypto(spec: GuestSpec, *, plugged: bool) -> list[str]:
    """A root port for each crypto device; the devices themselves cannot move (``crypto``).

    Ports beyond the domain's units are ``idle``: ``crypto.plug`` passes over them.
    """
    args = _ports("crypto", range(max(spec.crypto, spec.crypto_ports)), used=spec.crypto)
    for i in range(spec.crypto) if plugged else ():
        args += ["-object", json.dumps(crypto_backend(i))]
        args += ["-device", json.dumps(crypto_device(i))]
    return args


def _ports(kind: str, indexes: Sequence[int], *, used: int = MAX_PLACES) -> list[str]:
    """A root port for each index at an address of its own; function 0 makes the others visible.

    From index *used* on they are called idle.

    Raises:
        NotSupported: an index beyond the last place.
    """
    args: list[str] = []
    first = {i - i % _PORTS_A_SLOT for i in indexes}
    for index in sorted({*indexes, *first}):
        if index >= _PLACES[kind]:
            raise NotSupported(what=f"{kind} {index}", why=f"the last place is {_PLACES[kind] - 1}")
        slot, function = address(kind, index)
        port = {
            "driver": "pcie-root-port",
            "id": f"{kind}-{'port' if index < used else 'idle'}{index}",
            "chassis": slot * _PORTS_A_SLOT + function,
            "slot": 0,
            "addr": f"{slot:#x}.{function:#x}",
            "multifunction": function == 0,
            # Modern devices need no I/O ports, and there are only 15 such windows.
            "io-reserve": 0,
        }
        args += ["-device", json.dumps(port)]
    return args


def address(kind: str, index: int) -> tuple[int, int]:
    """PCI slot and function of the port for a class and index: the same for ever."""
    slot, function = divmod(index, _PORTS_A_SLOT)
    return _FIRST_SLOT[kind] + slot, function


def _escape(text: str) -> str:
    """*text* as a value of a comma-separated option."""
    return text.replace(",", ",,")
