"""No effect that core waits for can end without an event."""

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.failure import failure


def test_an_adapter_that_crashes_is_heard():
    said = failure(do.FinishCopy("u", "m"), "boom")
    assert ev.CopyFailed("u", "m", "boom") == said


def test_effects_that_nobody_waits_for_have_no_event():
    assert failure(do.SetRebootAction("u", stop=True), "boom") is None
