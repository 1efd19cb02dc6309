"""Sets of regions against sets of numbers; free memory of a machine."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lodom.core.alloc.regions import align, free_ranges, merge, subtract, used
from lodom.core.model.domain import Bindings, Block, Domain
from lodom.core.model.host import Machine, Region
from lodom.core.model.inventory import Freed, Inventory

regions = st.lists(st.builds(Region, st.integers(0, 60), st.integers(0, 12)), max_size=8)


def points(some):
    return {p for r in some for p in range(r.base, r.end)}


def tidy(some):
    """Ascending, with a gap between neighbours, none empty."""
    return all(a.end < b.base for a, b in pairwise(some)) and all(r.size > 0 for r in some)


@given(regions)
def test_merge_keeps_the_memory(some):
    assert points(merge(some)) == points(some)
    assert tidy(merge(some))


@given(regions, regions)
def test_subtract_is_set_difference(some, taken):
    assert points(subtract(some, taken)) == points(some) - points(taken)
    assert tidy(subtract(some, taken))


@given(regions, st.integers(1, 7))
def test_align_keeps_whole_pages(some, page):
    whole = {
        p
        for r in some
        for start in range(-(-r.base // page) * page, r.end - page + 1, page)
        for p in range(start, start + page)
    }
    assert points(align(some, page)) == whole


def test_blocks_dirt_and_reservations_are_not_free():
    machine = Machine("m", "i", "p", 1, (), (Region(0, 100), Region(100, 100), Region(300, 50)), 10)
    bound = Bindings(blocks=(Block(0x8000000, 20, 30),))
    inventory = Inventory(
        machine,
        domains={"u": Domain("u", "ldg1", "", bindings=bound), "v": Domain("v", "ldg2", "")},
        dirty={"d": Freed(Region(300, 5))},
    )
    assert used(inventory) == (Region(20, 30),)
    free = free_ranges(inventory, [Region(100, 40)])
    assert free == (Region(0, 20), Region(50, 50), Region(140, 60), Region(310, 40))
    assert free_ranges(replace(inventory, domains={}, dirty={}))[0] == Region(0, 200)
