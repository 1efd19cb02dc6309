"""What must hold at every moment, and what must hold when the world has been left alone."""

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

from lodom.core.alloc.regions import merge, subtract
from lodom.core.lifecycle.devices import places
from lodom.core.migration import source, target
from lodom.core.model.domain import Domain, State
from lodom.core.model.host import Region
from lodom.core.model.inventory import Change, Inventory

if TYPE_CHECKING:
    from lodom.sim.host import Host
    from lodom.sim.world import World


class Violated(AssertionError):
    """An invariant does not hold."""


def demand(holds: object, *what: object) -> None:
    """Refuse to go on unless it *holds*.

    Raises:
        Violated: it does not.
    """
    if not holds:
        raise Violated(" ".join(map(str, what)))


# -- at every moment ----------------------------------------------------------------------------


class Soil:
    """Which memory holds somebody's data, kept apart from what the engine says of it."""

    def __init__(self) -> None:
        self._soiled: tuple[Region, ...] = ()

    def change(self, before: Domain | None, after: Domain | None) -> None:
        """A domain's blocks change: new ones must be clean, old ones are soiled.

        A bind that failed has put nothing into its memory.
        """
        old, new = _memory(before), _memory(after)
        if old == new:
            return
        got = subtract(new, old)
        both = subtract(got, subtract(got, self._soiled))
        demand(not both, "a domain gets another's old memory", both)
        if before is not None and before.state is not State.BINDING:
            self._soiled = merge((*self._soiled, *subtract(old, new)))

    def scrub(self, region: Region) -> None:
        """The region was proved zero."""
        self._soiled = subtract(self._soiled, (region,))


def _memory(d: Domain | None) -> tuple[Region, ...]:
    return tuple(Region(b.pa, b.size) for b in d.bindings.blocks) if d and d.bindings else ()


def check_inventory(journal: Inventory, engine: Inventory, changed: Iterable[Change]) -> None:
    """Nothing belongs to two, and the engine thinks what is written.

    Raises:
        Violated: otherwise.
    """
    tables = {c.table for c in changed}
    for table in tables:
        same = getattr(journal, table) == getattr(engine, table)
        demand(same, "the journal replayed differs from the engine's", table)
    if not tables.isdisjoint(("domains", "vsw", "dirty")):
        _check_holdings(journal)


def _check_holdings(inventory: Inventory) -> None:
    domains = list(inventory.domains.values())
    bound = [(d, d.bindings) for d in domains if d.bindings]
    _once("name", (d.name for d in domains))
    _once("MAC", _macs(inventory))
    _once("strand", (s for _, b in bound for s in (*(v.pid for v in b.vcpus), *b.held)))
    _once("crypto unit", (u for _, b in bound for u in b.crypto))
    ports = {(b.console.port, b.console.group) for _, b in bound if b.console}
    _once("console port", (port for port, _ in ports))
    regions = sorted(
        [
            *((r.base, r.size) for d, _ in bound for r in _memory(d)),
            *((f.region.base, f.region.size) for f in inventory.dirty.values()),
        ]
    )
    for (base, size), (after, _) in pairwise(regions):
        demand(base + size <= after, "memory held twice, or dirty and held:", hex(after))
    for d, b in bound:
        if d.runtime and d.state is State.ACTIVE:
            given = {v.vid for v in b.vcpus}
            demand(given.issuperset(d.runtime.online), d.name, "runs on strands it has not")


def _macs(inventory: Inventory) -> Iterable[str]:
    for d in inventory.domains.values():
        yield d.mac
        yield from (n.mac for n in d.constraints.vnets)
    yield from (s.mac for s in inventory.vsw.values())


def _once(what: str, held: Iterable[object]) -> None:
    things = list(held)
    if len(things) != len(set(things)):
        raise Violated(f"{what} held twice: {sorted(map(str, things))}")


def check_running(hosts: Iterable["Host"]) -> None:
    """No domain runs twice, and who runs it owns it; no process without its domain's memory.

    Raises:
        Violated: otherwise.
    """
    running: set[str] = set()
    for host in hosts:
        for guest in host.hypervisor.guests.values():
            domain = host.inventory.domains.get(guest.uuid)
            if domain is None or domain.bindings is None:
                raise Violated(f"a process of {guest.uuid} lives, its memory is given back")
            if guest.status == "running":
                demand(guest.uuid not in running, "two copies run:", guest.uuid)
                running.add(guest.uuid)
                owner = host.inventory.ownership[guest.uuid].owner
                demand(owner == host.facts.instance, host.facts.name, "runs what it does not own")


# -- in the end ---------------------------------------------------------------------------------


def check_end(world: "World", *, strands: bool = True) -> None:
    """Left alone, the world has come to rest: each domain once, nothing locked, all answered.

    ``strands``: no guest refused a change of its CPUs, so each has all that are bound.

    Raises:
        Violated: otherwise.
    """
    homes: dict[str, list[str]] = {}
    doubtful = {
        (name, row.uuid)
        for name, host in world.hosts.items()
        for row in host.inventory.outgoing.values()
    }
    for host in world.hosts.values():
        _check_rest(world, host)
        for d in host.inventory.domains.values():
            if not d.control and (host.facts.name, d.uuid) not in doubtful:
                homes.setdefault(d.uuid, []).append(host.facts.name)
                _check_domain(host, d, strands=strands)
    for uuid in world.domains:
        there = homes.get(uuid, [])
        if uuid in world.touched and not there:
            continue
        demand(len(there) == 1, uuid, "is on", there or "no machine")
        records = [h.inventory.ownership.get(uuid) for h in world.hosts.values()]
        last = max((r for r in records if r), key=lambda r: r.epoch)
        home = world.hosts[homes[uuid][0]]
        demand(last.owner == home.facts.instance, uuid, "lives where it is not owned")


def _in_doubt_for_ever(world: "World", here: "Host", row: source.SourceMigration) -> bool:
    """A journal of yesterday does not know, or still knows, a hand-over that went on without it.

    The target says neither yes nor no; the administrator may not take the domain back, as it may
    run there.
    """
    there = world.hosts[row.host]
    listed = row.uuid in there.inventory.domains
    return (there.restored and listed) or here.restored


def _check_rest(world: "World", host: "Host") -> None:
    inventory, name = host.inventory, host.facts.name
    for out in inventory.outgoing.values():
        demand(_in_doubt_for_ever(world, host, out), name, "still gives away", out)
    demand(not inventory.dirty, name, "has memory that was never scrubbed")
    instances = {h.facts.instance for h in world.hosts.values()}
    for row in inventory.incoming.values():
        if world.old_journals or row.source not in instances:
            continue  # who would confirm it knows nothing of it any more; it locks nothing
        # A refusal that nobody ever asks for again: the source had forgotten the migration when
        # a late Reserve arrived.  It holds nothing.
        demand(row.phase is target.Phase.GONE, name, "still receives", row)
    for request, order in host.orders.items():
        if order.life == host.life and not order.lost:
            demand(request in host.answers, name, "never answered", order.verb, request)
    strays = set(host.hypervisor.guests) - set(inventory.domains)
    demand(not strays, name, "has stray processes", strays)


def _check_domain(host: "Host", d: Domain, *, strands: bool) -> None:
    where = f"{d.name} on {host.facts.name}"
    demand(not d.migration, where, "stays locked by", d.migration)
    demand(d.state in (State.INACTIVE, State.BOUND, State.ACTIVE), where, "stays", d.state)
    demand((d.bindings is None) == (d.state is State.INACTIVE), where, "holds what it should not")
    guest = host.hypervisor.guests.get(d.uuid)
    if d.state is not State.ACTIVE:
        demand(guest is None, where, "is", d.state, "and has a process")
        return
    demand(guest and guest.status == "running", where, "should run and does not:", guest)
    if guest:
        demand(guest.places == dict(places(d)).keys(), where, guest.places, "are not", d)
    if strands and guest:
        # A guest that rebooted by itself may have brought parked CPUs back: it slows only itself.
        given = {v.vid for v in d.bound.vcpus}
        demand(given.issubset(guest.online), where, guest.online, "run of", given)
