"""The target's side: whose end a GuestGone tells."""

from dataclasses import replace

import pytest

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.migration import target
from lodom.core.migration.target import Phase, TargetMigration
from lodom.core.model.domain import Vcpu


def row(phase):
    return TargetMigration(
        id="m2", uuid="u", name="g", source="A", source_name="a", source_key="", target="B",
        epoch=1, live=True, streams=2, vcpus=(Vcpu(0, 0),), cpus=(), spec=None, grow=False,
        phase=phase,
    )  # fmt: skip


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.LOADED, Phase.OWNED, Phase.REFUSED])
@pytest.mark.parametrize("asker", ["m1", "home"])
def test_the_end_of_an_earlier_copy_says_nothing_of_this_one(phase, asker):
    """REFUSED may be said only when the process of this migration is gone."""
    assert target.step(row(phase), ev.GuestGone("u", asker)) == (row(phase), ())


@pytest.mark.parametrize("asker", ["", "m2"])
def test_refused_is_said_when_its_own_process_is_gone(asker):
    after, effects = target.step(row(Phase.REFUSED), ev.GuestGone("u", asker))
    assert after.phase is Phase.GONE
    assert any(isinstance(e, do.Send) for e in effects)


def test_a_refusal_asks_for_the_end_of_its_own_process():
    assert do.DestroyGuest("u", "m2") in target.entry(row(Phase.REFUSED))


@pytest.mark.parametrize("asker", ["", "m2", "home"])
def test_a_stop_of_what_runs_here_leaves_no_strand_to_restore(asker):
    """Its next start has them all: nothing more is asked of the new guest."""
    running = replace(row(Phase.RUNNING), confirmed=True)
    after, _ = target.step(running, ev.GuestGone("u", asker))
    assert after.phase is Phase.ENDED
    assert target.step(running, ev.GuestGone("u", "m1")) == (running, ())
