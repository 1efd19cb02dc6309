"""What the check of a migration gathers is kept for a migration that comes of it, and no longer."""

import asyncio
from types import SimpleNamespace

from lodom.core.migration.orders import CheckTarget, TargetChecked
from lodom.daemon.peers import Peers
from lodom.sim import handover
from lodom.sim.chaos import estate


class Target:
    """Another machine that finds no fault with anything."""

    async def is_itself(self, *_):
        return False

    async def hello(self, *_):
        return SimpleNamespace(instance="t")

    async def login(self, *_):
        pass

    async def ask(self, word, *_, **__):
        verdict = {"findings": [], "target": "t", "machine": "b", "streams": 1}
        return verdict if word == "check" else {}


def checked(dry_run):
    """The peers of a machine after a check of ``ldg0``, and the event that tells of it."""
    inventory, events = estate()[0], []
    driver = SimpleNamespace(settings=None)
    peers = Peers(
        client=Target(), driver=driver, inventory=lambda: inventory, post=events.append,
        default_port=6482, bridges={},
    )  # fmt: skip
    uuid = inventory.named("ldg0").uuid
    order = CheckTarget("r", uuid, "b", "root", "ldg0", force=False, dry_run=dry_run)
    asyncio.run(peers.check(order))
    (event,) = events
    assert isinstance(event, TargetChecked), event
    return inventory, peers, event


def kept(peers):
    return [*peers._asked, *peers._questions]


def test_nothing_is_kept_of_a_dry_run_or_a_refusal():
    inventory, peers, event = checked(dry_run=True)
    assert kept(peers) == [event.migration]
    peers.seen(event, inventory)
    assert kept(peers) == []


def test_a_migration_keeps_it_to_its_end():
    inventory, peers, event = checked(dry_run=False)
    row = handover.first().s.row
    peers.seen(event, inventory.put("outgoing", event.migration, row))
    assert kept(peers) == [event.migration]
    asyncio.run(peers.tidy())  # the migration has ended before the target was asked
    assert kept(peers) == []
