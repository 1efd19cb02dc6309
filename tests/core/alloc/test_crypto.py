"""Crypto units follow the cores of a domain's strands."""

from lodom.core.alloc.crypto import choose, cores_of, free_units, out_of_reach, reachable
from lodom.core.alloc.strands import Shortage
from lodom.core.model.domain import Bindings, Domain
from lodom.core.model.host import CryptoUnit, Machine, Strand
from lodom.core.model.inventory import Inventory

MACHINE = Machine(
    "m",
    "i",
    "p",
    1,
    tuple(Strand(n, n // 2, n) for n in range(8)),
    (),
    1,
    crypto=tuple(CryptoUnit(core, core) for core in range(4)),
)


def test_units_of_the_domains_cores_are_within_reach():
    assert reachable(MACHINE, (0, 5)) == (0, 2)
    assert reachable(MACHINE, ()) == ()


def test_choice_takes_free_units_within_reach():
    bound = Bindings(crypto=(0,))
    free = free_units(Inventory(MACHINE, domains={"u": Domain("u", "d", "", bindings=bound)}))
    assert free == (1, 2, 3)
    assert choose(MACHINE, free, (0, 2, 4), 2) == (1, 2)
    assert choose(MACHINE, free, (0, 2, 4), 3) == Shortage(3, 2)


def test_a_unit_bars_the_removal_of_its_last_strand():
    assert out_of_reach(MACHINE, (0, 2), (0, 1)) == (2,)
    assert cores_of(MACHINE, (0, 2)) == (0, 2)
