"""Domains that do not run move too, by their own smaller rules, and may be renamed on the way."""

from collections.abc import Callable

import pytest
from machines import Domain, Machine, World, eventually

pytestmark = pytest.mark.live

Make = Callable[..., Domain]


def constraints(machine: Machine, ldom: str) -> str:
    """What was asked for, its name apart."""
    return machine.ldm("list-constraints", "-p", ldom).replace(f"name={ldom}\n", "name=\n")


@pytest.mark.parametrize("state", ["inactive", "bound"])
def test_moves_with_a_new_name(world: World, domains: Make, state: str) -> None:
    """Constraints and MACs arrive, nothing stays behind; then it goes home under its own name."""
    a, b = world.a, world.b
    domains("ldg1", vcpus=2, disk=1 << 20)
    if state == "bound":
        a.ldm("bind-domain", "ldg1")
    asked, free = constraints(a, "ldg1"), b.free_strands()
    a.ldm(*a.migrate_words("ldg1", b, to="ldg9"))
    try:
        assert (a.names(), b.row("ldg9")["state"]) == (["primary"], state)
        assert constraints(b, "ldg9") == asked
        assert b.free_strands() == free - (2 if state == "bound" else 0)
        eventually(lambda: a.free_strands() == 12, "the strands that it left")
    finally:
        b.ldm(*b.migrate_words("ldg9", a, to="ldg1"))
    assert (b.names(), a.row("ldg1")["state"]) == (["primary"], state)
    assert constraints(a, "ldg1") == asked
