"""Bin packing is exact: it agrees with trying everything, and says so when it gives up."""

import time
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from lodom.core.alloc import packing
from lodom.core.alloc.packing import IMPOSSIBLE, UNDECIDED, pack

small = st.integers(1, 9)


def brute(items, holes):
    """Whether any assignment of items to holes overflows no hole."""
    return any(
        all(
            sum(i for i, w in zip(items, where, strict=True) if w == hole) <= room
            for hole, room in enumerate(holes)
        )
        for where in product(range(len(holes)), repeat=len(items))
    )


def check(items, holes, answer):
    """The answer is a packing of all items."""
    assert len(answer) == len(items)
    for hole, room in enumerate(holes):
        assert sum(i for i, w in zip(items, answer, strict=True) if w == hole) <= room


@given(st.lists(small, max_size=6), st.lists(small, min_size=1, max_size=4))
@settings(max_examples=400)
def test_agrees_with_brute_force(items, holes):
    answer = pack(items, holes)
    assert answer != UNDECIDED
    assert (answer != IMPOSSIBLE) == brute(items, holes)
    if answer != IMPOSSIBLE:
        check(items, holes, answer)


@given(
    st.lists(st.sampled_from([2, 3, 5, 6, 7]), min_size=4, max_size=7),
    st.integers(2, 4),
    st.data(),
)
@settings(max_examples=300)
def test_each_search_alone_agrees_with_brute_force(items, count, data):
    """Tight cases, without the quick guesses: equal items and equal holes among them."""
    cuts = sorted(data.draw(st.lists(st.integers(0, sum(items)), min_size=count, max_size=count)))
    holes = [b - a for a, b in zip([0, *cuts], [*cuts, sum(items)], strict=True) if b > a]
    sizes = sorted(items, reverse=True)
    holes[0] += data.draw(st.integers(0, 3))
    sums = packing._Sums(sizes, max(holes))
    possible = brute(sizes, holes)
    for search in (
        packing._ByItem(sums, list(holes), 10_000),
        packing._ByHole(sizes, holes, 10_000),
    ):
        answer = search.run()
        assert answer != UNDECIDED
        assert (answer != IMPOSSIBLE) == possible
        if answer != IMPOSSIBLE:
            check(sizes, holes, answer)


@given(st.lists(st.integers(1, 6), min_size=3, max_size=7), st.integers(2, 3), st.integers(0, 1))
@settings(max_examples=300)
def test_equal_holes_are_one_choice(items, count, more):
    """Holes that are all equal, or all but one, with next to nothing to spare."""
    holes = [-(-sum(items) // count)] * count
    holes[-1] += more
    answer = packing._ByHole(sorted(items, reverse=True), holes, 10_000).run()
    assert (answer != IMPOSSIBLE) == brute(items, holes)


def test_effort_is_shared_and_ends():
    """Three items a hole, nothing to spare: whatever the answer, no more than allowed is spent."""
    items = [251 + (i * 7919) % 248 for i in range(63)]
    effort = packing.Effort(3000)
    assert pack(items, [-(-sum(items) // 21)] * 21, effort) == UNDECIDED
    assert effort.left == 0
    assert pack(items, [-(-sum(items) // 21)] * 21, effort) == UNDECIDED


def test_best_fit_is_not_enough():
    items, holes = [4, 3, 3, 2, 2, 2], [8, 8]
    sizes = sorted(items, reverse=True)
    assert packing._best_fit(sizes, holes) is None
    check(items, holes, pack(items, holes))


def test_no_items_need_no_holes():
    assert pack([], []) == ()
    assert pack([], [4]) == ()


def test_sixty_four_blocks_and_a_thousand_ranges_are_quick():
    items = [1 + (i * 37) % 61 for i in range(64)]
    holes = [1 + (i * 53) % 97 for i in range(1000)]
    began = time.perf_counter()
    check(items, holes, pack(items, holes))
    assert time.perf_counter() - began < 0.1


def test_a_tight_puzzle_is_solved():
    """Sixty-four different sizes, eight holes, not one unit to spare."""
    items = [100 + (i * 7919) % 1000 for i in range(64)]
    holes = [sum(items[h::8]) for h in range(8)]
    check(items, holes, pack(items, holes))


def test_equal_items_are_counted_not_tried():
    """65 of 3 in 32 holes of 7 (two each): refused by counting."""
    assert pack([3] * 65, [7] * 32) == IMPOSSIBLE


def test_gives_up_honestly():
    """Quick guesses fail here; a search cut short says so, a longer one finds the packing."""
    items, holes = [20, 15, 29, 24, 30, 29, 15, 22, 27], [50, 29, 83, 49]
    assert pack(items, holes, packing.Effort(len(items) - 1)) == UNDECIDED
    check(items, holes, pack(items, holes))
