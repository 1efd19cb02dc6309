"""QEMU's words in core's."""

import pytest

from lodom.core import events as ev
from lodom.drivers.qemu import translate


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ({"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}},
         ev.GuestPoweredOff("u")),
        ({"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-reset"}},
         ev.GuestRebooted("u", ended=True, now=5)),
        ({"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-panic"}}, None),
        ({"event": "SHUTDOWN", "data": {"guest": False, "reason": "host-qmp-quit"}}, None),
        ({"event": "RESET", "data": {"guest": True, "reason": "guest-reset"}},
         ev.GuestRebooted("u", now=5)),
        ({"event": "RESET", "data": {"guest": False, "reason": "host-qmp-system-reset"}}, None),
        ({"event": "GUEST_PANICKED", "data": {"action": "pause"}}, ev.GuestPanicked("u")),
        ({"event": "STOP"}, None),
    ],
)  # fmt: skip
def test_what_the_guest_did(message, event):
    """Only what the guest itself did is told; a panic is told once."""
    assert translate.guest_event("u", message, now=5) == event


@pytest.mark.parametrize(
    ("state", "status"),
    [("running", "running"), ("suspended", "running"), ("prelaunch", "paused"),
     ("finish-migrate", "paused"), ("io-error", "paused"), ("guest-panicked", "panicked"),
     ("shutdown", "shutdown"), ("postmigrate", "postmigrate"), ("inmigrate", "inmigrate")],
)  # fmt: skip
def test_run_states(state, status):
    assert translate.guest_status(state) == status


@pytest.mark.parametrize(
    ("status", "copy"),
    [("", "none"), ("none", "none"), ("setup", "active"), ("active", "active"),
     ("device", "active"), ("cancelling", "active"), ("pre-switchover", "paused"),
     ("completed", "completed"), ("failed", "failed"), ("cancelled", "none")],
)  # fmt: skip
def test_copy_states(status, copy):
    assert translate.copy_state(status) == copy


def test_numbers_of_a_copy():
    """Bytes, bytes a second, milliseconds; what is not said is 0."""
    ram = {"transferred": 5, "total": 9, "remaining": 4, "mbps": 8.0, "dirty-pages-rate": 3,
           "page-size": 4096, "dirty-sync-count": 2}  # fmt: skip
    numbers = translate.numbers({"ram": ram, "expected-downtime": 300, "total-time": 7})
    assert numbers["rate_bytes_s"] == 1_000_000
    assert numbers["dirty_bytes_s"] == 3 * 4096
    assert (numbers["round"], numbers["downtime_ms"], numbers["total_ms"]) == (2, 300, 7)
    assert set(translate.numbers({}).values()) == {0}


def test_whose_process_it_is():
    assert translate.home_of(["qemu", "-name", "guest=home,process=lodom-a", "-S"]) == "home"
    assert translate.home_of(["qemu", "-S"]) == translate.home_of(["qemu", "-name"]) == ""


def test_a_short_pause_is_tried_first():
    assert [translate.pause_ms(n) for n in (0, 4, 5, 8, 9, 99)] == [50, 50, 100, 100, 300, 300]
