"""What the list commands show, as JSON documents: the API's answer to every reading verb.

Stable: keys are only added.  Sizes are bytes (int), addresses are hex strings ("0x8000000"), times
are seconds, percentages are numbers; what is not known or not there is None, "" or an empty list.

``list-domain`` and ``list-bindings`` answer ``{"domains": [DOMAIN, …]}``, ``list-constraints``
``{"domains": [CONSTRAINTS, …]}``, ``list-services`` ``{"services": [{"ldom", "vcc", "vsw",
"vds"}, …]}``, ``list-devices`` and ``list-variable``, ``show-version`` as their functions say.
Source: ldm-cli digest 2 (which fields exist), migration digest 1.5 (status).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lodom.core.alloc.regions import free_ranges
from lodom.core.alloc.strands import free_strands
from lodom.core.errors import DomainUnknown, ObjectUnknown
from lodom.core.lifecycle.reconf import FACTORY, pending
from lodom.core.model.devices import Concentrator, DiskServer, Switch, Vdisk, Vnet
from lodom.core.model.domain import Block, Domain, State
from lodom.core.model.inventory import Inventory

Document = dict[str, Any]

SYSTEM = "_sys_"
"""Owner shown for memory that is being scrubbed."""


@dataclass(frozen=True)
class Moving:
    """A migration that a domain takes part in.

    ``flag``: ``s`` source, ``t`` target, ``e`` in doubt; ``peer``: the other machine's name.
    """

    flag: str
    peer: str
    progress: int = 0
    """Percent."""


@dataclass(frozen=True)
class Live:
    """What only adapters and the engine know.  Domains are named by UUID; load is in percent."""

    now: int = 0
    booted: int = 0
    """Wall clock at the machine's boot: the control domain has run since then."""
    load: Mapping[str, float] = field(default_factory=dict)
    vcpu_load: Mapping[tuple[str, int], float] = field(default_factory=dict)
    moving: Mapping[str, Moving] = field(default_factory=dict)
    release: str = ""
    protocol: str = ""
    schema: str = ""


def view(verb: str, arguments: Mapping[str, Any], inventory: Inventory, live: Live) -> Document:
    """The document that answers a reading verb.

    Raises:
        DomainUnknown: a domain that was named is not here.
        ObjectUnknown: a variable that was named is not set, or *verb* shows no inventory.
    """
    show = VIEWS.get(verb)
    if show is None:
        raise ObjectUnknown(what="view", name=verb)
    return show(arguments, inventory, live)


# -- domains ------------------------------------------------------------------------------------


def _chosen(arguments: Mapping[str, Any], inventory: Inventory) -> Sequence[Domain]:
    names = arguments.get("ldoms") or ()
    return [inventory.named(name) for name in names] if names else inventory.sorted_domains()


def list_domains(arguments: Mapping[str, Any], inventory: Inventory, live: Live) -> Document:
    """``{"domains": [DOMAIN]}``; ``primary`` first, or in the order asked for."""
    return {"domains": [domain(d, inventory, live) for d in _chosen(arguments, inventory)]}


def domain(d: Domain, inventory: Inventory, live: Live) -> Document:
    """DOMAIN: everything about one domain, bindings with peers and clients included."""
    bindings = d.bindings
    crypto = {unit.id: unit.core for unit in inventory.machine.crypto}
    return {
        "name": d.name,
        "uuid": d.uuid,
        "state": d.state.value,
        "flags": flags(d, inventory, live),
        "flag_words": flag_words(d, inventory, live),
        "console": console_name(d),
        "vcpus": len(bindings.vcpus) if bindings else d.constraints.vcpu,
        "memory": sum(b.size for b in bindings.blocks) if bindings else d.constraints.memory,
        "util": live.load.get(d.uuid, 0.0) if _runs(d) else None,
        "uptime": _uptime(d, live),
        "softstate": _softstate(d),
        "mac": d.mac,
        "hostid": _hex(d.hostid),
        "failure_policy": d.constraints.failure_policy,
        "masters": list(d.constraints.masters),
        "storage_differs": d.storage_differs,
        "cpu_dr_off": bool(bindings and bindings.cpu_dr_off),
        "elsewhere": _elsewhere(d, inventory),
        "vcpu": [
            {
                "vid": v.vid,
                "pid": v.pid,
                "util": live.vcpu_load.get((d.uuid, v.vid), 0.0) if _runs(d) else None,
                "strand": 100,
            }
            for v in (bindings.vcpus if bindings else ())
        ],
        "mau": [
            {"id": unit, "cpuset": list(inventory.machine.core_strands(crypto[unit]))}
            for unit in (bindings.crypto if bindings else ())
        ],
        "blocks": [_block(b) for b in (bindings.blocks if bindings else ())],
        "variables": [{"name": n, "value": v} for n, v in d.constraints.variables],
        "io": [_bus(name, inventory) for name in (bindings or d.constraints).io],
        **_services(d.name, inventory),
        "network": [_vnet(v, d, inventory) for v in d.constraints.vnets],
        "disk": [_vdisk(v, inventory) for v in d.constraints.vdisks],
        "vcons": _vcons(d, inventory),
        "operation": _operation(d, live),
    }


def _elsewhere(d: Domain, inventory: Inventory) -> bool:
    """Another machine owns it, and no migration is to bring it here."""
    return d.uuid in inventory.ownership and not (d.migration or inventory.owns(d.uuid))


def _runs(d: Domain) -> bool:
    return d.state in (State.ACTIVE, State.STOPPING, State.SUSPENDED)


def _uptime(d: Domain, live: Live) -> int | None:
    since = d.running_since or (live.booted if d.control else 0)
    return max(live.now - since, 0) if _runs(d) and since else None


def _hex(address: int) -> str:
    return f"{address:#x}"


def _block(block: Block) -> Document:
    return {"ra": _hex(block.ra), "pa": _hex(block.pa), "size": block.size}


def flags(d: Domain, inventory: Inventory, live: Live) -> str:
    """The six positions of FLAGS (digest 2.3)."""
    moving = live.moving.get(d.uuid)
    busy = d.state in (State.STARTING, State.STOPPING)
    running = "n" if d.agent or d.control else "t"
    return "".join(
        (
            "s" if busy else "-",
            running if _runs(d) else "t" if busy else "-",
            "d" if d.control and inventory.reconf else "-",
            "c" if d.control else "-",
            "v" if any(_services(d.name, inventory).values()) else "-",
            moving.flag if moving else "-",
        )
    )


_WORDS = (
    {"s": "starting"},
    {"n": "normal", "t": "transition"},
    {"d": "delayed-reconfiguration"},
    {"c": "control"},
    {"v": "vio-service"},
    {"s": "migration-source", "t": "migration-target", "e": "migration-error"},
)


def flag_words(d: Domain, inventory: Inventory, live: Live) -> list[str]:
    """The flags spelled out, as ``-p`` prints them."""
    letters = flags(d, inventory, live)
    words = [names[x] for x, names in zip(letters, _WORDS, strict=True) if x != "-"]
    return ["stopping" if w == "starting" and d.state is State.STOPPING else w for w in words]


def console_name(d: Domain) -> str:
    """CONS: the port of a bound guest, ``SP`` for the control domain, else empty."""
    if d.control:
        return "SP"
    given = d.bindings.console if d.bindings else None
    return str(given.port if given else d.constraints.console.port or "")


def _softstate(d: Domain) -> str:
    if not _runs(d):
        return ""
    return "Guest OS running" if d.agent or d.control else "Guest agent does not answer"


def _operation(d: Domain, live: Live) -> Document | None:
    moving = live.moving.get(d.uuid)
    if moving is None:
        return None
    return {
        "operation": "migration",
        "progress": moving.progress,
        "error": moving.flag == "e",
        "role": "target" if moving.flag == "t" else "source",
        "peer": moving.peer,
    }


# -- devices of a domain ------------------------------------------------------------------------


def _bus(name: str, inventory: Inventory) -> Document:
    bus = inventory.machine.bus(name)
    return {"device": bus.name if bus else name, "pseudonym": bus.pseudonym if bus else ""}


def _vnet(vnet: Vnet, d: Domain, inventory: Inventory, *, asked: bool = False) -> Document:
    """As *asked*, or as it is: no machine of ours fulfils ``mode=hybrid`` (R42)."""
    switch = inventory.vsw.get(vnet.switch)
    peers = [{"name": f"{switch.name}@{switch.owner}", "mac": switch.mac}] if switch else []
    for other in inventory.sorted_domains():
        for v in other.constraints.vnets if other.bindings else ():
            if v.switch == vnet.switch and (other.uuid, v.name) != (d.uuid, vnet.name):
                peers.append({"name": f"{v.name}@{other.name}", "mac": v.mac})
    return {
        "name": vnet.name,
        "switch": vnet.switch,
        "owner": switch.owner if switch else "",
        "id": vnet.id,
        "device": f"network@{vnet.id}",
        "mac": vnet.mac,
        "mode": vnet.mode if asked or not d.bindings else "",
        "pvid": vnet.pvid or (switch.default_vlan if switch else 1),
        "vids": list(vnet.vids),
        "mtu": vnet.mtu or (switch.mtu if switch else 1500),
        "peers": peers if d.bindings else [],
    }


def _vdisk(vdisk: Vdisk, inventory: Inventory) -> Document:
    server = inventory.vds.get(vdisk.server)
    volume = server.volume(vdisk.volume) if server else None
    return {
        "name": vdisk.name,
        "volume": vdisk.volume,
        "service": vdisk.server,
        "timeout": vdisk.timeout,
        "id": vdisk.id,
        "device": f"disk@{vdisk.id}",
        "server": server.owner if server else "",
        "mpgroup": volume.mpgroup if volume else "",
    }


def _vcons(d: Domain, inventory: Inventory) -> Document:
    """Bound: what was given; else what was asked.  The control domain has ``type`` SP."""
    given, asked = (d.bindings.console if d.bindings else None), d.constraints.console
    service = given.service if given else asked.service
    vcc = inventory.vcc.get(service)
    return {
        "type": "SP" if d.control else "",
        "group": given.group if given else asked.group,
        "service": service,
        "owner": vcc.owner if vcc else "",
        "port": given.port if given else asked.port,
    }


# -- services -----------------------------------------------------------------------------------


def _services(owner: str, inventory: Inventory) -> Document:
    """The services that domain *owner* gives, in order of their names."""
    return {
        "vcc": [_vcc(s, inventory) for _, s in sorted(inventory.vcc.items()) if s.owner == owner],
        "vsw": [_vsw(s, inventory) for _, s in sorted(inventory.vsw.items()) if s.owner == owner],
        "vds": [_vds(s, inventory) for _, s in sorted(inventory.vds.items()) if s.owner == owner],
    }


def _vcc(vcc: Concentrator, inventory: Inventory) -> Document:
    clients = [
        {"name": f"{c.group}@{d.name}", "port": c.port}
        for d in inventory.sorted_domains()
        if d.bindings and (c := d.bindings.console) and c.service == vcc.name
    ]
    return {"name": vcc.name, "low": vcc.low, "high": vcc.high, "clients": clients}


def _vsw(vsw: Switch, inventory: Inventory) -> Document:
    peers = [
        {"name": f"{v.name}@{d.name}", "mac": v.mac}
        for d in inventory.sorted_domains()
        if d.bindings
        for v in d.constraints.vnets
        if v.switch == vsw.name
    ]
    return {
        "name": vsw.name,
        "mac": vsw.mac,
        "net_dev": vsw.net_dev,
        "id": vsw.id,
        "device": f"switch@{vsw.id}",
        "default_vlan": vsw.default_vlan,
        "pvid": vsw.pvid,
        "vids": list(vsw.vids),
        "mtu": vsw.mtu,
        "mode": vsw.mode,
        "peers": peers,
    }


def _vds(vds: DiskServer, inventory: Inventory) -> Document:
    clients = [
        {"name": f"{v.name}@{d.name}", "volume": v.volume}
        for d in inventory.sorted_domains()
        if d.bindings
        for v in d.constraints.vdisks
        if v.server == vds.name
    ]
    volumes = [
        {"name": v.name, "options": list(v.options), "mpgroup": v.mpgroup, "device": v.backend}
        for v in vds.volumes
    ]
    return {"name": vds.name, "volumes": volumes, "clients": clients}


def list_services(arguments: Mapping[str, Any], inventory: Inventory, live: Live) -> Document:
    """``{"services": [{"ldom", "vcc": […], "vsw": […], "vds": […]}]}``, domains that give some."""
    given = [(d.name, _services(d.name, inventory)) for d in _chosen(arguments, inventory)]
    return {"services": [{"ldom": n, **found} for n, found in given if any(found.values())]}


# -- the machine --------------------------------------------------------------------------------


def list_devices(arguments: Mapping[str, Any], inventory: Inventory, live: Live) -> Document:
    """The machine's devices, bound ones too; the client leaves out what was not asked for.

    ``vcpu``: pid, core, free (0 or 100), bound (name or ""), held (name of the domain that holds
    the strand back until it reboots, R06, or ""), cpu (the host's); ``mau``: id, cpuset, bound;
    ``memory``: pa, size, bound (``_sys_``: being scrubbed); ``io``: device, pseudonym, bound,
    source (``sysfs``: of the host; ``declared``: in machine.toml, no device behind it), devices
    (PCI functions: address, kind, id, driver, group, virtual);
    ``emulated``: strands share the host's CPUs.
    """
    machine = inventory.machine
    domains = [d for d in inventory.sorted_domains() if d.bindings]
    bound = {v.pid: d.name for d in domains for v in d.bound.vcpus}
    held = {pid: d.name for d in domains for pid in d.bound.held}
    units = {unit: d.name for d in domains for unit in d.bound.crypto}
    buses = {name: d.name for d in domains for name in d.bound.io}
    free = set(free_strands(inventory))
    return {
        "vcpu": [
            {
                "pid": s.pid,
                "core": s.core,
                "free": 100 if s.pid in free else 0,
                "bound": bound.get(s.pid, ""),
                "held": held.get(s.pid, ""),
                "cpu": s.cpu,
            }
            for s in sorted(machine.strands)
        ],
        "mau": [
            {"id": u.id, "cpuset": list(machine.core_strands(u.core)), "bound": units.get(u.id, "")}
            for u in machine.crypto
        ],
        "memory": _memory(domains, inventory),
        "io": [
            {
                "device": b.name,
                "pseudonym": b.pseudonym,
                "bound": buses.get(b.name, ""),
                "source": b.source,
                "devices": [asdict(device) for device in b.devices],
            }
            for b in machine.buses
        ],
        "emulated": machine.emulated,
    }


def _memory(domains: Sequence[Domain], inventory: Inventory) -> list[Document]:
    rows = [(b.pa, b.size, d.name) for d in domains for b in d.bound.blocks]
    rows += [(r.region.base, r.region.size, SYSTEM) for r in inventory.dirty.values()]
    rows += [(r.base, r.size, "") for r in free_ranges(inventory)]
    return [{"pa": _hex(pa), "size": size, "bound": who} for pa, size, who in sorted(rows)]


def show_version(arguments: Mapping[str, Any], inventory: Inventory, live: Live) -> Document:
    """``release``, ``protocol``, ``schema``, ``machine``, and what the hypervisor is."""
    machine, hypervisor = inventory.machine, inventory.machine.hypervisor
    return {
        "release": live.release,
        "protocol": live.protocol,
        "schema": live.schema,
        "machine": machine.name,
        "rules": machine.rules,
        "hypervisor": hypervisor.version,
        "accelerator": hypervisor.accelerator,
        "accelerator_reason": hypervisor.accelerator_reason,
        "firmware": dict(hypervisor.firmware),
    }


# -- constraints and variables ------------------------------------------------------------------


def list_constraints(arguments: Mapping[str, Any], inventory: Inventory, live: Live) -> Document:
    """``{"domains": [CONSTRAINTS]}``: what was asked, apart from what was given."""
    return {"domains": [_constraints(d, inventory) for d in _chosen(arguments, inventory)]}


def _constraints(d: Domain, inventory: Inventory) -> Document:
    asked = ((pending(inventory) if d.control else None) or d).constraints
    return {
        "name": d.name,
        "mac": d.mac,
        "hostid": _hex(d.hostid),
        "failure_policy": asked.failure_policy,
        "masters": list(asked.masters),
        "vcpu": asked.vcpu,
        "mau": asked.mau,
        "memory": asked.memory,
        "variables": [{"name": n, "value": v} for n, v in asked.variables],
        "io": [_bus(name, inventory) for name in asked.io],
        **_services(d.name, inventory),
        "network": [_vnet(v, d, inventory, asked=True) for v in asked.vnets],
        "disk": [_vdisk(v, inventory) for v in asked.vdisks],
        "vcons": {
            "type": "SP" if d.control else "",
            "group": asked.console.group,
            "service": asked.console.service,
            "port": asked.console.port,
        },
    }


def list_variables(arguments: Mapping[str, Any], inventory: Inventory, live: Live) -> Document:
    """``{"variables": [{"name", "value"}]}`` of one domain, all or those named.

    Raises:
        DomainUnknown: the domain is not here.
        ObjectUnknown: a variable that was named is not set; its text holds "not found".
    """
    name = arguments.get("ldom")
    if not name:
        raise DomainUnknown(name="")
    known = dict(inventory.named(name).constraints.variables)
    wanted = arguments.get("names") or list(known)
    for missing in wanted:
        if missing not in known:
            raise ObjectUnknown(what="Variable", name=missing, where=f" on {name}: not found")
    return {"variables": [{"name": n, "value": known[n]} for n in wanted]}


def list_configurations(arguments: Mapping[str, Any], inventory: Inventory, live: Live) -> Document:
    """``{"configs": [{"name", "current", "next"}]}``; with ``autosave`` none, as there are none."""
    if arguments.get("autosave"):
        return {"configs": []}
    marks = inventory.marks
    current = marks["current"].value if "current" in marks else FACTORY
    following = marks["next"].value if "next" in marks else ""
    return {
        "configs": [
            {"name": name, "current": name == current, "next": name == following}
            for name in (FACTORY, *sorted(inventory.configs))
        ]
    }


VIEWS: Mapping[str, Callable[[Mapping[str, Any], Inventory, Live], Document]] = {
    "list-domain": list_domains,
    "list-bindings": list_domains,
    "list-services": list_services,
    "list-constraints": list_constraints,
    "list-devices": list_devices,
    "list-variable": list_variables,
    "list-spconfig": list_configurations,
    "show-version": show_version,
}
