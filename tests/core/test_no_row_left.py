"""Every hand-over ends: when the link is good again, neither machine has a row of it left.

Whatever becomes of one message, and though the move is cancelled, fails on the target, or the
domain is removed there at once.
"""

from contextlib import suppress
from functools import partial

import pytest
from test_engine import configured, guest

from lodom.core import messages as msg
from lodom.core.migration.target import Phase
from lodom.sim.safety import check_end
from lodom.sim.world import World

LATE_S = 100.0
"""Later than every deadline of the two machines."""
SILENT = "the source was silent for 60 s"
MESSAGES = [kind for kind in msg.Message.__subclasses__() if kind is not msg.Unknown]


class Spoiled(World):
    """A world where the first message of a kind is lost, comes twice, or late."""

    kind: type[msg.Message] = msg.Message
    fate, met = "", 0

    def _carry(self, sender, there, migration, message, *, lost):
        carry = partial(super()._carry, sender, there, migration, message)
        first = isinstance(message, self.kind) and not self.met
        self.met += isinstance(message, self.kind)
        fate = self.fate if first else ""
        if fate == "late":
            self.later(LATE_S, partial(carry, lost=False))
            return
        for _ in range(2 if fate == "twice" else 1):
            carry(lost=lost or fate == "lost")


def spoiled(kind, fate):
    world = Spoiled(seed=1)
    world.kind, world.fate = kind, fate
    return world, configured(world, "a"), configured(world, "b")


def rows(*hosts):
    """What is left of migrations in the journals."""
    return [
        row
        for host in hosts
        for table in (host.inventory.outgoing, host.inventory.incoming)
        for row in table.values()
    ]


def plain(a, _b):
    a.order("migrate-domain", ldom="ldg1", host="b")


def cancelled(a, b):
    plain(a, b)
    a.world.run(seconds=2)
    a.order("cancel-operation", operation="migration", ldom="ldg1")


def refused(a, b):
    """The target's process dies while it waits."""
    plain(a, b)
    a.world.run(seconds=2)
    for uuid in list(b.hypervisor.guests):
        b.hypervisor.kill(uuid)


def forced_down(a, b):
    """Stopped and removed where it has arrived, if it has, as soon as it may be."""
    plain(a, b)
    with suppress(TimeoutError):
        a.world.run(seconds=200, until=lambda: bool(b.hypervisor.running()))
    b.order("stop-domain", ldoms=["ldg1"], force=True)
    a.world.run(seconds=5)
    b.order("unbind-domain", ldom="ldg1")
    a.world.run(seconds=5)
    b.order("remove-domain", ldoms=["ldg1"])


COURSES = [plain, cancelled, refused, forced_down]


@pytest.mark.parametrize("course", COURSES)
@pytest.mark.parametrize("fate", ["lost", "twice", "late"])
@pytest.mark.parametrize("kind", MESSAGES)
def test_whatever_befalls_a_message(kind, fate, course):
    world, a, b = spoiled(kind, fate)
    guest(a)
    course(a, b)
    world.run(seconds=600)
    if (kind, fate) == (msg.Reserve, "late"):
        # The source has ended meanwhile, so nobody will ask for the answer, which is kept for good.
        assert [(r.phase, r.reason) for r in rows(a, b)] == [(Phase.GONE, SILENT)]
    else:
        assert rows(a, b) == []
    check_end(world)
