"""A link that is lost while a migration begins: who waits for the other side hears of it soon."""

import pytest

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core import messages as msg
from lodom.core.migration.source import Phase, step
from lodom.sim.handover import MIG, UUID, first

LOST = ev.Unsent(MIG, "no sign of life for 8 s")
FLOWS = ev.CopyProgressed(UUID, MIG, {"transferred": 1 << 20})
NOTHING_YET = ev.CopyProgressed(UUID, MIG, {"transferred": 0})


def at(phase):
    """The source's row in that phase."""
    row = first().s.row
    for event in (msg.Prepared(7), ev.VcpusSet(UUID, (0,), (0, 1))):
        if row.phase is phase:
            break
        row, _ = step(row, event)
    assert row.phase is phase
    return row


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.SHRINKING, Phase.COPYING])
def test_a_target_that_is_lost_before_a_byte_has_moved_ends_it(phase):
    row, effects = step(at(phase), LOST)
    assert (row.phase, row.reason) == (Phase.ABORTED, LOST.reason)
    assert do.Send(MIG, msg.Abort(LOST.reason)) in effects


def test_a_copy_that_flows_goes_on_without_the_target_s_daemon():
    row, _ = step(at(Phase.COPYING), NOTHING_YET)
    assert step(row, LOST)[0].phase is Phase.ABORTED
    row, _ = step(row, FLOWS)
    assert step(row, LOST) == (row, ())
    row, _ = step(row, NOTHING_YET)
    assert step(row, LOST) == (row, ())
