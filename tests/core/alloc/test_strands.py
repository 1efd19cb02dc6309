"""Strands: cores are filled, whole cores for a migration, emptied on the way back."""

import pytest

from lodom.core.alloc.strands import (
    Grant,
    Shortage,
    choose,
    choose_for_migration,
    free_cores,
    free_strands,
    give_back,
)
from lodom.core.model.domain import Bindings, Domain, Vcpu
from lodom.core.model.host import Machine, Strand
from lodom.core.model.inventory import Inventory

MACHINE = Machine("m", "i", "p", 1, tuple(Strand(n, n // 4, n) for n in range(16)), (), 1)
ALL = frozenset(range(16))


def test_held_strands_are_not_free():
    bound = Bindings(vcpus=(Vcpu(0, 0), Vcpu(1, 1)), held=(2, 3))
    inventory = Inventory(MACHINE, domains={"u": Domain("u", "ldg1", "", bindings=bound)})
    assert free_strands(inventory) == tuple(range(4, 16))


@pytest.mark.parametrize(
    ("free", "own", "count", "strands"),
    [
        (ALL, (), 2, (0, 1)),
        ({1, 2, 5, 6, 7, 12}, (), 3, (5, 6, 7)),  # one core rather than two
        ({1, 2, 5, 6, 7, 12}, (0,), 3, (1, 2, 5)),  # the domain's own core first
        ({1, 4, 5, 8, 9, 10, 11}, (), 5, (1, 8, 9, 10, 11)),  # a full core, then the lowest
        ({1, 5, 9}, (), 0, ()),
        ({1, 5, 9}, (4, 8), 2, (5, 9)),
    ],
)
def test_choice_fills_cores(free, own, count, strands):
    assert choose(MACHINE, free, count, own=own) == Grant(strands)


def test_too_few_is_a_value():
    assert choose(MACHINE, {1, 2}, 3) == Shortage(3, 2)


def test_migration_takes_whole_cores_and_holds_the_rest():
    """R04 to R06: a partly used core does not serve; the last core's rest is held."""
    free = ALL - {1}
    assert free_cores(MACHINE, free) == (1, 2, 3)
    assert choose_for_migration(MACHINE, free, 6) == Grant((4, 5, 6, 7, 8, 9), (10, 11))
    assert choose_for_migration(MACHINE, free, 4) == Grant((4, 5, 6, 7))
    assert choose_for_migration(MACHINE, free, 13) == Shortage(13, 12)
    # What is asked before anything is known of the domain: whether this is the source itself.
    assert choose_for_migration(MACHINE, free, 0) == Grant(())


def test_later_releases_need_no_whole_cores():
    free = ALL - {1}
    assert choose_for_migration(MACHINE, free, 3, whole_cores=False) == Grant((0, 2, 3))
    assert choose_for_migration(MACHINE, free, 15, whole_cores=False) == Grant(tuple(sorted(free)))


VCPUS = (Vcpu(0, 0), Vcpu(1, 1), Vcpu(2, 4), Vcpu(3, 8), Vcpu(4, 9), Vcpu(5, 10))


@pytest.mark.parametrize(
    ("count", "keep", "vids"),
    [
        (1, (), (2,)),  # core 1 has one strand only: it is emptied
        (2, (), (5, 2)),
        (4, (), (5, 4, 3, 2)),
        (5, (), (5, 4, 3, 2, 1)),  # vid 0 stays
        (6, (), (5, 4, 3, 2, 1, 0)),
        (1, (1,), (5,)),  # core 1 must keep its strand
        (4, (1,), (5, 4, 3, 1)),
    ],
)
def test_cores_are_emptied_highest_vid_first(count, keep, vids):
    assert tuple(v.vid for v in give_back(MACHINE, VCPUS, count, keep_cores=keep)) == vids


def test_nothing_to_give_back():
    assert give_back(MACHINE, (), 2) == ()
