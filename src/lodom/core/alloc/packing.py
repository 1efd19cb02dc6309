"""Exact bin packing: which hole takes which item.  Whole numbers only, no addresses.

First two quick guesses that nearly always succeed, then a search over "largest item first, into
which hole"; where that gives up, one over "smallest hole first, filled with what", which is strong
when hardly anything may be left over, and cheap.  What keeps the first search small:

- a hole of size r counts only with the largest sum of items that it can hold (subset sums);
- for every size t, holes offer ``r // t`` places for items of at least t, and that must suffice;
- an item that fills a hole exactly goes there: nothing better can be done with either;
- holes with equal room are one choice; equal items go to holes in one order only;
- a state that failed once is remembered.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Final, Literal

STEPS: Final = 45_000
"""Effort before the searches give up: a choice among items costs ``_DEAR``, one of a subset 1."""

_DEAR: Final = 20

IMPOSSIBLE: Final = "impossible"
UNDECIDED: Final = "undecided"


@dataclass
class Effort:
    """What the searches of one question may still cost; ``left`` never falls below zero."""

    left: int = STEPS

    def spend(self, cost: int) -> None:
        """Take *cost* off, or all that is left."""
        self.left = max(0, self.left - cost)


Packing = tuple[int, ...] | Literal["impossible", "undecided"]

# Beyond this many bits a set of sums costs more than it saves.
_WIDEST: Final = 1 << 18


def pack(items: Sequence[int], holes: Sequence[int], effort: Effort | None = None) -> Packing:
    """The hole of each item, so that no hole overflows; or that there is no such packing.

    Of equally good holes the first is used, so that callers prefer holes by order.  ``undecided``
    when *effort* is used up, never otherwise.
    """
    if sum(items) > sum(holes) or max(items, default=0) > max(holes, default=0):
        return IMPOSSIBLE
    order = sorted(range(len(items)), key=lambda i: (-items[i], i))
    sizes = [items[i] for i in order]
    found = _best_fit(sizes, holes)
    if found is None:
        # n items never need more than the n largest holes, nor one that holds none of them.
        useful = (h for h, room in enumerate(holes) if room >= sizes[-1])
        largest = sorted(useful, key=lambda h: (-holes[h], h))[: len(items)]
        rooms = [holes[h] for h in largest]
        sums = _Sums(sizes, rooms[0])
        if not _may_fit(sums, 0, rooms):
            return IMPOSSIBLE
        found = _fill(sizes, holes)
    if found is None:
        answer = _search(sums, rooms, effort or Effort())
        if isinstance(answer, str):
            return answer
        found = [largest[h] for h in answer]
    where = dict(zip(order, found, strict=True))
    return tuple(where[i] for i in range(len(items)))


def _search(
    sums: "_Sums", rooms: Sequence[int], effort: Effort
) -> list[int] | Literal["impossible", "undecided"]:
    """A third of the effort for the dear search, the rest for the cheap one."""
    share = effort.left // (3 if sums.exact else 1) // _DEAR
    items = _ByItem(sums, list(rooms), share)
    answer = items.run()
    effort.spend((share - items.steps) * _DEAR)
    if answer == UNDECIDED and sums.exact:
        holes = _ByHole(sums.sizes, rooms, effort.left)
        answer = holes.run()
        effort.spend(effort.left - holes.steps)
    return answer


def _best_fit(sizes: Sequence[int], holes: Sequence[int]) -> list[int] | None:
    """Each item, largest first, into the hole that it fills best."""
    rooms = sorted((room, h) for h, room in enumerate(holes))
    found: list[int] = []
    for size in sizes:
        place = bisect_left(rooms, (size, 0))
        if place == len(rooms):
            return None
        room, best = rooms.pop(place)
        insort(rooms, (room - size, best))
        found.append(best)
    return found


def _fill(sizes: Sequence[int], holes: Sequence[int]) -> list[int] | None:
    """Each hole, smallest first, filled as full as it can be, with large items rather."""
    left = list(range(len(sizes)))
    found = [-1] * len(sizes)
    for hole in sorted(range(len(holes)), key=lambda h: (holes[h], h)):
        if not left or holes[hole] < sizes[left[-1]]:
            continue
        sums = _Sums([sizes[i] for i in left], holes[hole])
        if not sums.exact:
            return None
        target = sums.best(0, holes[hole])
        for place, item in enumerate(tuple(left)):
            if target >= sizes[item] and sums.reaches(place + 1, target - sizes[item]):
                target -= sizes[item]
                found[item] = hole
                left.remove(item)
    return None if left else found


class _Sums:
    """Sums that the items from an index on can make, as bit sets; sizes are descending."""

    def __init__(self, sizes: Sequence[int], widest: int) -> None:
        self.sizes = sizes
        self.totals = [0]
        self.exact = widest < _WIDEST
        mask = (1 << (widest + 1)) - 1 if self.exact else 1
        self._sets = [1]
        self._best: dict[tuple[int, int], int] = {}
        for size in reversed(sizes):
            reach = self._sets[-1]
            self._sets.append((reach | reach << size) & mask if self.exact else 1)
            self.totals.append(self.totals[-1] + size)
        self._sets.reverse()
        self.totals.reverse()

    @cached_property
    def groups(self) -> list[list[tuple[int, int]]]:
        """(size, how many) of the items from each index on."""
        return [
            [(size, len(list(same))) for size, same in groupby(self.sizes[first:])]
            for first in range(len(self.sizes) + 1)
        ]

    def between(self, first: int, low: int, high: int) -> bool:
        """Whether some of the items from *first* on sum up to *low* at least, *high* at most."""
        if high < 0:
            return False
        return bool(self._sets[first] >> max(low, 0) & ((2 << high - max(low, 0)) - 1))

    def reaches(self, first: int, total: int) -> bool:
        """Whether some of the items from *first* on sum up to *total*."""
        return bool(self._sets[first] >> total & 1)

    def best(self, first: int, room: int) -> int:
        """The largest sum of items from *first* on that *room* can hold (or a bound above it)."""
        if room >= self.totals[first]:
            return self.totals[first]
        if first == len(self.sizes) or room < self.sizes[-1]:
            return 0
        if not self.exact:
            return room
        key = (first, room)
        if key not in self._best:
            self._best[key] = (self._sets[first] & ((2 << room) - 1)).bit_length() - 1
        return self._best[key]


def _may_fit(sums: _Sums, first: int, room: list[int]) -> bool:
    """Necessary conditions for the items from *first* on to fit into *room*."""
    if sum(sums.best(first, r) for r in room) < sums.totals[first]:
        return False
    at_least = 0
    for size, count in sums.groups[first]:
        at_least += count
        if sum(r // size for r in room) < at_least:
            return False
    return True


@dataclass
class _ByItem:
    """Depth first over the items; ``room`` is what each hole has left."""

    sums: _Sums
    room: list[int]
    steps: int
    found: list[int] = field(default_factory=list)
    failed: set[tuple[int, int, tuple[int, ...]]] = field(default_factory=set)

    def run(self) -> list[int] | Literal["impossible", "undecided"]:
        if self._place(0):
            return self.found
        return UNDECIDED if self.steps < 0 else IMPOSSIBLE

    def _place(self, item: int) -> bool:
        """Place the items from *item* on; on failure all is as before.  At most 128 deep."""
        sizes = self.sums.sizes
        if item == len(sizes):
            return True
        size = sizes[item]
        # Equal items in one order: the room left by the one before bounds the next.
        last = self.found[-1] if item and sizes[item - 1] == size else -1
        bound = self.room[last] + size if last >= 0 else 0
        smallest = sizes[-1]
        state = (item, bound, tuple(sorted(r for r in self.room if r >= smallest)))
        if state in self.failed:
            return False
        if _may_fit(self.sums, item, self.room):
            for hole in self._choices(size, bound, last):
                self.steps -= 1
                if self.steps < 0:
                    return False
                self.room[hole] -= size
                self.found.append(hole)
                if self._place(item + 1):
                    return True
                self.found.pop()
                self.room[hole] += size
        if self.steps >= 0:
            self.failed.add(state)
        return False

    def _choices(self, size: int, bound: int, last: int) -> list[int]:
        """Holes worth trying: one of each room, tightest first; an exact fit alone."""
        distinct: dict[int, int] = {}
        for hole, room in enumerate(self.room):
            if room >= size and (room >= bound or hole == last):
                distinct.setdefault(room, hole)
        if size in distinct:
            return [distinct[size]]
        return [distinct[room] for room in sorted(distinct)]


@dataclass
class _ByHole:
    """Depth first over the holes, smallest first; a hole may waste what all can spare together.

    Equal holes are one choice: their first items come in order, and of holes that are all equal
    the first one takes the first item.
    """

    sizes: Sequence[int]
    rooms: Sequence[int]
    steps: int
    found: dict[int, int] = field(default_factory=dict)
    failed: set[tuple[int, int, tuple[int, ...]]] = field(default_factory=set)

    def run(self) -> list[int] | Literal["impossible", "undecided"]:
        order = sorted(range(len(self.rooms)), key=lambda h: (self.rooms[h], h))
        spare = sum(self.rooms) - sum(self.sizes)
        if self._fill(order, tuple(range(len(self.sizes))), spare):
            return [self.found[item] for item in range(len(self.sizes))]
        return UNDECIDED if self.steps < 0 else IMPOSSIBLE

    def _fill(
        self, order: Sequence[int], left: tuple[int, ...], spare: int, after: int = -1
    ) -> bool:
        """Put the items *left* into the holes of *order*, wasting *spare* at most.

        *after*: the first item of the hole before, if it is an equal one.
        """
        if not left:
            return True
        sizes = tuple(self.sizes[i] for i in left)
        begin = next((n for n, i in enumerate(left) if i > after), len(left))
        state = (len(order), begin, sizes)
        if not order or state in self.failed:
            return False
        hole, *rest = order
        room = self.rooms[hole]
        equal = room == self.rooms[order[-1]]
        if equal and begin:
            return False
        widest = self.rooms[order[-1]]
        self.steps -= len(sizes) + (len(sizes) * widest >> 14)  # what making the sets costs
        sums = _Sums(sizes, widest)
        if not all(sums.between(0, r - spare, r) for r in {self.rooms[h] for h in rest}):
            return False  # a later hole would waste too much whatever is put in here
        for chosen in self._subsets(sums, begin, room - spare, room):
            taken = {left[place] for place in chosen}
            waste = room - sum(self.sizes[i] for i in taken)
            first = left[chosen[0]] if chosen else len(self.sizes)
            if equal and first != left[0]:
                break
            same = first if rest and self.rooms[rest[0]] == room else -1
            if self._fill(rest, tuple(i for i in left if i not in taken), spare - waste, same):
                self.found.update(dict.fromkeys(taken, hole))
                return True
        if self.steps >= 0:
            self.failed.add(state)
        return False

    def _subsets(self, sums: _Sums, first: int, low: int, high: int) -> Iterator[list[int]]:
        """Choices of items from *first* on that sum up to *low* .. *high*, large items first."""
        self.steps -= 1
        if self.steps < 0 or not sums.between(first, low, high):
            return
        sizes = sums.sizes
        if first == len(sizes):
            yield []
            return
        size = sizes[first]
        for chosen in self._subsets(sums, first + 1, low - size, high - size):
            yield [first, *chosen]
        # Without this item, without its equals: of equal items the first ones are taken.
        other = next((n for n in range(first, len(sizes)) if sizes[n] != size), len(sizes))
        yield from self._subsets(sums, other, low, high)
