"""Where memory blocks go: blocks of a migrated domain (fixed sizes), and blocks of a fresh bind.

A block does not split, so placing given blocks in free ranges is bin packing.  Whether it can be
done is answered by ``core.alloc.packing``; this module speaks of addresses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from math import gcd

from lodom.core.alloc.packing import IMPOSSIBLE, STEPS, UNDECIDED, Effort, Packing, pack
from lodom.core.alloc.regions import align, merge
from lodom.core.model.domain import Block
from lodom.core.model.host import MAX_BLOCKS, Region
from lodom.core.units import round_up


class Lack(StrEnum):
    """Why memory cannot be had."""

    TOTAL = "total"
    """Less is free in all than is wanted."""
    LAYOUT = "layout"
    """Enough is free, but not in ranges that can hold the blocks."""


@dataclass(frozen=True)
class Misfit:
    """There is no placement.  Sizes in bytes.

    ``block`` is the index of the first block, in the order given, up to which the blocks have no
    placement together.  ``sure`` is False when an earlier one might be it too (step limit).
    """

    lack: Lack
    wanted: int
    free: int
    largest: int
    block: int = 0
    sure: bool = True


@dataclass(frozen=True)
class Undecided:
    """The search was given up after ``steps`` steps: there may or may not be a placement."""

    steps: int


def place(
    sizes: Sequence[int], free: Sequence[Region], *, page: int, steps: int = STEPS
) -> tuple[int, ...] | Misfit | Undecided:
    """Physical addresses for blocks of *sizes* (bytes, in RA order), multiples of *page*.

    Exact: if any assignment exists it is found, unless the search reaches *steps*.  *free* may be
    in any order; sizes count as whole pages.

    Source: rules R12 to R18.
    """
    holes = align(merge(free), page)
    grains = [round_up(size, page) for size in sizes]
    effort = Effort(steps)
    answer = _pack(grains, holes, effort)
    if answer == UNDECIDED:
        return Undecided(steps)
    if answer == IMPOSSIBLE:
        return _misfit(grains, holes, effort)
    assert isinstance(answer, tuple)
    cursor = [hole.base for hole in holes]
    placed: list[int] = []
    for size, hole in zip(grains, answer, strict=True):
        placed.append(cursor[hole])
        cursor[hole] += size
    return tuple(placed)


def _pack(grains: Sequence[int], holes: Sequence[Region], effort: Effort) -> Packing:
    # Only multiples of the sizes' common divisor can ever be used of a hole.
    unit = gcd(*grains) or 1
    return pack([g // unit for g in grains], [h.size // unit for h in holes], effort)


def _misfit(grains: Sequence[int], holes: Sequence[Region], effort: Effort) -> Misfit:
    """Name the first block that is too many; feasibility is monotone, so by bisection."""
    free = sum(h.size for h in holes)
    largest = max((h.size for h in holes), default=0)
    sums = list(accumulate(grains))
    # fits: number of blocks known to fit; fails: number of blocks known not to.
    fits, fails, sure = 0, len(grains), True
    over = next((n for n, total in enumerate(sums, 1) if total > free), fails)
    fails = min(fails, over)
    while sure and fails - fits > 1:
        middle = (fits + fails) // 2
        answer = _pack(grains[:middle], holes, effort)
        if answer == UNDECIDED:
            sure = False
        elif answer == IMPOSSIBLE:
            fails = middle
        else:
            fits = middle
    lack = Lack.TOTAL if sums[-1] > free else Lack.LAYOUT
    return Misfit(lack, sums[-1], free, largest, fails - 1, sure)


def carve(
    size: int,
    free: Sequence[Region],
    *,
    page: int,
    ra_base: int,
    max_blocks: int = MAX_BLOCKS,
) -> tuple[Block, ...] | Misfit:
    """Blocks for *size* bytes (rounded up to pages): the fewest, at the lowest addresses.

    RAs follow one another from *ra_base* in the order of the PAs; for memory added to a bound
    domain *ra_base* is the end of its last block (``next_ra``), *max_blocks* what it may still
    have.
    """
    holes = align(merge(free), page)
    wanted = round_up(size, page)
    parts: list[Region] = []
    rest = wanted
    # All but one of the fewest blocks must be the largest holes, taken whole.
    for hole in sorted(holes, key=lambda h: (-h.size, h.base)):
        if hole.size >= rest:
            break
        parts.append(hole)
        rest -= hole.size
    last = next((h for h in holes if h.size >= rest and h not in parts), None)
    total = sum(h.size for h in holes)
    largest = max((h.size for h in holes), default=0)
    if last is None:
        return Misfit(Lack.TOTAL, wanted, total, largest)
    parts.append(Region(last.base, rest))
    if len(parts) > max_blocks:
        return Misfit(Lack.LAYOUT, wanted, total, largest)
    parts.sort()
    ras = accumulate((p.size for p in parts), initial=ra_base)
    return tuple(Block(ra, part.base, part.size) for ra, part in zip(ras, parts, strict=False))


def joined(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """The same memory in as few blocks as it has: what adjoins by RA and by PA is one."""
    whole: list[Block] = []
    for block in sorted(blocks):
        last = whole[-1] if whole else None
        if last and (last.ra + last.size, last.pa + last.size) == (block.ra, block.pa):
            whole[-1] = Block(last.ra, last.pa, last.size + block.size)
        else:
            whole.append(block)
    return tuple(whole)


def next_ra(blocks: Sequence[Block], ra_base: int) -> int:
    """The real address behind a domain's last block."""
    return max((b.ra + b.size for b in blocks), default=ra_base)


def trim(blocks: Sequence[Block], size: int, *, page: int) -> tuple[Block, ...]:
    """What stays of *blocks* when *size* bytes (whole pages, rounded down) are given back.

    Highest real addresses go first; the last block touched keeps its low end.
    """
    rest = size // page * page
    kept: list[Block] = []
    for block in sorted(blocks, reverse=True):
        gone = min(rest, block.size)
        rest -= gone
        if gone < block.size:
            kept.append(Block(block.ra, block.pa, block.size - gone))
    return tuple(reversed(kept))
