"""What can happen next in the small world of ``handover``."""

from collections.abc import Callable, Iterable, Iterator

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core import messages as msg
from lodom.core.migration import source, steps, target
from lodom.sim.handover import (
    MIG,
    UUID,
    Budget,
    Guest,
    Side,
    World,
    book,
    essence,
    post,
    s_effect,
    s_step,
    t_effect,
    t_step,
)  # fmt: skip
from lodom.sim.processes import (
    GUEST,
    MOVED,
    Act,
    Group,
    Nexts,
    left_alone,
    misdeeds,
    spent_one,
)  # fmt: skip

# -- the daemons --------------------------------------------------------------------------------


def _s_does(w: World) -> Nexts:
    e, rest = w.s.effects[0], w.s.effects[1:]
    for wrong, after in s_effect(w._replace(s=w.s._replace(effects=rest)), e):
        yield wrong or f"A does {e}", after


def _s_hears(w: World) -> Nexts:
    event = w.s.events[0]
    yield f"A hears {event}", s_step(w._replace(s=w.s._replace(events=w.s.events[1:])), event)


def _s_gets(w: World) -> Nexts:
    if w.to_s:
        yield f"A gets {w.to_s[0]}", s_step(w._replace(to_s=w.to_s[1:]), w.to_s[0])


def _t_does(w: World) -> Nexts:
    e, rest = w.t.effects[0], w.t.effects[1:]
    for wrong, after in t_effect(w._replace(t=w.t._replace(effects=rest)), e):
        yield wrong or f"B does {e}", after


def _t_hears(w: World) -> Nexts:
    event = w.t.events[0]
    yield f"B hears {event}", t_step(w._replace(t=w.t._replace(events=w.t.events[1:])), event)


def _t_gets(w: World) -> Nexts:
    if w.to_t:
        yield f"B gets {w.to_t[0]}", t_step(w._replace(to_t=w.to_t[1:]), w.to_t[0])


_S = (
    Act("A sends", ("s", "to_t"), _s_does),
    Act("A does", ("s", "qs", "qt"), _s_does),
    Act("A hears", ("s", "qs"), _s_hears),
    Act("A gets", ("s", "qs", "to_s"), _s_gets),
)
_T = (
    Act("B sends", ("t", "qt", "to_s"), _t_does),
    Act("B does", ("t", "qt"), _t_does),
    Act("B hears", ("t",), _t_hears),
    Act("B gets", ("t", "to_t"), _t_gets),
)


def _turn(side: Side, acts: tuple[Act, ...]) -> tuple[Act, ...]:
    """What a daemon does next: effects before news, news before messages."""
    if not side.up:
        return ()
    sends, does, hears, gets = acts
    if side.effects:
        return (sends if isinstance(side.effects[0], do.Send) else does,)
    return (hears,) if side.events else (gets,)


# -- crashes ------------------------------------------------------------------------------------


def _down(side: Side) -> Side:
    return side._replace(up=False, effects=(), events=(), timers=frozenset())


def _s_crashes(w: World) -> Nexts:
    yield "A crashes", w._replace(s=_down(w.s), to_s=(), left=spent_one(w, "crash"))


def _t_crashes(w: World) -> Nexts:
    yield "B crashes", w._replace(t=_down(w.t), to_t=(), left=spent_one(w, "crash"))


def _found(q: Guest, home: str) -> ev.GuestFound | None:
    if not q.alive:
        return None
    status = "running" if q.running else "shutdown" if q.off else "paused"
    copy = {"device": "active", "loaded": "completed", "incoming": "active"}.get(q.copy, q.copy)
    return ev.GuestFound(UUID, 1, 1, home, status, copy)


def _s_restarts(w: World) -> Nexts:
    side = w.s._replace(up=True)
    found = _found(w.qs, "home")
    row, effects = source.recover(side.row, found)
    side = book(side._replace(row=essence(row)), effects)
    if found is None and row.live:
        side = post(side, ev.GuestGone(UUID))
    if w.qs.off:
        side = post(side, ev.GuestPoweredOff(UUID))
    yield "A restarts", w._replace(s=side)


def _t_restarts(w: World) -> Nexts:
    side = w.t._replace(up=True)
    if side.row is not None:
        found = _found(w.qt, MIG)
        row, effects = target.recover(side.row, found)
        side = book(side._replace(row=essence(row)), effects)
        if found is None and row.live:
            side = post(side, ev.GuestGone(UUID))
        if w.qt.off and side.held:
            side = post(side, ev.GuestPoweredOff(UUID))
    yield "B restarts", w._replace(t=side)


_CRASHES = (
    Act("A crashes", ("s", "to_s"), _s_crashes, "crash"),
    Act("B crashes", ("t", "to_t"), _t_crashes, "crash"),
)
_RESTARTS = (
    Act("A restarts", ("s", "qs"), _s_restarts),
    Act("B restarts", ("t", "qt"), _t_restarts),
)

# -- the network --------------------------------------------------------------------------------


def _bent(
    queue: tuple[msg.Message, ...], left: Budget
) -> Iterator[tuple[str, tuple[msg.Message, ...], Budget]]:
    if left.loss:
        yield "lost", queue[1:], left._replace(loss=left.loss - 1)
    if left.dup:
        yield "twice", (*queue, queue[0]), left._replace(dup=left.dup - 1)
    if left.reorder and len(queue) > 1:
        yield "overtaken", (*queue[1:], queue[0]), left._replace(reorder=left.reorder - 1)


def _to_t_bent(w: World) -> Nexts:
    for story, queue, left in _bent(w.to_t, w.left):
        yield f"{story} {w.to_t[0]}", w._replace(to_t=queue, left=left)


def _to_s_bent(w: World) -> Nexts:
    for story, queue, left in _bent(w.to_s, w.left):
        yield f"{story} {w.to_s[0]}", w._replace(to_s=queue, left=left)


_NETWORK = (Act("to target", ("to_t",), _to_t_bent), Act("to source", ("to_s",), _to_s_bent))

# -- orders and time ----------------------------------------------------------------------------


def _cancel(w: World) -> Nexts:
    after = s_step(w._replace(left=spent_one(w, "cancel")), steps.CancelAsked(""))
    yield "cancel", after


def _s_timer(kind: str, budget: str = "") -> Callable[[World], Nexts]:
    def go(w: World) -> Nexts:
        left = spent_one(w, budget) if budget else w.left
        spent = w.s._replace(timers=w.s.timers - {kind})
        yield f"A's {kind} timer", s_step(w._replace(s=spent, left=left), steps.TIMEOUTS[kind]())

    return go


def _t_timer(kind: str, budget: str = "") -> Callable[[World], Nexts]:
    def go(w: World) -> Nexts:
        left = spent_one(w, budget) if budget else w.left
        spent = w.t._replace(timers=w.t.timers - {kind})
        yield f"B's {kind} timer", t_step(w._replace(t=spent, left=left), steps.TIMEOUTS[kind]())

    return go


_CANCEL = Act("cancel", ("s", "qs"), _cancel, "cancel")
_LEASE = Act("lease expires", ("t",), _t_timer("lease", "lease"), "lease")
_STALL = Act("deadline passes", ("s", "qs"), _s_timer("stall", "stall"), "stall")
_S_PATIENCE = {kind: Act(f"A's {kind}", ("s", "qs"), _s_timer(kind)) for kind in steps.TIMEOUTS}
_T_PATIENCE = {kind: Act(f"B's {kind}", ("t",), _t_timer(kind)) for kind in steps.TIMEOUTS}


def _to_source(side: Side) -> Iterator[Act]:
    """Faults and orders that meet the source's daemon."""
    if not side.up:
        yield _RESTARTS[0]
        return
    yield _CRASHES[0]
    if not side.effects and side.row.phase in source.BEFORE_CEDED:
        yield _CANCEL
    if not side.effects and "stall" in side.timers:
        yield _STALL


def _to_target(side: Side) -> Iterator[Act]:
    """Faults that meet the target's daemon."""
    if not side.up:
        yield _RESTARTS[1]
        return
    yield _CRASHES[1]
    if not side.effects and "lease" in side.timers:
        yield _LEASE


def _timers(acts: dict[str, Act], *kinds: str) -> Callable[[Side], Iterable[Act]]:
    return lambda side: [acts[kind] for kind in kinds if side.up and kind in side.timers]


OWN = (
    Group(("s",), lambda side: _turn(side, _S)),
    Group(("t",), lambda side: _turn(side, _T)),
    Group(("qs", "qt"), left_alone),
)
"""What comes of itself."""

LAST = (
    Group(("s",), lambda side: () if side.up else _RESTARTS[:1]),
    Group(("t",), lambda side: () if side.up else _RESTARTS[1:]),
    Group(("t",), _timers(_T_PATIENCE, "resend")),
    Group(("s",), _timers(_S_PATIENCE, "resend", "stall", "renew")),
    Group(("t",), _timers(_T_PATIENCE, "lease")),
)
"""What comes of itself when nothing else is under way: time-outs that only repeat something.

The target's first and its lease last, as a world left alone goes the first way: neither side keeps
the other waiting for ever by repeating itself.
"""

FAULTS = (
    Group(("qs", "qt"), misdeeds),
    Group(("qs",), lambda qs: (GUEST,) if qs.running else ()),
    Group(("qt",), lambda qt: (MOVED,) if qt.running else ()),
    Group(("s",), _to_source),
    Group(("t",), _to_target),
    Group(("to_t",), lambda queue: _NETWORK[:1] if queue else ()),
    Group(("to_s",), lambda queue: _NETWORK[1:] if queue else ()),
)
"""What a budget allows."""


def successors(w: World) -> tuple[list[tuple[str, World]], list[tuple[str, World]]]:
    """Next states with their stories: those that come of themselves, and those that are faults."""
    own = list(_all(w, OWN)) or list(_all(w, LAST))
    return own, list(_all(w, FAULTS))


def _all(w: World, groups: tuple[Group, ...]) -> Nexts:
    for group in groups:
        for act in group.acts(*(getattr(w, part) for part in group.parts)):
            if not act.kind or getattr(w.left, act.kind):
                yield from act.go(w)


HAPPENINGS = (
    "stream error: the source resumes by itself",
    "all loaded, but the source resumes by itself",
    "completed without acknowledgement",
    "source's process exits",
    "target's process exits",
    "launch fails",
    "cont fails, paused",
    "cont unanswered, runs",
    "cont unanswered, paused",
    *(
        f"{who}: {what}"
        for who in ("guest", "moved guest")
        for what in ("GuestRebooted", "GuestPoweredOff", "GuestPanicked")
    ),
    "guest keeps its CPU",
    "A crashes",
    "B crashes",
    "lost",
    "twice",
    "overtaken",
    "B's lease timer",
    "cancel",
)
"""Beginnings of the stories that the full budget must meet."""
