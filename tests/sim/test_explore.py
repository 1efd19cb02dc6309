"""The exploration visits all there is, what it leaves out decides nothing, and it can fail."""

import subprocess
import sys
from dataclasses import replace
from itertools import combinations, product

import pytest

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core import messages as msg
from lodom.core.fsm import UnexpectedEvent
from lodom.core.migration import source, steps, target
from lodom.sim.explore import QUICK, story_of
from lodom.sim.handover import (
    MIG,
    SRC,
    UUID,
    Budget,
    Violated,
    book,
    essence,
    first,
    untold,
)  # fmt: skip
from lodom.sim.happenings import successors
from lodom.sim.invariants import check, check_end
from lodom.sim.packed import Packing
from lodom.sim.processes import Act
from lodom.sim.strata import Search


def plainly(start):
    """Every state, with nothing but a set of those met."""
    met, waiting = {start}, [start]
    while waiting:
        w = waiting.pop()
        check(w)
        own, faults = successors(w)
        if not own:
            check_end(w)
        for _, after in (*own, *faults):
            if after not in met:
                met.add(after)
                waiting.append(after)
    return met


@pytest.fixture(scope="module")
def met():
    budgets = (Budget(crash=1), Budget(process=1, guest=1), Budget(loss=1, lease=1))
    return {budget: plainly(first(True, budget)) for budget in budgets}


def test_without_faults_there_is_one_end():
    result = Search(first(True, Budget())).run()
    assert (result.fault, result.ends) == ("", 1)


@pytest.mark.parametrize("name", QUICK)
def test_small_budgets_break_nothing(name):
    for live in (True, False):
        assert Search(first(live, QUICK[name])).run().fault == ""


def test_the_search_meets_just_what_a_plain_one_meets(met):
    for budget, plain in met.items():
        result = Search(first(True, budget)).run()
        assert result.states == len({w._replace(left=Budget()) for w in plain})
        assert result.visits < len(plain)  # less than all: richer budgets stand for poorer ones


def test_a_packed_world_comes_back_as_it_was(met):
    packing = Packing()
    for w in list(met[Budget(process=1, guest=1)])[:2000]:
        assert packing.unpack(packing.pack(w), left=w.left) == w


def test_an_act_sees_only_the_parts_that_it_names():
    packing, w = Packing(), first(True)
    peeping = Act("peeping", ("s",), lambda w: iter([("", w._replace(ran=w.qt.alive))]))
    key = packing.pack(w) & packing.mask(peeping.parts)
    with pytest.raises(AssertionError, match="'alive' of a part that it does not name"):
        packing.outcomes(packing._deed(peeping), key)
    meddling = Act("meddling", ("s",), lambda w: iter([("", w._replace(to_t=(1,)))]))
    with pytest.raises(AssertionError, match="meddling: to_t"):
        packing.outcomes(packing._deed(meddling), key)


def test_a_violation_comes_with_the_fewest_faults_and_its_story(monkeypatch):
    never = target.Transition(lambda m, _: (m, ()), frozenset({target.Phase.LOADED}))
    monkeypatch.setitem(target.TRANSITIONS, (target.Phase.LOADED, steps.LeaseExpired), never)
    monkeypatch.setitem(target.TRANSITIONS, (target.Phase.LOADED, msg.Abort), never)
    result = Search(first(True, Budget(crash=2, lease=1, cancel=1))).run()
    assert result.fault == "Violated('never ends')"
    assert sum(result.spent) == 1
    story = story_of(first(True, result.spent))
    assert (story[0], story[-1]) == ("begin", "and so on for ever")


# -- what is left out ---------------------------------------------------------------------------

NEWS = (
    *(kind() for kind in (msg.Stands, msg.Loaded, msg.Owned, msg.Closed, msg.Unknown)),
    *(kind() for kind in (msg.Renew, msg.Recheck, msg.Confirm)),
    *(msg.Prepared(7), msg.Refused("no"), msg.Abort("no"), msg.Cede(2), msg.Cede(5)),
    *(steps.CancelAsked("why"), steps.RecoverAsked()),
    *(kind() for kind in steps.TIMEOUTS.values()),
    *(kind(UUID) for kind in (ev.GuestGone, ev.GuestPoweredOff, ev.GuestPanicked)),
    *(ev.GuestRebooted(UUID), ev.GuestRunning(UUID), ev.GuestLaunched(UUID, 1, 1, MIG, 7)),
    *(ev.GuestRunFailed(UUID, "no", True), ev.GuestRunFailed(UUID, "no", False)),
    *(ev.VcpusSet(UUID, (0, 1), (0, 1)), ev.VcpusRefused(UUID, ((1, "no"),))),
    *(ev.CopyPaused(UUID, MIG), ev.CopyCompleted(UUID, MIG, {}), ev.CopyFailed(UUID, MIG, "no")),
    *(ev.CopyCancelled(UUID, MIG), ev.IncomingLoaded(UUID, MIG)),
    *(ev.IncomingFailed(UUID, MIG, "no"), ev.Unsent(MIG, "no")),
)
FOUND = (
    None,
    *(
        ev.GuestFound(UUID, 1, 1, home, status, copy)
        for home in ("home", MIG)
        for status in ("running", "paused", "shutdown")
        for copy in ("none", "active", "paused", "completed", "failed")
    ),
)
LEFT_OUT = {
    "reason": ("", "why"),
    "tries": (0, 4, 6),
    "unknown": (False, True),
    "doubt": (False, True),
    "guest_end": ("", "off", "panicked"),
    "completed": (False, True),
    "loaded": (False, True),
    "gone": (False, True),
    "taken_back": (False, True),
}


def variants(row):
    """Rows that the exploration takes for this one: another value in any two fields left out."""
    names = [name for name in LEFT_OUT if hasattr(row, name)]
    for one, other in combinations(names, 2):
        for a, b in product(LEFT_OUT[one], LEFT_OUT[other]):
            like = replace(row, **{one: a, other: b})
            if like != row and essence(like) == row:
                yield like


def told(step, *given):
    """What a step does, as far as the exploration looks."""
    try:
        row, effects = step(*given)
    except (UnexpectedEvent, AssertionError) as refused:
        return str(refused)
    seen = [untold(e) for e in effects if not isinstance(e, do.AnnounceGuest)]
    return essence(row), [
        do.SetTimer(e.name, 0.0) if isinstance(e, do.SetTimer) else e
        for e in seen
        if not (isinstance(e, do.SetTimer) and e.name.startswith("doubt"))
    ]


def told_of(effects_and_row):
    """Unlocking tells why a guest ended; only whether its process is gone is looked at."""
    if isinstance(effects_and_row, str):
        return effects_and_row
    row, effects = effects_and_row
    return row, [
        replace(e, how=e.how == "gone") if isinstance(e, steps.UnlockDomain) else e for e in effects
    ]


def test_what_the_exploration_leaves_out_of_a_row_decides_nothing(met):
    tried = 0
    for side, module in (("s", source), ("t", target)):
        rows = {getattr(w, side).row for plain in met.values() for w in plain} - {None}
        for row in sorted(rows, key=repr):
            for other in dict.fromkeys(variants(row)):
                tried += 1
                for event in NEWS:
                    a, b = (told_of(told(module.step, r, event)) for r in (row, other))
                    assert a == b, (row, other, event)
                for found in FOUND:
                    a, b = (told_of(told(module.recover, r, found)) for r in (row, other))
                    assert a == b, (row, other, found)
    assert tried > 500


def test_the_number_of_states_does_not_depend_on_the_hash_seed():
    code = (
        "from lodom.sim.strata import *; from lodom.sim.handover import *; "
        "print(Search(first(True, Budget(process=1, loss=1))).run())"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(told) == 1


def test_epochs_never_go_back():
    w = first(True)
    with pytest.raises(Violated, match="epoch goes back"):
        book(w.s, (steps.Own(UUID, 1, SRC),))
