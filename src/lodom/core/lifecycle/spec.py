"""From a bound domain to what its hypervisor process is started with."""

from collections.abc import Iterable

from lodom.core.model.devices import MAX_DEVICES, Vdisk, Volume
from lodom.core.model.domain import Domain, Platform, Runtime
from lodom.core.model.guest import GuestDisk, GuestNic, GuestSpec
from lodom.core.model.inventory import Inventory

MAX_VCPUS = 64
"""Slots that a guest is made for, unless its machine has fewer strands."""


SPARE_DISKS, SPARE_NICS = 3, 1
"""Places for devices to come that a process has, as far as ``MAX_DEVICES`` allows.

Each costs some milliseconds of the time that a guest stands still when it moves.
"""


def ports(indexes: Iterable[int], spare: int) -> int:
    """How many ports a process gets whose devices have *indexes*."""
    return min(MAX_DEVICES, max(indexes, default=-1) + 1 + spare)


def platform(inventory: Inventory, domain: Domain) -> Platform:
    """The platform of a first start: versioned machine type, expanded CPU model, slots."""
    machine = inventory.machine
    wanted = domain.constraints.variable("machine-type")
    slots = min(len(machine.strands), MAX_VCPUS)
    return Platform(
        machine_type=wanted or machine.hypervisor.default_machine_type,
        cpu_model=domain.constraints.variable("cpu-model") or machine.hypervisor.cpu_model,
        max_vcpus=max(slots, len(domain.bound.vcpus)),
    )


def guest_spec(inventory: Inventory, domain: Domain, *, like: Runtime | None = None) -> GuestSpec:
    """The spec of a bound domain whose platform is set.

    ``like``: the process of the source, when this one is to take over its state: the same slots
    are plugged.  Otherwise one slot a strand.
    """
    bound = domain.bound
    assert bound.platform is not None, domain.name
    cpu = {s.pid: s.cpu for s in inventory.machine.strands}
    pinned = {v.vid: (cpu[v.pid],) for v in bound.vcpus}
    plugged = like.plugged if like else tuple(range(len(bound.vcpus)))
    everywhere = tuple(sorted({c for cpus in pinned.values() for c in cpus}))
    boot = domain.constraints.variable
    disks, nics = ([x.id for x in y] for y in (domain.constraints.vdisks, domain.constraints.vnets))
    return GuestSpec(
        uuid=domain.uuid,
        name=domain.name,
        platform=bound.platform,
        boot_vcpus=like.boot_vcpus if like else len(plugged),
        plugged=plugged,
        strands=tuple((vid, pinned.get(vid, everywhere)) for vid in plugged),
        blocks=tuple(sorted(bound.blocks)),
        disks=_disks(inventory, domain),
        nics=_nics(inventory, domain),
        firmware=boot("firmware") or "bios",
        kernel=boot("boot-kernel"),
        initrd=boot("boot-initrd"),
        kernel_args=boot("boot-args"),
        crypto=len(bound.crypto),
        crypto_ports=max(len(bound.crypto), like.crypto_ports if like else 0),
        disk_ports=like.disk_ports if like else ports(disks, SPARE_DISKS),
        nic_ports=like.nic_ports if like else ports(nics, SPARE_NICS),
    )


def boot_order(inventory: Inventory, domain: Domain) -> tuple[str, ...]:
    """Names of devices in the order in which the firmware tries them.

    ``boot-device`` names disks and network devices, or ``disk`` (the first that can be written),
    ``cdrom`` (the first CD), ``net`` (the first network device).  As in OpenBoot, a word that
    names nothing is passed over.  Disks that it does not name follow by their ids.
    """
    disks, nets = domain.constraints.vdisks, domain.constraints.vnets
    ordered = sorted(disks, key=lambda d: d.id)
    volumes = {d.name: volume for d in ordered if (volume := _volume(inventory, d))}
    classes = {
        "disk": [n for n, v in volumes.items() if not v.read_only],
        "cdrom": [n for n, v in volumes.items() if v.cdrom],
        "net": [n.name for n in sorted(nets, key=lambda n: n.id)],
    }
    known = {d.name for d in disks} | {n.name for n in nets}
    found = []
    for word in domain.constraints.variable("boot-device").split():
        found += [word] if word in known else classes.get(word, [])[:1]
    return tuple(dict.fromkeys([*found, *(d.name for d in ordered)]))


def _volume(inventory: Inventory, disk: Vdisk) -> Volume | None:
    server = inventory.vds.get(disk.server)
    return server.volume(disk.volume) if server else None


def _disks(inventory: Inventory, domain: Domain) -> tuple[GuestDisk, ...]:
    disks = []
    order = boot_order(inventory, domain)
    for disk in domain.constraints.vdisks:
        volume = inventory.vds[disk.server].volume(disk.volume)
        assert volume is not None, disk
        disks.append(
            GuestDisk(
                name=disk.name,
                index=disk.id,
                backend=volume.backend,
                read_only=volume.read_only,
                cdrom=volume.cdrom,
                boot=order.index(disk.name) + 1,
            )
        )
    return tuple(sorted(disks, key=lambda d: d.index))


def _nics(inventory: Inventory, domain: Domain) -> tuple[GuestNic, ...]:
    nics = []
    order = boot_order(inventory, domain)
    for vnet in domain.constraints.vnets:
        vsw = inventory.vsw[vnet.switch]
        mtu = vnet.mtu or vsw.mtu
        pvid = vnet.pvid or vsw.default_vlan
        boot = order.index(vnet.name) + 1 if vnet.name in order else 0
        nics.append(GuestNic(vnet.name, vnet.id, vnet.mac, vsw.name, mtu, pvid, vnet.vids, boot))
    return tuple(sorted(nics, key=lambda n: n.index))
