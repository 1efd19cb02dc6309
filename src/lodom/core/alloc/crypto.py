"""Crypto units: a domain can use those of the cores in which it has a strand."""

from collections.abc import Collection, Iterable

from lodom.core.alloc import strands
from lodom.core.alloc.strands import Grant, Shortage
from lodom.core.model.host import Machine
from lodom.core.model.inventory import Inventory


def reachable(machine: Machine, pids: Iterable[int]) -> tuple[int, ...]:
    """Units of the cores of the strands *pids*, ascending; what the control domain has unless set.

    Source: ldm-cli 3.3, "with a strand of that core".
    """
    mine = set(pids)
    cores = {s.core for s in machine.strands if s.pid in mine}
    return tuple(sorted(u.id for u in machine.crypto if u.core in cores))


def free_units(inventory: Inventory) -> tuple[int, ...]:
    """Units that no domain has, ascending."""
    gone = {u for d in inventory.domains.values() if d.bindings for u in d.bindings.crypto}
    return tuple(sorted(u.id for u in inventory.machine.crypto if u.id not in gone))


def choose(
    machine: Machine, free: Collection[int], pids: Iterable[int], count: int
) -> tuple[int, ...] | Shortage:
    """*count* of the *free* units within reach of the strands *pids*, lowest ids."""
    usable = [u for u in reachable(machine, pids) if u in free]
    return tuple(usable[:count]) if count <= len(usable) else Shortage(count, len(usable))


def out_of_reach(machine: Machine, units: Iterable[int], pids: Iterable[int]) -> tuple[int, ...]:
    """Those of *units* that the strands *pids* cannot use: they bar a removal of strands."""
    within = reachable(machine, pids)
    return tuple(sorted(u for u in units if u not in within))


def cores_of(machine: Machine, units: Collection[int]) -> tuple[int, ...]:
    """The cores of *units*, ascending."""
    return tuple(sorted({u.core for u in machine.crypto if u.id in units}))


def choose_for_migration(
    inventory: Inventory, count: int, units: int, *, whole_cores: bool
) -> tuple[Grant | Shortage, tuple[int, ...]]:
    """Strands for a domain that arrives with *count* of them, and the free units within reach.

    A domain that has units bound comes to cores that have free ones (R43).
    """
    machine, free = inventory.machine, free_units(inventory)
    grant = strands.choose_for_migration(
        machine,
        strands.free_strands(inventory),
        count,
        whole_cores=whole_cores,
        first=cores_of(machine, free) if units else (),
    )
    pids = grant.strands if isinstance(grant, Grant) else ()
    return grant, tuple(u for u in reachable(machine, pids) if u in free)
