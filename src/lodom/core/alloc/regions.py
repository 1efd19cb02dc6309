"""Sets of memory regions: merging, taking away, and what of a machine's memory is free."""

from collections.abc import Iterable, Iterator

from lodom.core.model.host import Region
from lodom.core.model.inventory import Inventory


def merge(regions: Iterable[Region]) -> tuple[Region, ...]:
    """The same memory in the fewest regions, ascending; neighbours become one."""
    merged: list[Region] = []
    for region in sorted(r for r in regions if r.size > 0):
        if merged and region.base <= merged[-1].end:
            last = merged.pop()
            region = Region(last.base, max(last.end, region.end) - last.base)
        merged.append(region)
    return tuple(merged)


def subtract(regions: Iterable[Region], taken: Iterable[Region]) -> tuple[Region, ...]:
    """What *taken* leaves of *regions*, merged and ascending.  O(n log n)."""
    cuts = merge(taken)
    left: list[Region] = []
    first = 0
    for region in merge(regions):
        at = region.base
        while first < len(cuts) and cuts[first].end <= at:
            first += 1
        for cut in _from(cuts, first, region.end):
            if cut.base > at:
                left.append(Region(at, cut.base - at))
            at = max(at, cut.end)
        if at < region.end:
            left.append(Region(at, region.end - at))
    return tuple(left)


def _from(cuts: tuple[Region, ...], first: int, end: int) -> Iterator[Region]:
    for index in range(first, len(cuts)):
        if cuts[index].base >= end:
            return
        yield cuts[index]


def align(regions: Iterable[Region], page: int) -> tuple[Region, ...]:
    """The whole pages inside each region; regions without one are left out."""
    inner = ((-(-r.base // page) * page, r.end // page * page) for r in regions)
    return tuple(Region(base, end - base) for base, end in inner if end > base)


def used(inventory: Inventory) -> tuple[Region, ...]:
    """Memory that some domain of this machine is bound to, one region a block, ascending."""
    return tuple(
        sorted(
            Region(block.pa, block.size)
            for domain in inventory.domains.values()
            if domain.bindings
            for block in domain.bindings.blocks
        )
    )


def free_ranges(inventory: Inventory, reserved: Iterable[Region] = ()) -> tuple[Region, ...]:
    """Memory that a domain may get now: merged, ascending, whole pages.

    Not free: blocks of any domain (the shell of an incoming migration is one), memory not yet
    proved zero, and *reserved*.
    """
    machine = inventory.machine
    dirty = (freed.region for freed in inventory.dirty.values())
    return align(
        subtract(machine.regions, (*used(inventory), *dirty, *reserved)),
        machine.page,
    )
