"""Questions for the placement of memory: 64 blocks, 1,000 free ranges, in pages.

Drawn by seed, so that a slow one can be drawn again.  The hard ones leave nothing over: to tell
whether such blocks fit is as hard as packing gets.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from lodom.core.model.host import Region
from lodom.core.units import MIB

PAGE: Final = 2 * MIB
_ODD: Final = 4096
"""How far behind a page boundary ranges begin and end that are off them."""


@dataclass(frozen=True)
class Question:
    """Sizes and ranges in bytes; ``fits`` None: nobody knows without trying."""

    kind: str
    sizes: tuple[int, ...]
    free: tuple[Region, ...]
    fits: bool | None


def _roomy(r: Random, blocks: int, ranges: int) -> tuple[list[int], list[int]]:
    return [r.randint(1, 2048) for _ in range(blocks)], [r.randint(1, 4096) for _ in range(ranges)]


def _scattered(r: Random, blocks: int, ranges: int) -> tuple[list[int], list[int]]:
    """Enough in all, but the largest block is larger than every range."""
    sizes = [r.randint(1, 700) for _ in range(blocks - 1)] + [701]
    return sizes, [r.randint(1, 700) for _ in range(ranges)]


def _too_little(r: Random, blocks: int, ranges: int) -> tuple[list[int], list[int]]:
    sizes = [r.randint(1000, 2048) for _ in range(blocks)]
    return sizes, [r.randint(1, 2 * sum(sizes) // ranges - 2) for _ in range(ranges)]


def _filled(ranges: int, parts: list[int], smallest: int) -> list[int]:
    """*parts*, and as many ranges again that are too small for any block."""
    return parts + [max(1, smallest - 1)] * (ranges - len(parts) if smallest > 1 else 0)


def _exact(r: Random, blocks: int, ranges: int) -> tuple[list[int], list[int]]:
    """Some ranges hold the blocks without a page to spare, the others none of them."""
    sizes = [r.randint(20, 2048) for _ in range(blocks)]
    parts = [0] * r.choice([max(2, blocks // n) for n in (2, 3, 4, 8, 16)])
    for size in sizes:
        parts[r.randrange(len(parts))] += size
    return sizes, _filled(ranges, [p for p in parts if p], min(sizes))


def _page_short(r: Random, blocks: int, ranges: int) -> tuple[list[int], list[int]]:
    sizes, holes = _exact(r, blocks, ranges)
    holes[holes.index(max(holes))] -= 1
    return sizes, holes


def _threes(r: Random, blocks: int, ranges: int) -> tuple[list[int], list[int]]:
    """Three blocks to a range, all ranges equal, nothing to spare (3-partition)."""
    whole, sizes = 1000, []
    while len(sizes) < blocks // 3 * 3:
        a, b = (r.randint(whole // 4 + 1, whole // 2 - 1) for _ in range(2))
        if whole // 4 < whole - a - b < whole // 2:
            sizes += [a, b, whole - a - b]
    return sizes, _filled(ranges, [whole] * (len(sizes) // 3), whole // 4)


def _threes_perhaps(r: Random, blocks: int, ranges: int) -> tuple[list[int], list[int]]:
    """The same, a page taken here and put there."""
    sizes, holes = _threes(r, blocks, ranges)
    for change in (1, -1, 1, -1):
        sizes[r.randrange(len(sizes))] += change
    return sizes, holes


def _pairs(r: Random, blocks: int, ranges: int) -> tuple[list[int], list[int]]:
    """Two blocks to a range, with a few pages more or less than they need."""
    sizes = [r.randint(300, 400) for _ in range(blocks)]
    pairs = zip(sizes[::2], sizes[1::2], strict=True)
    return sizes, _filled(ranges, [a + b + r.randint(-3, 5) for a, b in pairs], 250)


def _odd(r: Random, blocks: int, ranges: int) -> tuple[list[int], list[int]]:
    """Even blocks, odd ranges: a page of each range is lost."""
    sizes = [2 * r.randint(100, 400) for _ in range(blocks - 1)] + [3]
    odd = [2 * r.randint(100, 500) + 1 for _ in range(blocks * 2 // 3)]
    return sizes, _filled(ranges, odd, 3)


_KINDS: Final[
    dict[str, tuple[Callable[[Random, int, int], tuple[list[int], list[int]]], bool | None]]
] = {
    "random, room enough": (_roomy, True),
    "random, badly laid out": (_scattered, False),
    "random, not enough": (_too_little, None),
    "exact, nothing to spare": (_exact, True),
    "one page short": (_page_short, None),
    "three to a range": (_threes, True),
    "three to a range, perhaps": (_threes_perhaps, None),
    "two to a range, perhaps": (_pairs, None),
    "even into odd": (_odd, None),
}


def questions(seeds: int, blocks: int = 64, ranges: int = 1000) -> Iterator[Question]:
    """Of every kind *seeds* ones, on page boundaries and off them."""
    for kind, (draw, fits) in _KINDS.items():
        for seed in range(seeds):
            r = Random(f"{kind} {seed}")
            sizes, holes = draw(r, blocks, ranges)
            r.shuffle(sizes)
            r.shuffle(holes)
            for odd in (False, True):
                where = f"{kind}, off the page boundaries" if odd else kind
                yield Question(where, tuple(s * PAGE for s in sizes), _laid(holes, odd), fits)


def _laid(holes: list[int], odd: bool) -> tuple[Region, ...]:
    """Ranges of so many usable pages, none next to another."""
    base, made = 1 << 32, []
    for pages in holes:
        begin, more = (_ODD, PAGE) if odd else (0, 0)
        made.append(Region(base + begin, pages * PAGE + more))
        base += (pages + 2) * PAGE
    return tuple(made)
