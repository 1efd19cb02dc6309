"""What waits for a boot of the machine: changes of ``primary``, and a selected configuration."""

import re
from collections.abc import Callable

import pytest
from facts_means import A, restarted
from machines import BOOT_S, Domain, Machine, World, eventually

from lodom.core.errors import Kind
from lodom.core.lifecycle.reconf import BEGUN, GOES_ON
from lodom.core.units import MIB
from lodom.lab.watch import Heartbeats

pytestmark = pytest.mark.live

Make = Callable[..., Domain]
SMALLER = ("set-memory", "192M", "primary")
PLAIN, DELAYED = "-n-cv-", "-ndcv-"
BARRED = (
    "set-vcpu 2 ldg1", "set-memory 128M ldg1", "add-domain ldg2", "unbind-domain ldg1",
    "remove-domain -a",
)  # fmt: skip
"""Orders about other domains."""


def has(machine: Machine) -> tuple[str, int, int]:
    """Flags, memory in bytes and number of strands of the control domain."""
    row = machine.row("primary")
    return row["flags"], sum(b.size for b in machine.blocks("primary")), int(row["ncpu"])


def bindings(machine: Machine) -> str:
    """What ``ldg1`` was given."""
    return re.sub(r"\|(?:util|uptime)=[\d.]*", "", machine.ldm("list-bindings", "-p", "ldg1"))


def configurations(machine: Machine) -> list[str]:
    """The lines of ``list-spconfig``."""
    return machine.ldm("list-spconfig").split("\n")[:-1]


def test_r45_primary_changes_at_the_next_boot(world: World, domains: Make) -> None:
    """The notice, flag d, refusals on both machines, cancel; then a boot, and only a boot."""
    a, b = world.a, world.b
    domains("ldg1")
    a.ldm("bind-domain", "ldg1")
    before = has(a)
    assert before == (PLAIN, 256 * MIB, 4)
    guest = bindings(a)
    assert a.ldm(*SMALLER) == f"{BEGUN}\n"
    a.ldm("cancel-operation", "reconf", "primary")
    assert has(a) == before
    assert a.tried(*a.migrate_words("ldg1", b, "-n")).code == 0

    try:
        assert a.ldm(*SMALLER) == f"{BEGUN}\n"
        assert a.ldm("set-vcpu", "3", "primary") == f"{GOES_ON}\n"
        restarted(a)
        assert has(a) == (DELAYED, *before[1:]), "a start of ldmd is no boot"
        shown = a.ldm("list-constraints", "-p", "primary")
        assert {"VCPU|count=3", f"MEMORY|size={192 * MIB}"} <= set(shown.splitlines())
        for words in BARRED:
            said = a.tried(*words.split())
            assert said.code == Kind.TRY_LATER.exit_code, (words, said)
            assert "LDom primary is in the process of a delayed reconfiguration" in said.err
        for options in (("-n",), ()):
            said = a.tried(*a.migrate_words("ldg1", b, *options))
            assert said.code == Kind.REFUSED.exit_code
            assert said.err.splitlines()[0] == f"A delayed reconfiguration is active on {A}"
        a.boot_anew()
        assert has(a) == (PLAIN, 192 * MIB, 3)
        assert bindings(a) == guest
        assert a.tried(*a.migrate_words("ldg1", b, "-n")).code == 0
    finally:
        world.remove("ldg1")  # without guests, primary changes at once
        a.ldm("set-memory", "256M", "primary")
        a.ldm("set-vcpu", "4", "primary")
    assert has(a) == before


def test_a_boot_restores_the_selected_configuration(world: World, domains: Make) -> None:
    """Saved while a guest runs; what was changed since is gone, and the guest runs again."""
    a = world.a
    domain = domains("ldg1")
    try:
        with Heartbeats() as beats:
            first = domain.start(beats)
            a.ldm("add-spconfig", "one")
            assert a.tried("add-spconfig", "one").code != 0
            assert configurations(a) == ["factory-default", "one [current]"]
            saved = bindings(a)
            a.ldm("set-vcpu", "2", "ldg1")
            a.ldm("add-domain", "ldg2")
            a.ldm("add-vds", "other-vds0", "primary")
            a.ldm("set-spconfig", "one")
            restarted(a)
            assert len(a.strands("ldg1")) == 2, "a start of ldmd is no boot"
            a.boot_anew()
            beats.first("ldg1", within=BOOT_S, unlike=first)
            eventually(lambda: a.has_up("ldg1"), "flag n", within=BOOT_S)
        assert bindings(a) == saved
        assert a.names() == ["primary", "ldg1"]
        assert "other-vds0" not in a.ldm("list-services", "-p")
        assert configurations(a) == ["factory-default", "one [current]"]
    finally:
        for words in ("set-spconfig factory-default", "remove-spconfig one"):
            a.tried(*words.split())
        a.tried("remove-domain", "ldg2")


def test_a_guest_panics_on_order_and_comes_back(world: World, domains: Make) -> None:
    """Seen from outside: another boot id in its heartbeats."""
    domain = domains("ldg1")
    with Heartbeats() as beats:
        first = domain.start(beats)
        assert world.a.ldm("panic-domain", "ldg1") == ""
        assert beats.first("ldg1", within=60, unlike=first) != first
        eventually(lambda: world.a.has_up("ldg1"), "flag n", within=BOOT_S)
