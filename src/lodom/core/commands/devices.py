"""Virtual devices of a domain: disks, network devices, console settings."""

from collections.abc import Iterable
from dataclasses import replace

from lodom.core.commands.domains import given_mac, new_mac
from lodom.core.commands.form import Step, command, done, guest
from lodom.core.commands.services import check_mtu, check_vlans, server, switch
from lodom.core.effects import PlugDevice, UnplugDevice
from lodom.core.errors import AlreadyExists, InUse, InvalidValue, ObjectUnknown, WrongState
from lodom.core.events import CommandGiven
from lodom.core.lifecycle import devices
from lodom.core.lifecycle.spec import guest_spec
from lodom.core.model.devices import MAX_DEVICES, Console, Vdisk, Vnet
from lodom.core.model.domain import Constraints, Domain, State
from lodom.core.model.guest import GuestDisk, GuestNic
from lodom.core.model.inventory import Inventory

BOOT_S = 60
"""So long after its start a guest without an answering agent counts as one that boots."""


def _idle(domain: Domain) -> Domain:
    """The domain, if its devices may change now.

    Raises:
        WrongState: it is not inactive or bound.
    """
    if domain.state not in (State.INACTIVE, State.BOUND):
        raise WrongState(
            name=domain.name, why=f"is {domain.state}; this changes only while it is stopped"
        )
    return domain


def _steady(domain: Domain) -> Domain:
    """The domain, if devices may be added and removed now.

    Raises:
        WrongState: it is between two states.
    """
    if domain.state is State.ACTIVE and domain.runtime:
        return domain
    return _idle(domain)


def _changed(inventory: Inventory, order: CommandGiven, domain: Domain, place: str) -> Step:
    """The step after which the domain has, or has not, the device at *place*.

    A running guest gets it or lets it go first; until then its volume, MAC and id stay taken.

    Raises:
        WrongState: the process has no port there, what it boots from would change, or it boots.
    """
    before = inventory.domains[domain.uuid]
    if before.state is not State.ACTIVE or before.runtime is None:
        return done(inventory.with_domain(domain), order)
    room = before.runtime.disk_ports if place.startswith("disk") else before.runtime.nic_ports
    if int(place.removeprefix("disk").removeprefix("nic")) >= room:
        why = f"was started with places for ids below {room}" if room else (
            "was started by an earlier release, which left no places for changes"
        )  # fmt: skip
        raise WrongState(name=domain.name, why=f"{why}; stop and start it, then repeat")
    old, new = guest_spec(inventory, before), guest_spec(inventory.with_domain(domain), domain)
    boots = {n.index: bool(n.boot) for n in old.nics}
    if any(boots.get(n.index, bool(n.boot)) != bool(n.boot) for n in new.nics):
        why = "would boot from another network device; name it in boot-device, or stop the domain"
        raise WrongState(name=domain.name, why=why)
    waits = devices.key(domain.uuid, place)
    there: tuple[GuestDisk | GuestNic, ...] = (*new.disks, *new.nics)
    added = next((x for x in there if x.place == place), None)
    if added is None:
        unplug = UnplugDevice(domain.uuid, place, force=bool(order.arguments.get("force")))
        return Step(inventory, (unplug,), waits)
    # Seen once: a guest that got three disks while it booted never came up.
    age = order.now - before.running_since
    if not before.agent and age < BOOT_S:
        why = f"was started {age} s ago and has no answering agent: it may be booting; repeat at"
        raise WrongState(name=domain.name, why=f"{why} flag n, or {BOOT_S} s after its start")
    plug = PlugDevice(domain.uuid, added, new.firmware)
    return Step(inventory.with_domain(domain), (plug,), waits)


def _number(order: CommandGiven, used: Iterable[int], what: str) -> int:
    taken = set(used)
    wanted = order.arguments.get("id")
    if wanted is None:
        return next(i for i in range(MAX_DEVICES + 1) if i not in taken)
    if int(wanted) in taken:
        raise InUse(what=f"{what} id", name=str(wanted), user="another device of the domain")
    if int(wanted) >= MAX_DEVICES:
        raise InvalidValue(what="id", value=str(wanted), why=f"it is below {MAX_DEVICES}")
    return int(wanted)


def _asking(domain: Domain, **changed: object) -> Domain:
    constraints: Constraints = replace(domain.constraints, **changed)  # type: ignore[arg-type]
    return replace(domain, constraints=constraints)


def _put(inventory: Inventory, domain: Domain, **changed: object) -> Inventory:
    return inventory.with_domain(_asking(domain, **changed))


# -- disks --------------------------------------------------------------------------------------


@command("add-vdisk")
def add_vdisk(inventory: Inventory, order: CommandGiven) -> Step:
    """Give a domain a disk on a volume that no other disk uses, or that nobody can write to."""
    domain = _steady(guest(inventory, order))
    name, volume = order.arguments["name"], order.arguments["volume"]
    service = order.arguments["service"]
    disks = domain.constraints.vdisks
    if any(d.name == name for d in disks):
        raise AlreadyExists(what="Disk", name=name, where=f" in LDom {domain.name}")
    _free_volume(inventory, volume, service)
    if len(disks) >= MAX_DEVICES:
        raise InvalidValue(what="disk", value=name, why=f"a domain has at most {MAX_DEVICES}")
    index = _number(order, (d.id for d in disks), "Disk")
    disk = Vdisk(name, volume, service, index, int(order.arguments.get("timeout") or 0))
    return _changed(inventory, order, _asking(domain, vdisks=(*disks, disk)), f"disk{index}")


@command("set-vdisk")
def set_vdisk(inventory: Inventory, order: CommandGiven) -> Step:
    """Change a disk's time-out at any time, its volume while the domain is stopped."""
    domain = guest(inventory, order)
    name = order.arguments["name"]
    disk = next((d for d in domain.constraints.vdisks if d.name == name), None)
    if disk is None:
        raise ObjectUnknown(what="Disk", name=name, where=f" in LDom {domain.name}")
    changed = replace(disk, timeout=int(order.arguments.get("timeout", disk.timeout) or 0))
    if "volume" in order.arguments:
        volume, vds = order.arguments["volume"], order.arguments["service"]
        changed = replace(changed, volume=volume, server=vds)
    if (changed.volume, changed.server) != (disk.volume, disk.server):
        _idle(domain)
        _free_volume(inventory, changed.volume, changed.server)
    disks = tuple(changed if d.name == name else d for d in domain.constraints.vdisks)
    return done(_put(inventory, domain, vdisks=disks), order)


def _free_volume(inventory: Inventory, volume: str, service: str) -> None:
    vds = server(inventory, service)
    if (found := vds.volume(volume)) is None:
        raise ObjectUnknown(what="Volume", name=volume, where=f' in vds "{vds.name}"')
    if found.read_only:
        return
    for other in inventory.sorted_domains():
        for disk in other.constraints.vdisks:
            if (disk.server, disk.volume) == (vds.name, volume):
                raise InUse(what="Volume", name=volume, user=f"{disk.name}@{other.name}")


@command("remove-vdisk")
def remove_vdisk(inventory: Inventory, order: CommandGiven) -> Step:
    """Take a disk away; the volume stays."""
    domain = _steady(guest(inventory, order))
    name = order.arguments["name"]
    disks = domain.constraints.vdisks
    gone = next((d for d in disks if d.name == name), None)
    if gone is None:
        raise ObjectUnknown(what="Disk", name=name, where=f" in LDom {domain.name}")
    kept = _asking(domain, vdisks=tuple(d for d in disks if d != gone))
    return _changed(inventory, order, kept, f"disk{gone.id}")


# -- network ------------------------------------------------------------------------------------


@command("add-vnet")
def add_vnet(inventory: Inventory, order: CommandGiven) -> Step:
    """Give a domain a network device on a switch."""
    domain = _steady(guest(inventory, order))
    vsw = switch(inventory, order.arguments["switch"])
    name = order.arguments["name"]
    nets = domain.constraints.vnets
    if any(n.name == name for n in nets):
        raise AlreadyExists(what="Network device", name=name, where=f" in LDom {domain.name}")
    if len(nets) >= MAX_DEVICES:
        raise InvalidValue(what="vnet", value=name, why=f"a domain has at most {MAX_DEVICES}")
    pvid, vids = check_vlans(inventory, order, vsw.default_vlan)
    given = order.arguments.get("mac")
    vnet = Vnet(
        name=name,
        switch=vsw.name,
        mac=given_mac(inventory, given) if given else new_mac(inventory, order),
        id=_number(order, (n.id for n in nets), "Network"),
        pvid=pvid,
        vids=tuple(vids),
        mtu=check_mtu(order, 0),
        mode=order.arguments.get("mode") or "",
    )
    return _changed(inventory, order, _asking(domain, vnets=(*nets, vnet)), f"nic{vnet.id}")


@command("set-vnet")
def set_vnet(inventory: Inventory, order: CommandGiven) -> Step:
    """Change a network device of a domain that is stopped; what is not named stays."""
    domain, given = guest(inventory, order), order.arguments
    vnet = next((n for n in domain.constraints.vnets if n.name == given["name"]), None)
    if vnet is None:
        raise ObjectUnknown(
            what="Network device", name=given["name"], where=f" in LDom {domain.name}"
        )
    vsw = switch(inventory, given.get("switch", vnet.switch))
    usual = vnet.pvid == switch(inventory, vnet.switch).default_vlan
    kept = {"pvid": 0 if usual else vnet.pvid, "vids": vnet.vids, "mtu": vnet.mtu}
    wanted = replace(order, arguments={**kept, **given})
    pvid, vids = check_vlans(inventory, wanted, vsw.default_vlan)
    mac = given.get("mac") or vnet.mac
    changed = replace(
        vnet,
        switch=vsw.name,
        mac=vnet.mac if mac == vnet.mac else given_mac(inventory, mac),
        pvid=pvid,
        vids=tuple(vids),
        mtu=check_mtu(wanted, 0),
        mode=given.get("mode", vnet.mode) or "",
    )
    if differing := [f for f in _SETTABLE if getattr(changed, f) != getattr(vnet, f)]:
        _settable(domain, vnet.name, ", ".join(_SETTABLE[f] for f in differing))
    vnets = tuple(changed if n.name == vnet.name else n for n in domain.constraints.vnets)
    return done(_put(inventory, domain, vnets=vnets), order)


_SETTABLE = {
    "switch": "vswitch", "mac": "mac-addr", "pvid": "pvid", "vids": "vid", "mtu": "mtu",
    "mode": "mode",
}  # fmt: skip
"""Field of a network device to its property."""


def _settable(domain: Domain, vnet: str, properties: str) -> None:
    if domain.state not in (State.INACTIVE, State.BOUND):
        why = f"is {domain.state}; {properties} of {vnet} changes only while it is stopped: stop it"
        raise WrongState(name=domain.name, why=f"{why}, or remove {vnet} and add it anew")


@command("remove-vnet")
def remove_vnet(inventory: Inventory, order: CommandGiven) -> Step:
    """Take a network device away."""
    domain = _steady(guest(inventory, order))
    name = order.arguments["name"]
    nets = domain.constraints.vnets
    gone = next((n for n in nets if n.name == name), None)
    if gone is None:
        raise ObjectUnknown(what="Network device", name=name, where=f" in LDom {domain.name}")
    kept = _asking(domain, vnets=tuple(n for n in nets if n != gone))
    return _changed(inventory, order, kept, f"nic{gone.id}")


# -- console ------------------------------------------------------------------------------------


@command("set-vconsole")
def set_vcons(inventory: Inventory, order: CommandGiven) -> Step:
    """What to ask for at the next bind: port, group, concentrator; empty clears."""
    domain = guest(inventory, order)
    if domain.state is not State.INACTIVE:
        raise WrongState(name=domain.name, why=f"is {domain.state}; unbind it first")
    old = domain.constraints.console
    service = order.arguments.get("service", old.service) or ""
    if service and service not in inventory.vcc:
        raise ObjectUnknown(what="Virtual console concentrator", name=service)
    port = order.arguments.get("port", old.port)
    console = Console(
        service, order.arguments.get("group", old.group) or "", int(port) if port else None
    )
    return done(_put(inventory, domain, console=console), order)
