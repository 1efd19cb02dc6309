"""Blocks at addresses: exact, apart from each other, inside free memory."""

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from lodom.core.alloc.memory import Lack, Misfit, Undecided, carve, joined, next_ra, place, trim
from lodom.core.alloc.regions import subtract
from lodom.core.model.domain import Block
from lodom.core.model.host import RA_BASE, Region
from lodom.core.units import GIB, MIB

SPEC_FREE = (Region(0x108000000, GIB), Region(0x188000000, GIB))


def holes(draw_sizes):
    """Free ranges of these sizes, each with a gap before it."""
    at, made = 0, []
    for size in draw_sizes:
        at += 4
        made.append(Region(at, size))
        at += size
    return tuple(made)


def fits(sizes, free):
    """Brute force: some order of the blocks goes in, each at the lowest place it finds."""
    for order in set(permutations(sizes)):
        left = list(free)
        for size in order:
            spot = next((r for r in left if r.size >= size), None)
            if spot is None:
                break
            left[left.index(spot)] = Region(spot.base + size, spot.size - size)
        else:
            return True
    return False


@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=6),
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
)
@settings(max_examples=300)
def test_place_is_exact_and_names_the_first_block_too_many(sizes, rooms):
    free = holes(rooms)
    answer = place(sizes, free, page=1)
    first = next((n for n in range(1, len(sizes) + 1) if not fits(sizes[:n], free)), None)
    if isinstance(answer, tuple):
        assert first is None
        given_out = [Region(pa, size) for pa, size in zip(answer, sizes, strict=True)]
        left = subtract(free, given_out)
        assert sum(r.size for r in left) == sum(rooms) - sum(sizes)
    else:
        assert isinstance(answer, Misfit)
        assert answer.sure
        assert answer.block + 1 == first
        assert answer.lack == (Lack.TOTAL if sum(sizes) > sum(rooms) else Lack.LAYOUT)
        assert (answer.wanted, answer.free) == (sum(sizes), sum(rooms))


def test_specification_example_does_not_fit():
    """2G in one block, 2G free in two ranges (R18 to R20)."""
    expected = Misfit(Lack.LAYOUT, 2 * GIB, 2 * GIB, GIB, block=0)
    assert expected == place([2 * GIB], SPEC_FREE, page=2 * MIB)
    assert place([GIB, GIB], SPEC_FREE, page=2 * MIB) == (0x108000000, 0x188000000)


def test_only_whole_pages_count():
    free = (Region(GIB + MIB, 4 * MIB),)
    assert place([2 * MIB], free, page=2 * MIB) == (GIB + 2 * MIB,)
    assert place([2 * MIB, 2 * MIB], free, page=2 * MIB) == Misfit(
        Lack.TOTAL, 4 * MIB, 2 * MIB, 2 * MIB, block=1
    )


def test_neighbouring_ranges_are_one():
    assert place([4], (Region(2, 2), Region(0, 2)), page=1) == (0,)


def test_nothing_to_place():
    assert place([], SPEC_FREE, page=MIB) == ()


def test_the_limit_is_an_answer():
    sizes, free = [20, 15, 29, 24, 30, 29, 15, 22, 27], holes([50, 29, 83, 49])
    assert place(sizes, free, page=1, steps=8) == Undecided(8)
    assert isinstance(place(sizes, free, page=1), tuple)


def test_carve_takes_one_range_if_one_is_enough():
    free = (Region(0, GIB), Region(4 * GIB, 8 * GIB), Region(16 * GIB, 4 * GIB))
    blocks = carve(3 * GIB, free, page=2 * MIB, ra_base=RA_BASE)
    assert blocks == (Block(RA_BASE, 4 * GIB, 3 * GIB),)


def test_carve_splits_as_little_as_it_can():
    free = (Region(0, GIB), Region(4 * GIB, 2 * GIB), Region(16 * GIB, 4 * GIB))
    blocks = carve(5 * GIB, free, page=2 * MIB, ra_base=RA_BASE)
    assert blocks == (
        Block(RA_BASE, 0, GIB),
        Block(RA_BASE + GIB, 16 * GIB, 4 * GIB),
    )


@given(st.integers(1, 40), st.lists(st.integers(1, 12), max_size=6))
def test_carve_uses_the_fewest_blocks(size, rooms):
    free = holes(rooms)
    blocks = carve(size, free, page=1, ra_base=100)
    if sum(rooms) < size:
        assert blocks == Misfit(Lack.TOTAL, size, sum(rooms), max(rooms, default=0))
        return
    assert isinstance(blocks, tuple)
    largest = sorted(rooms, reverse=True)
    fewest = next(n for n in range(1, 7) if sum(largest[:n]) >= size)
    assert len(blocks) == fewest
    assert sum(b.size for b in blocks) == size
    assert next_ra(blocks, 100) == 100 + size
    left = subtract(free, [Region(b.pa, b.size) for b in blocks])
    assert sum(r.size for r in left) == sum(rooms) - size
    assert [b.pa for b in blocks] == sorted(b.pa for b in blocks)


def test_carve_keeps_the_limit_of_blocks():
    free = holes([2, 2, 2])
    assert carve(5, free, page=1, ra_base=0, max_blocks=2) == Misfit(Lack.LAYOUT, 5, 6, 2)


def test_carve_rounds_up_to_pages():
    blocks = carve(GIB + 1, (Region(0, 4 * GIB),), page=2 * MIB, ra_base=0)
    assert blocks == (Block(0, 0, GIB + 2 * MIB),)


def test_trim_gives_back_the_highest_addresses():
    blocks = (Block(100, 0, 30), Block(130, 60, 20))
    assert trim(blocks, 25, page=5) == (Block(100, 0, 25),)
    assert trim(blocks, 9, page=5) == (Block(100, 0, 30), Block(130, 60, 15))
    assert trim(blocks, 50, page=5) == ()


def test_blocks_that_adjoin_by_both_addresses_are_one():
    a, b = Block(0x8000000, 0x10000000, 64 * MIB), Block(0xC000000, 0x14000000, 2 * MIB)
    gap = Block(0xC200000, 0x20000000, 2 * MIB)
    assert joined((gap, b, a)) == (Block(0x8000000, 0x10000000, 66 * MIB), gap)
    assert joined(()) == ()
