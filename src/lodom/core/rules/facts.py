"""The facts of a case, taken from what one ldmd knows.

What only adapters can find out (back ends, digests, what the guest says, what is known of a
network) comes in as arguments, keyed by ``volume@service``, path or switch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from lodom.core.alloc import crypto, mac, ports, regions, strands
from lodom.core.lifecycle.spec import boot_order
from lodom.core.model.devices import Concentrator, DiskServer, Switch
from lodom.core.model.domain import PRIMARY, Domain
from lodom.core.model.host import Region
from lodom.core.model.inventory import Inventory, Ownership
from lodom.core.rules.case import (
    AgentFacts,
    BackendFacts,
    ConsoleFacts,
    CoreFacts,
    DiskFacts,
    DomainFacts,
    FileFacts,
    LanFacts,
    MachineFacts,
    MigrationFacts,
    NetworkFacts,
    NicFacts,
    SourceFacts,
    SwitchFacts,
    TargetFacts,
    UseFacts,
    VolumeFacts,
)

Backends = Mapping[str, BackendFacts]
Networks = Mapping[str, NetworkFacts]


def machine_facts(
    inventory: Inventory,
    *,
    protocols: tuple[int, ...],
    delayed: bool = False,
    migrations: tuple[MigrationFacts, ...] = (),
) -> MachineFacts:
    """What a machine says of itself; *migrations* are those that still bar others (R49)."""
    m = inventory.machine
    primary = inventory.find(PRIMARY)
    units = primary.bindings.crypto if primary and primary.bindings else ()
    return MachineFacts(
        name=m.name,
        instance=m.instance,
        processor=m.processor,
        frequency_hz=m.frequency_hz,
        page=m.page,
        ra_base=m.ra_base,
        rules=m.rules,
        strict=m.strict,
        vlans=m.vlans,
        protocols=protocols,
        hypervisor=m.hypervisor,
        delayed=delayed,
        migrations=migrations,
        primary_crypto=len(units),
    )


def source_facts(
    inventory: Inventory, domain: Domain, machine: MachineFacts, *, networks: Networks | None = None
) -> SourceFacts:
    """The source's machine, its networks, and its record of who owns *domain*."""
    record = inventory.ownership.get(domain.uuid, Ownership(domain.uuid, 0, ""))
    return SourceFacts(machine, record.epoch, record.owner, _outside(inventory, networks or {}))


def _outside(inventory: Inventory, networks: Networks) -> dict[str, NetworkFacts]:
    """*networks* without the guests of this machine, which say nothing of where they are."""
    guests = mac.in_use(inventory)

    def cleared(lan: LanFacts) -> LanFacts:
        return replace(lan, neighbours={i: m for i, m in lan.neighbours.items() if m not in guests})

    return {
        switch: replace(network, lans=tuple(cleared(lan) for lan in network.lans))
        for switch, network in networks.items()
    }


def domain_facts(
    inventory: Inventory,
    domain: Domain,
    *,
    target_name: str = "",
    backends: Backends | None = None,
    files: Iterable[FileFacts] = (),
    agent: AgentFacts | None = None,
    firmware: str = "bios",
    locked_by: str = "",
) -> DomainFacts:
    """The domain as its source knows it.

    *locked_by* defaults to the migration that holds the domain.
    """
    bound, runtime = domain.bindings, domain.runtime
    return DomainFacts(
        uuid=domain.uuid,
        name=domain.name,
        target_name=target_name or domain.name,
        state=domain.state.value,
        mac=domain.mac,
        hostid=domain.hostid,
        control=domain.control,
        services=_services(inventory, domain),
        constraints=domain.constraints,
        vcpus=bound.vcpus if bound else (),
        boot_vcpus=runtime.boot_vcpus if runtime else 0,
        plugged=runtime.plugged if runtime else (),
        blocks=bound.blocks if bound else (),
        crypto=len(bound.crypto) if bound else 0,
        crypto_ports=runtime.crypto_ports if runtime else 0,
        disk_ports=runtime.disk_ports if runtime else 0,
        nic_ports=runtime.nic_ports if runtime else 0,
        io=(bound or domain.constraints).io,
        direct=_direct(inventory, domain),
        platform=bound.platform if bound else None,
        disks=_disks(inventory, domain, backends or {}),
        nics=_nics(inventory, domain),
        firmware=firmware,
        files=tuple(files),
        agent=agent or AgentFacts(),
        locked_by=locked_by or (f"migration {domain.migration}" if domain.migration else ""),
        storage_differs=domain.storage_differs,
    )


def _direct(inventory: Inventory, domain: Domain) -> tuple[str, ...]:
    """Physical devices that it reaches; the control domain has them all, and stays (R24)."""
    if domain.control:
        return ()
    names = (domain.bindings or domain.constraints).io
    buses = (bus for name in names if (bus := inventory.machine.bus(name)))
    return tuple(device.address for bus in buses for device in bus.devices)


def _services(inventory: Inventory, domain: Domain) -> tuple[str, ...]:
    given: list[DiskServer | Switch | Concentrator] = [*inventory.vds.values()]
    given += [*inventory.vsw.values(), *inventory.vcc.values()]
    return tuple(sorted(s.name for s in given if s.owner in (domain.name, domain.uuid)))


def _disks(inventory: Inventory, domain: Domain, backends: Backends) -> tuple[DiskFacts, ...]:
    """Disks in the order of their ids; the boot disk is the first one in the boot order."""
    ordered = sorted(domain.constraints.vdisks, key=lambda d: d.id)
    names = [d.name for d in ordered]
    boot = next((name for name in boot_order(inventory, domain) if name in names), "")
    made = []
    for disk in ordered:
        server = inventory.vds.get(disk.server)
        volume = server.volume(disk.volume) if server else None
        made.append(
            DiskFacts(
                name=disk.name,
                service=disk.server,
                volume=disk.volume,
                options=volume.options if volume else (),
                mpgroup=volume.mpgroup if volume else "",
                boot=disk.name == boot,
                backend=backends.get(f"{disk.volume}@{disk.server}", BackendFacts()),
            )
        )
    return tuple(made)


def _nics(inventory: Inventory, domain: Domain) -> tuple[NicFacts, ...]:
    made = []
    for vnet in domain.constraints.vnets:
        switch = inventory.vsw.get(vnet.switch)
        default = switch.default_vlan if switch else 1
        made.append(
            NicFacts(
                name=vnet.name,
                switch=vnet.switch,
                mac=vnet.mac,
                pvid=0 if vnet.pvid == default else vnet.pvid,
                vids=vnet.vids,
                mtu=vnet.mtu or (switch.mtu if switch else 1500),
                mode=vnet.mode,
                uplink=bool(switch and switch.net_dev),
            )
        )
    return tuple(made)


def target_facts(
    inventory: Inventory,
    domain: DomainFacts,
    machine: MachineFacts,
    *,
    backends: Backends | None = None,
    files: Iterable[FileFacts] = (),
    networks: Networks | None = None,
    whole_cores: bool = True,
) -> TargetFacts:
    """This machine as the target of *domain*, which gets its strands on *whole_cores* or not.

    What an old, inactive configuration of the same domain holds here is no clash and left out.
    """
    known = inventory.domains.get(domain.uuid)
    record = inventory.ownership.get(domain.uuid, Ownership(domain.uuid, 0, ""))
    others = inventory.drop("domains", domain.uuid) if known else inventory
    _, units = crypto.choose_for_migration(
        inventory, len(domain.vcpus), domain.crypto, whole_cores=whole_cores
    )
    return TargetFacts(
        machine=machine,
        epoch=record.epoch,
        owner=record.owner,
        known_state=known.state.value if known else "",
        cores=_cores(inventory),
        regions=regions.merge(inventory.machine.regions),
        free=regions.free_ranges(inventory),
        used=_used(inventory),
        crypto_free=len(units),
        disk_servers=tuple(sorted(inventory.vds)),
        volumes=_volumes(others, backends or {}),
        switches=tuple(
            SwitchFacts(s.name, s.mtu, bool(s.net_dev))
            for s in sorted(inventory.vsw.values(), key=lambda s: s.name)
        ),
        networks=_outside(inventory, networks or {}),
        console=_console(others),
        groups=_groups(others),
        macs=mac.in_use(others),
        names=tuple(sorted(d.name for d in others.domains.values())),
        files=tuple(files),
        boots_without=_boots_without(inventory, domain.uuid),
    )


def _boots_without(inventory: Inventory, uuid: str) -> str:
    selected = inventory.marks.get("next")
    if selected is None:
        return ""
    config = inventory.configs.get(selected.value)
    return "" if config and any(d.uuid == uuid for d in config.domains) else selected.value


def _cores(inventory: Inventory) -> tuple[CoreFacts, ...]:
    free = set(strands.free_strands(inventory))
    machine = inventory.machine
    return tuple(
        CoreFacts(core, machine.core_strands(core), _within(machine.core_strands(core), free))
        for core in sorted({s.core for s in machine.strands})
    )


def _within(pids: tuple[int, ...], free: set[int]) -> tuple[int, ...]:
    return tuple(p for p in pids if p in free)


def _used(inventory: Inventory) -> tuple[UseFacts, ...]:
    uses = [
        UseFacts(Region(block.pa, block.size), domain.name)
        for domain in inventory.domains.values()
        if domain.bindings
        for block in domain.bindings.blocks
    ]
    uses += [UseFacts(f.region, "", "dirty") for f in inventory.dirty.values()]
    return tuple(sorted(uses, key=lambda u: u.region))


def _volumes(inventory: Inventory, backends: Backends) -> tuple[VolumeFacts, ...]:
    users = {
        (disk.server, disk.volume): domain.name
        for domain in inventory.domains.values()
        for disk in domain.constraints.vdisks
    }
    return tuple(
        VolumeFacts(
            service=server.name,
            volume=volume.name,
            options=volume.options,
            mpgroup=volume.mpgroup,
            user=users.get((server.name, volume.name), ""),
            backend=backends.get(f"{volume.name}@{server.name}", BackendFacts()),
        )
        for server in sorted(inventory.vds.values(), key=lambda s: s.name)
        for volume in server.volumes
    )


def _console(inventory: Inventory) -> ConsoleFacts:
    vcc = ports.first_vcc(inventory)
    if vcc is None:
        return ConsoleFacts()
    used = sum(vcc.low <= port <= vcc.high for port in ports.taken(inventory, vcc.name))
    return ConsoleFacts(vcc.name, vcc.low, vcc.high, vcc.high - vcc.low + 1 - used)


def _groups(inventory: Inventory) -> tuple[str, ...]:
    consoles = (d.bindings.console for d in inventory.domains.values() if d.bindings)
    return tuple(sorted({c.group for c in consoles if c}))
