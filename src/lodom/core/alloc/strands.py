"""Which strands a domain gets, and which it gives back."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from lodom.core.model.domain import Vcpu
from lodom.core.model.host import Machine
from lodom.core.model.inventory import Inventory


@dataclass(frozen=True)
class Grant:
    """Strands for a domain, ascending; ``held`` is kept from everybody until it reboots (R06)."""

    strands: tuple[int, ...]
    held: tuple[int, ...] = ()


@dataclass(frozen=True)
class Shortage:
    """Too few: ``free`` is what could have been given in the form that was asked for."""

    wanted: int
    free: int


def taken(inventory: Inventory) -> frozenset[int]:
    """Strands that are some domain's, or held for one."""
    return frozenset(
        pid
        for domain in inventory.domains.values()
        if domain.bindings
        for pid in (*(v.pid for v in domain.bindings.vcpus), *domain.bindings.held)
    )


def free_strands(inventory: Inventory) -> tuple[int, ...]:
    """Strands that a domain may get now, ascending."""
    gone = taken(inventory)
    return tuple(sorted(s.pid for s in inventory.machine.strands if s.pid not in gone))


def choose(
    machine: Machine, free: Collection[int], count: int, *, own: Iterable[int] = ()
) -> Grant | Shortage:
    """*count* strands of *free*, on cores where the domain has *own* strands first.

    Then on the fewest cores, then on the cores with the lowest ids: cores are filled, so that whole
    ones stay free for others.
    """
    if count > len(free):
        return Shortage(count, len(free))
    core = {s.pid: s.core for s in machine.strands}
    home = {core[pid] for pid in own}
    near = _fewest_cores(core, [p for p in free if core[p] in home], count)
    far = [p for p in free if core[p] not in home]
    return Grant(tuple(sorted((*near, *_fewest_cores(core, far, count - len(near))))))


def _fewest_cores(core: dict[int, int], free: Collection[int], count: int) -> list[int]:
    """Up to *count* of *free* on the fewest cores, of these the lowest ids."""
    cores: dict[int, list[int]] = {}
    for pid in sorted(free):
        cores.setdefault(core[pid], []).append(pid)
    chosen: list[int] = []
    while cores and len(chosen) < count:
        rest = count - len(chosen)
        enough = [c for c, pids in cores.items() if len(pids) >= rest]
        best = min(enough or cores, key=lambda c: (0 if enough else -len(cores[c]), c))
        chosen += cores.pop(best)[:rest]
    return chosen


def free_cores(machine: Machine, free: Collection[int]) -> tuple[int, ...]:
    """Cores all of whose strands are free, ascending."""
    busy = {s.core for s in machine.strands if s.pid not in free}
    return tuple(sorted({s.core for s in machine.strands} - busy))


def choose_for_migration(
    machine: Machine,
    free: Collection[int],
    count: int,
    *,
    whole_cores: bool = True,
    first: Collection[int] = (),
) -> Grant | Shortage:
    """Strands for a domain that arrives with *count* of them, on the cores *first* if it can be.

    With *whole_cores* (rules 1.2) only wholly free cores serve, lowest ids first, and what the
    last one has beyond *count* is held.  Without (3.x) as for any bind.

    Source: rules R04 to R06.
    """
    if not whole_cores:
        own = [s.pid for s in machine.strands if s.core in first]
        return choose(machine, free, count, own=own)
    cores = sorted(free_cores(machine, free), key=lambda core: core not in first)
    pids = [p for core in cores for p in machine.core_strands(core)]
    if count > len(pids):
        return Shortage(count, len(pids))
    strands = pids[:count]
    begun = {machine.core_of(p) for p in strands}
    held = [p for p in pids[count:] if machine.core_of(p) in begun]
    return Grant(tuple(sorted(strands)), tuple(sorted(held)))


def give_back(
    machine: Machine, vcpus: Iterable[Vcpu], count: int, *, keep_cores: Collection[int] = ()
) -> tuple[Vcpu, ...]:
    """The *count* virtual CPUs that go first, in that order: highest vid first.

    Cores are emptied, those with the fewest strands of the domain first.  The lowest vid, which a
    guest cannot take off line, and one strand in each of *keep_cores* (cores whose crypto units
    the domain has) go last of all.
    """
    have = sorted(vcpus)
    core = {s.pid: s.core for s in machine.strands}
    size: dict[int, int] = {}
    first: dict[int, Vcpu] = {}
    for vcpu in have:
        size[core[vcpu.pid]] = size.get(core[vcpu.pid], 0) + 1
        first.setdefault(core[vcpu.pid], vcpu)
    boot = core[have[0].pid] if have else 0

    def worth(vcpu: Vcpu) -> tuple[bool, bool, bool, int, int, int]:
        mine = core[vcpu.pid]
        needed = mine in keep_cores and first[mine] == vcpu
        return (vcpu == have[0], needed, mine == boot, size[mine], -first[mine].vid, -vcpu.vid)

    return tuple(sorted(sorted(have, key=worth)[:count], reverse=True))
