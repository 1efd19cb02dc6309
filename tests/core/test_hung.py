"""The domain's process does not do what it is told: who hears of it, and what can be done."""

import pytest
from test_engine import configured, guest

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.errors import Busy, GuestHangs
from lodom.core.migration import source, steps
from lodom.core.model.domain import State
from lodom.sim.world import World


@pytest.fixture
def world():
    return World(seed=1)


@pytest.fixture
def a(world):
    return configured(world, "a")


@pytest.fixture
def b(world):
    return configured(world, "b")


def deaf(host, *orders):
    """The host's hypervisor takes none of *orders* from now on: the process hangs."""
    hears = host.hypervisor.perform
    host.hypervisor.perform = lambda e: None if isinstance(e, orders) else hears(e)
    return hears


def migrating(world, a, until="copying"):
    request = a.order("migrate-domain", ldom="ldg1", host="b")
    world.run(until=lambda: any(r.phase == until for r in a.inventory.outgoing.values()))
    return request


def test_a_process_that_hangs_when_the_copy_is_given_up(world, a, b):
    """All who wait hear of it, the machine is free for other orders, and there is a way out."""
    d = guest(a)
    a.ldm("add-domain", ldoms=["ldg2"])
    hears = deaf(a, do.CancelCopy)
    asked = migrating(world, a)
    cancelled = a.order("cancel-operation", operation="migration", ldom="ldg1")
    world.run(seconds=29)
    assert "it ends by itself" in a.ldm("recover-domain", ldom="ldg1")["lines"][-1]
    with pytest.raises(Busy):
        a.ldm("set-vcpu", number=1, ldom="ldg2")
    world.run(seconds=2)
    (row,) = a.inventory.outgoing.values()
    for request in (asked, cancelled):
        assert isinstance(a.answers[request], GuestHangs)
    assert a.engine.inventory.outgoing[row.id].doubt
    a.ldm("set-vcpu", number=1, ldom="ldg2")
    told = a.ldm("recover-domain", ldom="ldg1")
    assert f"process {d.runtime.pid} has not done" in told["lines"][1]
    assert f"end process {d.runtime.pid} (SIGKILL)" in told["action"]
    assert a.hypervisor.guests[d.uuid].pid == d.runtime.pid, "told only"
    a.hypervisor.perform = lambda e: None if isinstance(e, do.DestroyGuest) else hears(e)
    with pytest.raises(GuestHangs):  # SIGKILL does not end it either
        a.ldm("recover-domain", ldom="ldg1", yes=True)
    a.hypervisor.perform = hears
    assert "started here anew" in a.ldm("recover-domain", ldom="ldg1", yes=True)["say"]
    world.run(seconds=10)
    anew = a.engine.inventory.named("ldg1")
    assert (anew.state, anew.migration, a.inventory.outgoing) == (State.ACTIVE, "", {})
    assert anew.runtime.pid != d.runtime.pid
    assert b.engine.inventory.find("ldg1") is None


def test_a_process_that_answers_after_all(world, a, b):
    """Nothing was given up: the guest goes on, and flag e goes."""
    d = guest(a)
    hears = deaf(a, do.CancelCopy)
    asked = migrating(world, a)
    a.order("cancel-operation", operation="migration", ldom="ldg1")
    world.run(seconds=40)
    assert isinstance(a.answers[asked], GuestHangs)
    (row,) = a.inventory.outgoing.values()
    a.hypervisor.perform = hears
    hears(do.CancelCopy(d.uuid, row.id, row.copy_port))
    world.run(seconds=10)
    again = a.engine.inventory.named("ldg1")
    assert (again.runtime.pid, again.migration, a.inventory.outgoing) == (d.runtime.pid, "", {})


def test_a_process_that_refuses_to_run_again(world, a, b):
    """``cont`` is refused time and again; ended on consent, and the late word changes nothing."""
    d = guest(a)
    hears = deaf(a, do.RunGuest)
    migrating(world, a)
    a.order("cancel-operation", operation="migration", ldom="ldg1")
    world.run(seconds=40)
    (row,) = a.inventory.outgoing.values()
    assert (row.phase, row.doubt) == ("resuming", True)
    row, effects = source.step(row, steps.RecoverAsked())
    assert do.DestroyGuest(d.uuid, row.id) in effects
    assert source.step(row, ev.GuestRunning(d.uuid, now=0)) == (row, ())
    a.hypervisor.perform = hears
    a.ldm("recover-domain", ldom="ldg1", yes=True)
    world.run(seconds=10)
    assert a.engine.inventory.named("ldg1").runtime.pid != d.runtime.pid


def test_a_process_that_does_not_end_after_the_hand_over(world, a, b):
    """The move is done; what is left of it here is told, and holds nobody up."""
    guest(a)
    hears = deaf(a, do.DestroyGuest)
    asked = migrating(world, a, until="cleaning")
    world.run(seconds=31)
    assert "does not end (flag e)" in a.answers[asked]["warnings"][-1]
    assert b.engine.inventory.named("ldg1").state is State.ACTIVE
    told = a.ldm("recover-domain", ldom="ldg1")
    assert ("runs on b" in told["lines"][-1], told["action"]) == (True, "")
    a.ldm("add-domain", ldoms=["ldg2"])
    a.hypervisor.perform = hears
    (row,) = a.inventory.outgoing.values()
    hears(do.DestroyGuest(row.uuid, row.id))
    world.run(seconds=10)
    assert a.inventory.outgoing == {}
    assert a.engine.inventory.find("ldg1") is None
