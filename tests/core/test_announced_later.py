"""The networks are told where a guest is, if not at once then later (HANDOVER, step 6)."""

from dataclasses import replace

import pytest

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.engine import Engine
from lodom.core.model.domain import State
from lodom.sim.world import World


@pytest.fixture
def engine():
    host = World(seed=1).hosts["a"]
    host.ldm("add-domain", ldoms=["ldg1"])
    return Engine(host.engine.inventory)


def ldg1(engine, **changed):
    d = replace(engine.inventory.named("ldg1"), **changed)
    engine.inventory = engine.inventory.with_domain(d)
    return d.uuid


def test_what_could_not_be_announced_is_announced_later(engine):
    uuid = ldg1(engine, state=State.ACTIVE)
    failed = engine.handle(ev.GuestUnannounced(uuid, "no answer"))
    (timer,) = failed.effects
    assert isinstance(timer, do.SetTimer)
    assert engine.handle(ev.TimerFired(timer.name)).effects == (do.AnnounceGuest(uuid),)


def test_during_a_migration_nothing_is_announced_that_may_be_elsewhere(engine):
    uuid = ldg1(engine, state=State.ACTIVE, migration="m1")
    (timer,) = engine.handle(ev.GuestUnannounced(uuid, "no answer")).effects
    assert engine.handle(ev.TimerFired(timer.name)).effects == (timer,)
    ldg1(engine, migration="")
    assert engine.handle(ev.TimerFired(timer.name)).effects == (do.AnnounceGuest(uuid),)


def test_a_domain_that_is_down_has_nothing_to_announce(engine):
    uuid = ldg1(engine, state=State.BOUND)
    assert engine.handle(ev.GuestUnannounced(uuid, "no process")).effects == ()
    assert engine.handle(ev.TimerFired(f"announce:{uuid}")).effects == ()
