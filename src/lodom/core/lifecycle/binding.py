"""Giving a domain its resources, and taking them back: pure changes of the inventory."""

from collections.abc import Iterable
from dataclasses import replace

from lodom.core.alloc import crypto, memory, ports, strands
from lodom.core.alloc.regions import free_ranges, merge
from lodom.core.effects import Scrub
from lodom.core.errors import (
    CryptoExhausted,
    InUse,
    InvalidValue,
    MemoryExhausted,
    MemoryScattered,
    NoFreePort,
    ObjectUnknown,
    StrandsExhausted,
)
from lodom.core.fsm import Effects
from lodom.core.model.devices import BoundConsole
from lodom.core.model.domain import Bindings, Block, Domain, Vcpu
from lodom.core.model.host import MAX_BLOCKS, Region
from lodom.core.model.inventory import Freed, Inventory
from lodom.core.units import format_size


def grant_strands(inventory: Inventory, count: int, own: Iterable[int] = ()) -> tuple[int, ...]:
    """*count* free strands, near the domain's *own* ones.

    Raises:
        StrandsExhausted: fewer are free.
    """
    free = strands.free_strands(inventory)
    got = strands.choose(inventory.machine, free, count, own=own)
    if isinstance(got, strands.Shortage):
        raise StrandsExhausted(wanted=got.wanted, free=got.free)
    return got.strands


def grant_memory(
    inventory: Inventory, size: int, have: tuple[Block, ...] = ()
) -> tuple[Block, ...]:
    """Blocks for *size* bytes more, behind those that the domain has.

    Raises:
        MemoryExhausted: less is free.
        MemoryScattered: enough is free, in more pieces than a domain may have.
    """
    machine = inventory.machine
    got = memory.carve(
        size,
        free_ranges(inventory),
        page=machine.page,
        ra_base=memory.next_ra(have, machine.ra_base),
        max_blocks=MAX_BLOCKS - len(have),
    )
    if isinstance(got, memory.Misfit):
        wanted, free = format_size(got.wanted), format_size(got.free)
        if got.lack is memory.Lack.LAYOUT:
            raise MemoryScattered(wanted=wanted, free=free, most=MAX_BLOCKS)
        raise MemoryExhausted(wanted=wanted, free=free)
    return got


def grant_crypto(inventory: Inventory, pids: Iterable[int], count: int) -> tuple[int, ...]:
    """*count* free crypto units of the cores of strands *pids*.

    Raises:
        CryptoExhausted: fewer are free within reach.
    """
    got = crypto.choose(inventory.machine, crypto.free_units(inventory), pids, count)
    if isinstance(got, strands.Shortage):
        raise CryptoExhausted(wanted=got.wanted, free=got.free)
    return got


def grant_console(
    inventory: Inventory, domain: Domain, unusable: frozenset[int] = frozenset()
) -> BoundConsole | None:
    """The console that the domain gets: its own choice, else the first free port.

    ``unusable``: ports that something outside Lodom listens on.  None without a concentrator.

    Raises:
        NoFreePort: all are taken.
        InvalidValue: the port that was asked for is not to be had.
        ObjectUnknown: the concentrator that was asked for does not exist.
    """
    wish = domain.constraints.console
    vcc = inventory.vcc.get(wish.service) if wish.service else ports.first_vcc(inventory)
    if vcc is None:
        if wish.service:
            raise ObjectUnknown(what="Virtual console concentrator", name=wish.service)
        return None
    taken = ports.taken(inventory, vcc.name)
    group = wish.group or domain.name
    if wish.port is not None:
        if wish.port in unusable:
            raise NoFreePort(vcc=vcc.name, port_range=f"port {wish.port} is in use on the host")
        if not vcc.low <= wish.port <= vcc.high or taken.get(wish.port, group) != group:
            why = f"{vcc.name} has {vcc.low}-{vcc.high} and it may not be another group's"
            raise InvalidValue(what="console port", value=str(wish.port), why=why)
        return BoundConsole(vcc.name, group, wish.port)
    shared = next((p for p, g in taken.items() if wish.group and g == group), None)
    port = shared or ports.first_free(vcc, {*taken, *unusable})
    if port is None:
        raise NoFreePort(vcc=vcc.name, port_range=f"{vcc.low}-{vcc.high}")
    return BoundConsole(vcc.name, group, port)


def give(inventory: Inventory, domain: Domain) -> Bindings:
    """All that the domain asks for, or nothing.

    One that asks for crypto units gets its strands on cores that have free ones, if it can be.

    Raises:
        InvalidValue: it asks for no strand or no memory.
        ObjectUnknown, InUse: an I/O bus is not on this machine, or another domain's.
        LodomError: of the grants above.
    """
    wanted = domain.constraints
    for what, amount in (("vcpu", wanted.vcpu), ("memory", wanted.memory)):
        if not amount:
            why = f"LDom {domain.name} needs some; set-{what} gives it"
            raise InvalidValue(what=f"amount of {what}", value="0", why=why)
    _own_buses(inventory, domain)
    machine, units = inventory.machine, crypto.free_units(inventory) if wanted.mau else ()
    near = crypto.cores_of(machine, units)
    pids = grant_strands(
        inventory, wanted.vcpu, own=(s.pid for s in machine.strands if s.core in near)
    )
    return Bindings(
        vcpus=tuple(Vcpu(vid, pid) for vid, pid in enumerate(pids)),
        blocks=grant_memory(inventory, wanted.memory),
        crypto=grant_crypto(inventory, pids, wanted.mau),
        console=grant_console(inventory, domain),
        io=wanted.io,
    )


def _own_buses(inventory: Inventory, domain: Domain) -> None:
    for name in domain.constraints.io:
        if inventory.machine.bus(name) is None:
            raise ObjectUnknown(what="I/O bus", name=name, where=" on this machine")
        for other in inventory.domains.values():
            if other.uuid != domain.uuid and other.bindings and name in other.bindings.io:
                raise InUse(what="I/O bus", name=name, user=f"LDom {other.name}")


def freed(inventory: Inventory, blocks: Iterable[Block]) -> tuple[Inventory, Effects]:
    """Memory given back: dirty, and sent to be scrubbed; free only when that is proved."""
    effects: list[Scrub] = []
    for region in merge(Region(b.pa, b.size) for b in blocks):
        inventory = inventory.put("dirty", f"{region.base:#x}", Freed(region))
        effects.append(Scrub(region))
    return inventory, tuple(effects)


def take_back(inventory: Inventory, domain: Domain) -> tuple[Inventory, Effects]:
    """The domain without bindings; its memory goes to be scrubbed."""
    blocks = domain.bindings.blocks if domain.bindings else ()
    inventory = inventory.with_domain(replace(domain, bindings=None, runtime=None, agent=False))
    return freed(inventory, blocks)


def cpu_map(inventory: Inventory) -> tuple[tuple[int, int], ...]:
    """(strand, host CPU) of every strand of the machine."""
    return tuple((s.pid, s.cpu) for s in inventory.machine.strands)
