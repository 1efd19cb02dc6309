"""Guests go down with the host, and come back with its next boot."""

from dataclasses import replace

import pytest
from test_engine import configured

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.engine import Engine
from lodom.core.lifecycle import reconf
from lodom.core.model.domain import State
from lodom.core.model.inventory import Ownership
from lodom.core.units import MIB
from lodom.sim.world import World


@pytest.fixture
def world():
    return World(seed=1)


@pytest.fixture
def a(world):
    return configured(world, "a")


def guests(host, *names, start=True):
    for name in names:
        host.ldm("add-domain", ldoms=[name])
        host.ldm("set-vcpu", number=1, ldom=name)
        host.ldm("set-memory", size=256 * MIB, ldom=name)
        host.ldm("bind-domain", ldom=name)
        if start:
            host.ldm("start-domain", ldoms=[name])
    host.world.run(seconds=5)


def state(host, name):
    d = host.engine.inventory.named(name)
    return d.state, d.halted


def told(engine, event):
    """The effects of an event, without what concerns time."""
    effects = engine.handle(event).effects
    return [e for e in effects if not isinstance(e, do.SetTimer | do.CancelTimer)]


def halting(host):
    """An engine that was ordered to stop its guests, and what it wants done."""
    engine = Engine(host.engine.inventory)
    order = ev.CommandGiven("r1", "stop-guests", {"timeout": 30}, {}, 0)
    return engine, engine.handle(order).effects


def test_all_that_run_are_stopped_and_noted(a):
    guests(a, "ldg1", "ldg2")
    guests(a, "ldg3", start=False)
    assert a.ldm("stop-guests", timeout=60) == {}
    assert [state(a, n) for n in ("ldg1", "ldg2")] == [(State.BOUND, True)] * 2
    assert state(a, "ldg3") == (State.BOUND, False)
    assert a.hypervisor.guests == {}
    assert a.inventory == a.engine.inventory  # the note is durable


def test_a_guest_that_an_administrator_is_stopping_is_waited_for_and_stays_down(a):
    guests(a, "ldg1", "ldg2")
    one, two = (a.engine.inventory.named(n).uuid for n in ("ldg1", "ldg2"))
    engine = Engine(a.engine.inventory)
    engine.handle(ev.CommandGiven("r0", "stop-domain", {"ldoms": ["ldg1"]}, {}, 0))
    engine.handle(ev.CommandGiven("r1", "stop-guests", {"timeout": 30}, {}, 0))
    assert do.Reply("r1") not in told(engine, ev.GuestGone(two))
    assert do.Reply("r1") in told(engine, ev.GuestGone(one))
    assert state_of(engine, one) == (State.BOUND, False)
    assert state_of(engine, two) == (State.BOUND, True)


def test_a_guest_that_does_not_stop_for_its_administrator_is_ended_and_comes_back(a):
    guests(a, "ldg1")
    uuid = a.engine.inventory.named("ldg1").uuid
    engine = Engine(a.engine.inventory)
    engine.handle(ev.CommandGiven("r0", "stop-domain", {"ldoms": ["ldg1"]}, {}, 0))
    engine.handle(ev.CommandGiven("r1", "stop-guests", {"timeout": 30}, {}, 0))
    assert do.Reply("r1") not in told(engine, ev.TimerFired(f"stop:{uuid}"))
    assert told(engine, ev.TimerFired(f"halt:{uuid}")) == [do.DestroyGuest(uuid)]
    assert do.Reply("r1") in told(engine, ev.GuestGone(uuid))
    assert state_of(engine, uuid) == (State.BOUND, True)


def test_nothing_to_stop_ends_at_once(a):
    guests(a, "ldg1", start=False)
    assert a.ldm("stop-guests", timeout=60) == {}


def test_a_guest_without_agent_has_its_button_pressed_and_the_whole_time(a):
    guests(a, "ldg1")
    uuid = a.engine.inventory.named("ldg1").uuid
    engine, effects = halting(a)
    assert effects == (do.ShutDownGuest(uuid, button=True), do.SetTimer(f"halt:{uuid}", 30))
    assert told(engine, ev.GuestRefused(uuid, "shutdown", "no agent")) == []
    assert told(engine, ev.TimerFired(f"halt:{uuid}")) == [do.DestroyGuest(uuid)]
    assert told(engine, ev.GuestGone(uuid)) == [do.Reply("r1")]
    assert state_of(engine, uuid) == (State.BOUND, True)


def state_of(engine, uuid):
    d = engine.inventory.domains[uuid]
    return d.state, d.halted


def test_the_answer_comes_with_the_last_guest(a):
    guests(a, "ldg1", "ldg2")
    one, two = (a.engine.inventory.named(n).uuid for n in ("ldg1", "ldg2"))
    engine, _ = halting(a)
    assert told(engine, ev.GuestGone(one)) == []
    assert told(engine, ev.GuestGone(two)) == [do.Reply("r1")]


def test_a_guest_that_is_starting_is_ended(a):
    guests(a, "ldg1", start=False)
    engine = Engine(a.engine.inventory)
    engine.handle(ev.CommandGiven("r0", "start-domain", {"ldoms": ["ldg1"]}, {}, 0))
    uuid = engine.inventory.named("ldg1").uuid
    order = ev.CommandGiven("r1", "stop-guests", {"timeout": 30}, {}, 0)
    assert do.DestroyGuest(uuid) in engine.handle(order).effects
    assert state_of(engine, uuid) == (State.STOPPING, True)


def test_one_that_a_migration_holds_is_left_and_named(a):
    guests(a, "ldg1")
    d = a.engine.inventory.named("ldg1")
    inventory = a.engine.inventory.with_domain(replace(d, migration="m1"))
    order = ev.CommandGiven("r1", "stop-guests", {"timeout": 30}, {}, 0)
    effects = Engine(inventory).handle(order).effects
    assert effects == (do.Report("r1", {"held": ["ldg1"]}), do.Reply("r1"))


def test_the_next_boot_starts_them_again_under_the_rules_of_the_hand_over(a):
    guests(a, "ldg1", "ldg2")
    one, two = (a.engine.inventory.named(n).uuid for n in ("ldg1", "ldg2"))
    a.ldm("stop-guests", timeout=60)
    before = reconf.booted(a.engine.inventory, "first")
    assert state_of(Engine(before), one) == (State.BOUND, True)  # ldmd was only restarted
    engine = Engine(reconf.booted(before, "second"))
    # Another machine tells that ldg2 became its own meanwhile.
    batch = engine.recover({}, {two: Ownership(two, 9, "another")})
    launched = [e.spec.name for e in batch.effects if isinstance(e, do.LaunchGuest)]
    assert launched == ["ldg1"]
    assert state_of(engine, two) == (State.INACTIVE, False)


def test_a_host_that_died_while_they_stopped(a):
    guests(a, "ldg1")
    uuid = a.engine.inventory.named("ldg1").uuid
    engine, _ = halting(a)
    again = Engine(reconf.booted(reconf.booted(engine.inventory, "first"), "second"))
    again.recover({})
    assert state_of(again, uuid) == (State.STARTING, False)


def test_they_start_again_without_a_boot_when_asked(world, a):
    guests(a, "ldg1")
    a.ldm("stop-guests", timeout=60)
    guests(a, "ldg2", start=False)
    a.ldm("start-guests")
    world.run(seconds=5)
    assert state(a, "ldg1") == (State.ACTIVE, False)
    assert state(a, "ldg2") == (State.BOUND, False)


def test_unbinding_ends_the_note(a):
    guests(a, "ldg1")
    a.ldm("stop-guests", timeout=60)
    a.ldm("unbind-domain", ldom="ldg1")
    a.ldm("bind-domain", ldom="ldg1")
    assert state(a, "ldg1") == (State.BOUND, False)


def test_a_guest_that_reboots_when_asked_to_power_off_is_down_if_its_process_ended(a):
    guests(a, "ldg1")
    engine = Engine(a.engine.inventory)
    uuid = engine.inventory.named("ldg1").uuid
    engine.handle(ev.CommandGiven("r1", "stop-domain", {"ldoms": ["ldg1"]}, {}, 0))
    assert told(engine, ev.GuestRebooted(uuid)) == []
    assert told(engine, ev.GuestRebooted(uuid, ended=True)) == [do.DestroyGuest(uuid)]
    assert do.Reply in map(type, told(engine, ev.GuestGone(uuid, "home")))
    assert engine.inventory.named("ldg1").state is State.BOUND
