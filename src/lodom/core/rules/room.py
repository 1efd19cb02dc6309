"""Whether the domain's memory blocks have a place on the target, and what would make room."""

from collections.abc import Sequence
from functools import lru_cache

from lodom.core.alloc.memory import Misfit, Undecided, place
from lodom.core.alloc.regions import merge
from lodom.core.model.domain import Block
from lodom.core.model.host import Region
from lodom.core.rules.case import Case, TargetFacts


def blocks_by_ra(case: Case) -> tuple[Block, ...]:
    """The domain's blocks in the order in which they are placed."""
    return tuple(sorted(case.domain.blocks))


def placement(case: Case) -> tuple[int, ...] | Misfit | Undecided:
    """Physical addresses on the target for the domain's blocks, or why not."""
    sizes = tuple(block.size for block in blocks_by_ra(case))
    return _place(sizes, case.target.free, case.target.machine.page)


@lru_cache(maxsize=16)
def _place(
    sizes: tuple[int, ...], free: tuple[Region, ...], page: int
) -> tuple[int, ...] | Misfit | Undecided:
    # Several rules and the drawing ask for the same placement.
    return place(sizes, free, page=page)


def room_makers(target: TargetFacts, sizes: Sequence[int]) -> tuple[str, ...]:
    """Domains of the target, each of which alone makes room for *sizes* when it is unbound."""
    owned: dict[str, list[Region]] = {}
    for use in target.used:
        if use.kind == "domain" and use.owner != "primary":
            owned.setdefault(use.owner, []).append(use.region)
    return tuple(
        name
        for name, regions in sorted(owned.items())
        if isinstance(
            _place(tuple(sizes), merge((*target.free, *regions)), target.machine.page), tuple
        )
    )
