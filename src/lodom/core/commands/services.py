"""Virtual I/O services: disk servers and their volumes, switches, console concentrators."""

import re
from collections.abc import Collection
from dataclasses import replace

from lodom.core.alloc import ports
from lodom.core.commands.domains import given_mac, new_mac
from lodom.core.commands.form import Step, command, done
from lodom.core.effects import MakeSwitch, RemoveSwitch
from lodom.core.errors import (
    AlreadyExists,
    Busy,
    InUse,
    InvalidValue,
    NotSupported,
    ObjectUnknown,
    StepFailed,
)
from lodom.core.events import CommandGiven, SwitchFailed
from lodom.core.model.devices import Concentrator, DiskServer, Switch, Volume
from lodom.core.model.domain import Domain
from lodom.core.model.inventory import Inventory

EXCLUSIVE = "excl"
"""Of a volume: no other volume exports its back end."""


def _owner(inventory: Inventory, order: CommandGiven) -> str:
    """Services belong to the control domain: a guest of ours cannot serve the others."""
    domain = inventory.named(order.arguments["ldom"])
    if not domain.control:
        raise NotSupported(
            what=f"A service of domain {domain.name}",
            why="only the control domain primary can give virtual I/O services",
        )
    return domain.name


def _users(inventory: Inventory, kind: str, name: str) -> list[str]:
    """Devices of domains that use the service *name* of *kind* (vds, vsw, vcc)."""
    found: list[str] = []
    for d in inventory.sorted_domains():
        if kind == "vds":
            found += [f"{v.name}@{d.name}" for v in d.constraints.vdisks if v.server == name]
        if kind == "vsw":
            found += [f"{v.name}@{d.name}" for v in d.constraints.vnets if v.switch == name]
        if kind == "vcc" and d.bindings and d.bindings.console:
            found += [d.name] if d.bindings.console.service == name else []
    return found


def _new_name(inventory: Inventory, name: str) -> None:
    if name in inventory.vds or name in inventory.vsw or name in inventory.vcc:
        raise AlreadyExists(what="Service", name=name)


# -- disks --------------------------------------------------------------------------------------


def server(inventory: Inventory, name: str) -> DiskServer:
    """The disk server of that name.

    Raises:
        ObjectUnknown: there is none.
    """
    if name not in inventory.vds:
        raise ObjectUnknown(what="Virtual disk server", name=name)
    return inventory.vds[name]


@command("add-vdiskserver")
def add_vds(inventory: Inventory, order: CommandGiven) -> Step:
    """A new, empty disk server."""
    name = order.arguments["name"]
    _new_name(inventory, name)
    vds = DiskServer(name, _owner(inventory, order))
    return done(inventory.put("vds", name, vds), order)


@command("remove-vdiskserver")
def remove_vds(inventory: Inventory, order: CommandGiven) -> Step:
    """Remove a disk server with its volumes, if no disk uses it."""
    vds = server(inventory, order.arguments["name"])
    if users := _users(inventory, "vds", vds.name):
        raise InUse(what="Virtual disk server", name=vds.name, user=", ".join(users))
    return done(inventory.drop("vds", vds.name), order)


def _volume_options(order: CommandGiven) -> tuple[str, ...]:
    options = tuple(order.arguments.get("options") or ())
    if "slice" in options:
        raise NotSupported(what="options=slice", why="Linux guests see whole disks")
    return options


def _exports(inventory: Inventory, backend: str, order: CommandGiven) -> list[tuple[str, Volume]]:
    """The volumes that export *backend* already, by whatever path, each with its disk server."""
    every = ((s.name, v) for s in inventory.vds.values() for v in s.volumes)
    paths = {backend, *order.same}
    return [(name, volume) for name, volume in every if volume.backend in paths]


@command("add-vdiskserverdevice")
def add_vdsdev(inventory: Inventory, order: CommandGiven) -> Step:
    """Export a back end under a volume name; twice the same back end only with ``-f``."""
    vds = server(inventory, order.arguments["service"])
    name, backend = order.arguments["volume"], order.arguments["backend"]
    if vds.volume(name):
        raise AlreadyExists(what="Volume", name=name, where=f' in vds "{vds.name}"')
    options = _volume_options(order)
    if not backend.startswith("/") and not re.match(r"(nbd|nbd\+unix|rbd):", backend):
        raise InvalidValue(what="backend", value=backend, why="give an absolute path, nbd: or rbd:")
    mpgroup = order.arguments.get("mpgroup") or ""
    for owner, volume in _exports(inventory, backend, order):
        if EXCLUSIVE in (*options, *volume.options):
            user = f"volume {volume.name}@{owner}, and options=excl wants it for one alone"
            raise InUse(what="Back end", name=backend, user=user)
        paths = mpgroup and volume.mpgroup == mpgroup
        if not paths and not order.arguments.get("force"):
            user = f"volume {volume.name}@{owner}; -f exports it a second time"
            raise InUse(what="Back end", name=backend, user=user)
    volume = Volume(name, backend, options, mpgroup)
    return done(inventory.put("vds", vds.name, replace(vds, volumes=(*vds.volumes, volume))), order)


@command("set-vdiskserverdevice")
def set_vdsdev(inventory: Inventory, order: CommandGiven) -> Step:
    """Change options and multipath group of a volume that no bound domain uses.

    One that several disks share stays read-only.
    """
    vds, volume = _volume(inventory, order)
    if user := _bound_user(inventory, vds.name, volume.name):
        raise InUse(what="Volume", name=volume.name, user=user)
    if "options" in order.arguments:
        shared = volume.read_only
        volume = replace(volume, options=_volume_options(order))
        exports, own = _exports(inventory, volume.backend, order), (vds.name, volume.name)
        others = [e for e in exports if (e[0], e[1].name) != own]
        if EXCLUSIVE in volume.options and others:
            user = ", ".join(f"volume {v.name}@{owner}" for owner, v in others)
            raise InUse(what="Back end", name=volume.backend, user=user)
        disks = _disks_on(inventory, vds.name, volume.name)
        if shared and not volume.read_only and len(disks) > 1:
            raise InUse(what="Volume", name=volume.name, user=", ".join(disks))
    if "mpgroup" in order.arguments:
        volume = replace(volume, mpgroup=order.arguments["mpgroup"] or "")
    volumes = tuple(volume if v.name == volume.name else v for v in vds.volumes)
    return done(inventory.put("vds", vds.name, replace(vds, volumes=volumes)), order)


@command("remove-vdiskserverdevice")
def remove_vdsdev(inventory: Inventory, order: CommandGiven) -> Step:
    """Stop exporting a volume that no disk uses."""
    vds, volume = _volume(inventory, order)
    if disks := _disks_on(inventory, vds.name, volume.name):
        user = f"{', '.join(disks)}, to which it is attached"
        raise InUse(what="Volume", name=volume.name, user=user)
    volumes = tuple(v for v in vds.volumes if v.name != volume.name)
    return done(inventory.put("vds", vds.name, replace(vds, volumes=volumes)), order)


def _volume(inventory: Inventory, order: CommandGiven) -> tuple[DiskServer, Volume]:
    vds = server(inventory, order.arguments["service"])
    volume = vds.volume(order.arguments["volume"])
    if volume is None:
        name = order.arguments["volume"]
        raise ObjectUnknown(what="Volume", name=name, where=f' in vds "{vds.name}"')
    return vds, volume


def _disks_on(inventory: Inventory, vds: str, volume: str) -> list[str]:
    return [
        f"{disk.name}@{domain.name}"
        for domain in inventory.sorted_domains()
        for disk in domain.constraints.vdisks
        if (disk.server, disk.volume) == (vds, volume)
    ]


def _bound_user(inventory: Inventory, vds: str, volume: str) -> str:
    def uses(d: Domain) -> bool:
        return any((k.server, k.volume) == (vds, volume) for k in d.constraints.vdisks)

    return next((d.name for d in inventory.sorted_domains() if d.bindings and uses(d)), "")


# -- switches -----------------------------------------------------------------------------------


def switch(inventory: Inventory, name: str) -> Switch:
    """The switch of that name.

    Raises:
        ObjectUnknown: there is none.
    """
    if name not in inventory.vsw:
        raise ObjectUnknown(what="Virtual switch", name=name)
    return inventory.vsw[name]


def check_vlans(inventory: Inventory, order: CommandGiven, default: int) -> tuple[int, list[int]]:
    """(pvid, vids) of the order.

    Raises:
        NotSupported: the kernel cannot filter VLANs and the order needs it.
    """
    pvid = int(order.arguments.get("pvid") or default)
    vids = [int(v) for v in order.arguments.get("vids") or ()]
    if (pvid != default or vids) and not inventory.machine.vlans:
        raise NotSupported(
            what=f"VLAN {','.join(map(str, [pvid, *vids]))}",
            why="this kernel has no VLAN filtering on bridges (CONFIG_BRIDGE_VLAN_FILTERING)",
        )
    return pvid, vids


def check_mtu(order: CommandGiven, default: int) -> int:
    """The order's MTU.

    Raises:
        InvalidValue: outside 1500 to 16000.
    """
    mtu = int(order.arguments.get("mtu") or default)
    if mtu and not 1500 <= mtu <= 16000:
        raise InvalidValue(what="mtu", value=str(mtu), why="it is 1500 to 16000")
    return mtu


@command("add-vswitch")
def add_vsw(inventory: Inventory, order: CommandGiven) -> Step:
    """A new switch; the command ends when its bridge is there."""
    name = order.arguments["name"]
    _new_name(inventory, name)
    default = int(order.arguments.get("default_vlan") or 1)
    pvid, vids = check_vlans(inventory, order, default)
    used = {s.id for s in inventory.vsw.values()}
    wanted = order.arguments.get("id")
    if wanted is not None and int(wanted) in used:
        raise InUse(what="Switch id", name=str(wanted), user="another switch")
    given = order.arguments.get("mac")
    vsw = Switch(
        name=name,
        owner=_owner(inventory, order),
        mac=given_mac(inventory, given) if given else new_mac(inventory, order),
        net_dev=order.arguments.get("net_dev", inventory.machine.uplinks.get(name)) or "",
        id=int(wanted) if wanted is not None else next(i for i in range(999) if i not in used),
        default_vlan=default,
        pvid=pvid,
        vids=tuple(vids),
        mtu=check_mtu(order, 1500),
        mode=order.arguments.get("mode") or "",
    )
    make = MakeSwitch(order.request, name, vsw.net_dev, vsw.mtu, vsw.mac)
    return Step(inventory.put("vsw", name, vsw), (make,), waits=f"vsw:{name}")


@command("set-vswitch")
def set_vsw(inventory: Inventory, order: CommandGiven) -> Step:
    """Change a switch; what is not named stays.  The command ends when its bridge agrees.

    Uplink and MTU are not dynamic: no bound domain may depend on them.  A changed uplink lets the
    old one go.
    """
    old, given = switch(inventory, order.arguments["name"]), order.arguments
    kept = {"pvid": old.pvid, "vids": old.vids, "mtu": old.mtu}
    wanted = replace(order, arguments={**kept, **given})
    pvid, vids = check_vlans(inventory, wanted, old.default_vlan)
    mac = given.get("mac") or old.mac
    vsw = replace(
        old,
        mac=old.mac if mac == old.mac else given_mac(inventory, mac),
        net_dev=given.get("net_dev", old.net_dev) or "",
        pvid=pvid,
        vids=tuple(vids),
        mtu=check_mtu(wanted, 1500),
        mode=given.get("mode", old.mode) or "",
    )
    if (vsw.net_dev, vsw.mtu) != (old.net_dev, old.mtu):
        users = [d.name for d in inventory.sorted_domains() if d.bindings and _plugged(d, old.name)]
        if users:
            raise InUse(what="Virtual switch", name=old.name, user=", ".join(users))
    make = MakeSwitch(order.request, vsw.name, vsw.net_dev, vsw.mtu, vsw.mac, old)
    return Step(inventory.put("vsw", vsw.name, vsw), (make,), waits=f"vsw:{vsw.name}")


def refuse_while_switching(
    inventory: Inventory, order: CommandGiven, changing: Collection[str]
) -> None:
    """Nothing may come to depend on a switch whose bridge may yet fail, or be another.

    *changing*: the switches whose bridge is being made or changed.

    Raises:
        Busy: the order depends on one of them.
    """
    given = order.arguments
    wanted: set[object] = set()
    if order.verb in ("set-vswitch", "remove-vswitch"):
        wanted = {given.get("name")}
    elif order.verb in ("add-vnet", "set-vnet"):
        wanted = {given.get("switch")}
    elif order.verb == "bind-domain" and (d := inventory.find(str(given.get("ldom")))):
        wanted = {vnet.switch for vnet in d.constraints.vnets}
    if busy := wanted.intersection(changing):
        why = f"the bridge of virtual switch {min(map(str, busy))} is being changed"
        raise Busy(what=order.verb, why=why)


def switch_failed(inventory: Inventory, event: SwitchFailed) -> tuple[Inventory, StepFailed]:
    """The switch as it was before the order; a new one stays if a device has come to use it.

    Devices come with migrations and saved configurations too, which wait for no bridge.
    """
    name, reason = event.name, event.reason
    if event.old:
        error = StepFailed(what=f"Changing virtual switch {name}", reason=reason)
        return inventory.put("vsw", name, event.old), error
    users = _users(inventory, "vsw", name)
    if users:
        reason += f"; it stays, without a bridge, for {', '.join(users)}: ldm set-vsw gives it one"
    error = StepFailed(what=f"Adding virtual switch {name}", reason=reason)
    return inventory if users else inventory.drop("vsw", name), error


def _plugged(domain: Domain, name: str) -> bool:
    return any(v.switch == name for v in domain.constraints.vnets)


@command("remove-vswitch")
def remove_vsw(inventory: Inventory, order: CommandGiven) -> Step:
    """Remove a switch that no device uses; the command ends when its bridge has gone."""
    vsw = switch(inventory, order.arguments["name"])
    if users := _users(inventory, "vsw", vsw.name):
        raise InUse(what="Virtual switch", name=vsw.name, user=", ".join(users))
    remove = RemoveSwitch(order.request, vsw.name)
    return Step(inventory.drop("vsw", vsw.name), (remove,), waits=f"gone:{order.request}")


# -- consoles -----------------------------------------------------------------------------------


@command("add-vconscon")
def add_vcc(inventory: Inventory, order: CommandGiven) -> Step:
    """A new console concentrator with its port range."""
    name = order.arguments["name"]
    _new_name(inventory, name)
    low, high = _range(inventory, order, name)
    vcc = Concentrator(name, _owner(inventory, order), low, high)
    return done(inventory.put("vcc", name, vcc), order)


@command("set-vconscon")
def set_vcc(inventory: Inventory, order: CommandGiven) -> Step:
    """Change the port range; no port in use may fall out of it."""
    name = order.arguments["name"]
    if name not in inventory.vcc:
        raise ObjectUnknown(what="Virtual console concentrator", name=name)
    low, high = _range(inventory, order, name)
    for port, group in ports.taken(inventory, name).items():
        if not low <= port <= high:
            raise InUse(what="Console port", name=str(port), user=f"group {group}")
    vcc = replace(inventory.vcc[name], low=low, high=high)
    return done(inventory.put("vcc", name, vcc), order)


@command("remove-vconscon")
def remove_vcc(inventory: Inventory, order: CommandGiven) -> Step:
    """Remove a concentrator that has no console."""
    name = order.arguments["name"]
    if name not in inventory.vcc:
        raise ObjectUnknown(what="Virtual console concentrator", name=name)
    if users := _users(inventory, "vcc", name):
        raise InUse(what="Virtual console concentrator", name=name, user=", ".join(users))
    return done(inventory.drop("vcc", name), order)


def _range(inventory: Inventory, order: CommandGiven, name: str) -> tuple[int, int]:
    low, high = int(order.arguments["low"]), int(order.arguments["high"])
    for other in inventory.vcc.values():
        if other.name != name and low <= other.high and other.low <= high:
            raise InUse(what="Port range", name=f"{low}-{high}", user=f"vcc {other.name}")
    return low, high
