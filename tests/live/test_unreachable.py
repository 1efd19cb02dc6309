"""A target that is lost as a migration begins: the reason comes soon, and all is as before."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
from failpoint import link_lost_before
from machines import Domain, World, eventually

from lodom.core.errors import Kind
from lodom.core.migration.steps import LEASE_S, RENEW_S, RESEND_MAX_S
from lodom.lab.watch import Heartbeats
from lodom.peer.client import SILENCE_S
from lodom.peer.trust import CONNECT_S

pytestmark = pytest.mark.live

Make = Callable[..., Domain]
SOON_S = SILENCE_S + CONNECT_S + 5.0
"""From the loss to the reason; 5 s for the ldm command itself on a busy host."""
NO_LINK = "Failed to establish connection with ldmd on target: dt212-239 ("


@pytest.mark.parametrize("options", [pytest.param((), marks=pytest.mark.long), ("-n",)])
def test_a_link_that_was_pulled_before(
    world: World, domains: Make, options: tuple[str, ...]
) -> None:
    """On a connection that is kept from before, where nothing tells that nobody is there."""
    a, b = world.a, world.b
    domains("ldg1")
    a.ldm(*a.migrate_words("ldg1", b, "-n"))
    before = a.state(), b.state()
    world.lab.cut(b.placed)
    try:
        began = monotonic()
        said = a.tried(*a.migrate_words("ldg1", b, *options))
        took = monotonic() - began
        assert a.state() == before[0]
    finally:
        world.lab.mend(b.placed)
    assert said.code == Kind.PEER.exit_code, said
    assert said.err.startswith(NO_LINK), said
    assert took < SOON_S
    assert (a.state(), b.state()) == before


@pytest.mark.long
def test_a_link_that_is_pulled_before_the_reservation(
    world: World, domains: Make, tmp_path: Path
) -> None:
    a, b = world.a, world.b
    domains("ldg1")
    a.ldm("bind-domain", "ldg1")
    before = a.state(), b.state()
    with link_lost_before(a, "Reserve", tmp_path) as cut:
        (tmp_path / "armed").touch()
        began = monotonic()
        said = a.tried(*a.migrate_words("ldg1", b))
        took = monotonic() - began
        assert cut.exists()
        assert a.state() == before[0]
    assert said.code == Kind.FAILED.exit_code, said
    assert said.err.startswith(NO_LINK), said
    assert "Domain Migration of LDom ldg1 failed" in said.err
    assert took < SOON_S
    assert b.state() == before[1]


@pytest.mark.long
def test_a_link_that_is_pulled_before_the_copy_flows(world: World, domains: Make) -> None:
    """The target's process waits already; its ldmd gives all back when it hears, or by itself."""
    a, b = world.a, world.b
    domain = domains("ldg1", vcpus=2)
    with Heartbeats() as beats:
        boot = domain.start(beats)
        there = b.state()
        ldm = a.begin(*a.migrate_words("ldg1", b))
        eventually(lambda: bool(b.qemus("ldg1")), "the target's process")
        world.lab.cut(b.placed)
        try:
            began = monotonic()
            said = a.end(ldm)
            took = monotonic() - began
            assert said.code == Kind.FAILED.exit_code, said
            assert said.err.startswith(NO_LINK), said
            eventually(lambda: a.row("ldg1")["flags"] == "-n----", "an ordinary domain again")
            eventually(lambda: domain.status.read()["cpus"] == 2, "its strands are back")
        finally:
            world.lab.mend(b.placed)
        assert took < RENEW_S + SOON_S
        eventually(lambda: b.state() == there, "all is free", within=LEASE_S + RESEND_MAX_S)
        assert beats.boots("ldg1") == [boot]
