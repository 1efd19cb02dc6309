"""What can happen next in the small world of ``handover``: each happening with what it touches.

An ``Act`` names the parts of the world that it reads or writes; ``packed`` gives it a world in
which nothing else can be read, and so need not work out the same thing twice.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

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

Nexts = Iterator[tuple[str, World]]


class Act(NamedTuple):
    """Something that may happen, in any number of ways.

    ``parts``: the fields of ``World`` that it reads or writes; besides, whether a daemon is up and
    the marks ``loaded`` and ``ran`` are there for all.
    """

    name: str
    parts: tuple[str, ...]
    go: Callable[[World], Nexts]
    kind: str = ""
    """The budget that it spends, where all its ways spend the same."""


class Group(NamedTuple):
    """Acts of which a look at a few parts of the world tells which can happen now."""

    parts: tuple[str, ...]
    acts: Callable[..., Iterable[Act]]


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


# -- the processes ------------------------------------------------------------------------------

UNDER_WAY = ("active", "paused", "device")


class _Hashable(dict[str, int]):
    def __hash__(self) -> int:  # type: ignore[override]
        return 0


_NUMBERS = _Hashable()


def _pauses(w: World) -> Nexts:
    paused = w.qs._replace(copy="paused", running=False)
    yield "copy pauses", w._replace(qs=paused, s=post(w.s, ev.CopyPaused(UUID, MIG)))


def _loads(w: World) -> Nexts:
    qt, t = w.qt._replace(copy="loaded"), post(w.t, ev.IncomingLoaded(UUID, MIG))
    yield "target loads", w._replace(qt=qt, t=t, loaded=True)


def _completes(w: World) -> Nexts:
    qs, s = w.qs._replace(copy="completed"), post(w.s, ev.CopyCompleted(UUID, MIG, _NUMBERS))
    yield "copy completes", w._replace(qs=qs, s=s)


def _source_sees_break(w: World) -> Nexts:
    """The other end has gone: on a stream error the process resumes its guest by itself."""
    failed = w.qs._replace(copy="failed", running=not w.qs.off)
    yield "the source sees its stream broken", w._replace(qs=failed, s=_copy_failed(w.s))


def _copy_failed(s: Side) -> Side:
    return post(s, ev.CopyFailed(UUID, MIG, ""))


def _target_sees_break(w: World) -> Nexts:
    t = post(w.t, ev.IncomingFailed(UUID, MIG, ""))
    yield "the target sees its stream broken", w._replace(qt=w.qt._replace(copy="broken"), t=t)


def _broken_exits(w: World) -> Nexts:
    yield "broken target exits", w._replace(qt=Guest(), t=post(w.t, ev.GuestGone(UUID)))


_PAUSES = Act("copy pauses", ("s", "qs"), _pauses)
_LOADS = Act("target loads", ("t", "qt"), _loads)
_COMPLETES = Act("copy completes", ("s", "qs"), _completes)
_S_BREAKS = Act("source sees break", ("s", "qs"), _source_sees_break)
_T_BREAKS = Act("target sees break", ("t", "qt"), _target_sees_break)
_EXITS = Act("broken target exits", ("t", "qt"), _broken_exits)


def _processes(qs: Guest, qt: Guest) -> Iterator[Act]:
    if qs.copy == "active" and qs.running and qt.copy == "incoming":
        yield _PAUSES
    if qs.copy == "device" and qt.copy == "incoming":
        yield _LOADS
    if qs.copy == "device" and qt.copy in ("loaded", "ran"):
        yield _COMPLETES
    if qs.copy in UNDER_WAY and qt.copy in ("none", "broken"):
        yield _S_BREAKS
    if qt.copy == "incoming" and qs.copy in ("failed", "none") and not qs.alive:
        yield _T_BREAKS
    if qt.copy == "broken":
        yield _EXITS


# -- faults of processes and guests -------------------------------------------------------------


def _spent(w: World, kind: str) -> Budget:
    return w.left._replace(**{kind: getattr(w.left, kind) - 1})


def _treason(w: World) -> Nexts:
    """What the processes do to a copy under way, as measured."""
    left, qs, qt = _spent(w, "process"), w.qs, w.qt
    if qs.copy in UNDER_WAY:
        failed = qs._replace(copy="failed", running=not qs.off)
        broken = qt._replace(copy="broken") if qt.copy == "incoming" else qt
        story = "all loaded, but the source resumes by itself"
        if qt.copy != "loaded":
            story = "stream error: the source resumes by itself"
        yield story, w._replace(qs=failed, qt=broken, s=_copy_failed(w.s), left=left)
    if qs.copy == "device" and qt.copy == "incoming":
        s = post(w.s, ev.CopyCompleted(UUID, MIG, _NUMBERS))
        done = qs._replace(copy="completed")
        yield "completed without acknowledgement", w._replace(qs=done, s=s, left=left)


def _source_exits(w: World) -> Nexts:
    qs, qt = w.qs, w.qt
    broken = qt._replace(copy="broken") if qt.copy == "incoming" and qs.copy != "none" else qt
    s = post(w.s, ev.GuestGone(UUID))
    left = _spent(w, "process")
    yield "source's process exits", w._replace(qs=Guest(off=qs.off), qt=broken, s=s, left=left)


def _target_exits(w: World) -> Nexts:
    t = post(w.t, ev.GuestGone(UUID))
    yield "target's process exits", w._replace(qt=Guest(), t=t, left=_spent(w, "process"))


_TREASON = Act("treason", ("s", "qs", "qt"), _treason, "process")
_S_EXITS = Act("source's process exits", ("s", "qs", "qt"), _source_exits, "process")
_T_EXITS = Act("target's process exits", ("t", "qt"), _target_exits, "process")


def _process_faults(qs: Guest, qt: Guest) -> Iterator[Act]:
    if qs.copy in UNDER_WAY:
        yield _TREASON
    if qs.alive:
        yield _S_EXITS
    if qt.alive:
        yield _T_EXITS


def _guest(w: World) -> Nexts:
    left, off = _spent(w, "guest"), w.qs._replace(running=False, off=True)
    for news in (ev.GuestPoweredOff(UUID), ev.GuestPanicked(UUID)):
        s = post(w.s, news)
        yield f"guest: {type(news).__name__}", w._replace(qs=off, s=s, left=left)
    yield "guest: GuestRebooted", w._replace(s=post(w.s, ev.GuestRebooted(UUID)), left=left)


def _moved_guest(w: World) -> Nexts:
    """The same on its new machine; it is an ordinary domain there, or becomes one."""
    left, off = _spent(w, "guest"), w.qt._replace(running=False, off=True)
    for news in (ev.GuestPoweredOff(UUID), ev.GuestPanicked(UUID)):
        t = post(w.t, news)
        yield f"moved guest: {type(news).__name__}", w._replace(qt=off, t=t, left=left)
    t = post(w.t, ev.GuestRebooted(UUID))
    yield "moved guest: GuestRebooted", w._replace(t=t, left=left)


_GUEST = Act("guest", ("s", "qs"), _guest, "guest")
_MOVED = Act("moved guest", ("t", "qt"), _moved_guest, "guest")

# -- crashes ------------------------------------------------------------------------------------


def _down(side: Side) -> Side:
    return side._replace(up=False, effects=(), events=(), timers=frozenset())


def _s_crashes(w: World) -> Nexts:
    yield "A crashes", w._replace(s=_down(w.s), to_s=(), left=_spent(w, "crash"))


def _t_crashes(w: World) -> Nexts:
    yield "B crashes", w._replace(t=_down(w.t), to_t=(), left=_spent(w, "crash"))


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
    after = s_step(w._replace(left=_spent(w, "cancel")), steps.CancelAsked(""))
    yield "cancel", after


def _s_timer(kind: str, budget: str = "") -> Callable[[World], Nexts]:
    def go(w: World) -> Nexts:
        left = _spent(w, budget) if budget else w.left
        spent = w.s._replace(timers=w.s.timers - {kind})
        yield f"A's {kind} timer", s_step(w._replace(s=spent, left=left), steps.TIMEOUTS[kind]())

    return go


def _t_timer(kind: str, budget: str = "") -> Callable[[World], Nexts]:
    def go(w: World) -> Nexts:
        left = _spent(w, budget) if budget else w.left
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
    Group(("qs", "qt"), _processes),
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
    Group(("qs", "qt"), _process_faults),
    Group(("qs",), lambda qs: (_GUEST,) if qs.running else ()),
    Group(("qt",), lambda qt: (_MOVED,) if qt.running else ()),
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
