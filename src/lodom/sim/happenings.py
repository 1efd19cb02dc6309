"""What can happen next in the small world of ``handover``, and what must hold in each state."""

from collections.abc import Iterator

from lodom.core import events as ev
from lodom.core import messages as msg
from lodom.core.migration import source, steps, target
from lodom.core.migration.ownership import may_run
from lodom.sim.handover import (
    MIG,
    SRC,
    TGT,
    UUID,
    Budget,
    Guest,
    Side,
    Violated,
    World,
    book,
    one,
    post,
    s_effect,
    s_step,
    t_effect,
    t_step,
)  # fmt: skip

# -- what can happen next -----------------------------------------------------------------------


def _daemons(w: World) -> Iterator[tuple[str, World]]:
    if w.s.up:
        if w.s.effects:
            e, rest = w.s.effects[0], w.s.effects[1:]
            for after in s_effect(w._replace(s=w.s._replace(effects=rest)), e):
                yield f"A does {e}", after
        elif w.s.events:
            event = w.s.events[0]
            taken = w._replace(s=w.s._replace(events=w.s.events[1:]))
            yield f"A hears {event}", s_step(taken, event)
        elif w.to_s:
            yield f"A gets {w.to_s[0]}", s_step(w._replace(to_s=w.to_s[1:]), w.to_s[0])
    if w.t.up:
        if w.t.effects:
            e, rest = w.t.effects[0], w.t.effects[1:]
            for after in t_effect(w._replace(t=w.t._replace(effects=rest)), e):
                yield f"B does {e}", after
        elif w.t.events:
            event = w.t.events[0]
            taken = w._replace(t=w.t._replace(events=w.t.events[1:]))
            yield f"B hears {event}", t_step(taken, event)
        elif w.to_t:
            yield f"B gets {w.to_t[0]}", t_step(w._replace(to_t=w.to_t[1:]), w.to_t[0])


def _processes(w: World) -> Iterator[tuple[str, World]]:
    qs, qt = w.qs, w.qt
    if qs.copy == "active" and qs.running and qt.copy == "incoming":
        paused = qs._replace(copy="paused", running=False)
        yield "copy pauses", w._replace(qs=paused, s=post(w.s, ev.CopyPaused(UUID, MIG)))
    if qs.copy == "device" and qt.copy == "incoming":
        loaded = qt._replace(copy="loaded")
        yield (
            "target loads",
            w._replace(qt=loaded, t=post(w.t, ev.IncomingLoaded(UUID, MIG)), loaded=True),
        )
    if qs.copy == "device" and qt.copy in ("loaded", "ran"):
        done = qs._replace(copy="completed")
        yield (
            "copy completes",
            w._replace(qs=done, s=post(w.s, ev.CopyCompleted(UUID, MIG, _NUMBERS))),
        )
    if qt.alive and qt.copy == "incoming" and qs.copy in ("failed", "none") and not qs.alive:
        broken = qt._replace(copy="broken")
        yield (
            "target's stream breaks",
            w._replace(qt=broken, t=post(w.t, ev.IncomingFailed(UUID, MIG, "stream"))),
        )
    if qt.alive and qt.copy == "broken":
        yield "target's process exits", w._replace(qt=Guest(), t=post(w.t, ev.GuestGone(UUID)))


class _Hashable(dict[str, int]):
    def __hash__(self) -> int:  # type: ignore[override]
        return 0


_NUMBERS = _Hashable()


def _process_faults(w: World) -> Iterator[tuple[str, World]]:
    if not w.left.process or w.s.row.phase is source.Phase.NEW:
        return
    left = w.left._replace(process=w.left.process - 1)
    qs, qt = w.qs, w.qt
    if qs.copy in ("active", "paused", "device"):
        failed = qs._replace(copy="failed", running=not qs.off)
        broken = qt._replace(copy="broken") if qt.copy == "incoming" else qt
        yield (
            "stream error: the source resumes by itself",
            w._replace(
                qs=failed, qt=broken, s=post(w.s, ev.CopyFailed(UUID, MIG, "stream")), left=left
            ),
        )
    if qs.copy == "device" and qt.copy == "incoming":
        yield (
            "completed without acknowledgement",
            w._replace(
                qs=qs._replace(copy="completed"),
                s=post(w.s, ev.CopyCompleted(UUID, MIG, _NUMBERS)),
                left=left,
            ),
        )
    if qs.alive:
        broken = qt._replace(copy="broken") if qt.copy == "incoming" and qs.copy != "none" else qt
        yield (
            "source's process exits",
            w._replace(qs=Guest(off=qs.off), qt=broken, s=post(w.s, ev.GuestGone(UUID)), left=left),
        )
    if qt.alive:
        cut = qs.copy in ("active", "paused", "device") and qt.copy == "incoming"
        after = qs._replace(copy="failed", running=not qs.off) if cut else qs
        s = post(w.s, ev.CopyFailed(UUID, MIG, "peer gone")) if cut else w.s
        t = post(w.t, ev.GuestGone(UUID))
        yield "target's process exits", w._replace(qs=after, qt=Guest(), s=s, t=t, left=left)


def _guest_faults(w: World) -> Iterator[tuple[str, World]]:
    if w.left.guest and w.qs.running and w.s.row.phase is not source.Phase.NEW:
        left = w.left._replace(guest=w.left.guest - 1)
        off = w.qs._replace(running=False, off=True)
        for news in (ev.GuestPoweredOff(UUID), ev.GuestPanicked(UUID)):
            yield f"guest: {type(news).__name__}", w._replace(qs=off, s=post(w.s, news), left=left)
        yield "guest reboots", w._replace(s=post(w.s, ev.GuestRebooted(UUID)), left=left)


def _found(q: Guest, home: str) -> ev.GuestFound | None:
    if not q.alive:
        return None
    status = "running" if q.running else "shutdown" if q.off else "paused"
    copy = {"device": "active", "loaded": "completed", "incoming": "active"}.get(q.copy, q.copy)
    return ev.GuestFound(UUID, 1, 1, home, status, copy)


def _crashes(w: World) -> Iterator[tuple[str, World]]:
    if w.left.crash:
        left = w.left._replace(crash=w.left.crash - 1)
        if w.s.up:
            yield "A crashes", w._replace(s=_down(w.s), to_s=(), left=left)
        if w.t.up:
            yield "B crashes", w._replace(t=_down(w.t), to_t=(), left=left)


def _restarts(w: World) -> Iterator[tuple[str, World]]:
    if not w.s.up:
        yield "A restarts", _restart_s(w)
    if not w.t.up:
        yield "B restarts", _restart_t(w)


def _down(side: Side) -> Side:
    return side._replace(up=False, effects=(), events=(), timers=frozenset())


def _restart_s(w: World) -> World:
    side = w.s._replace(up=True)
    if side.row.phase is source.Phase.NEW:
        return w._replace(s=side._replace(events=(steps.Begun(),)))
    found = _found(w.qs, "home")
    row, effects = source.recover(side.row, found)
    side = book(side._replace(row=one(row)), effects)
    if found is None and row.live:
        side = post(side, ev.GuestGone(UUID))
    if w.qs.off:
        side = post(side, ev.GuestPoweredOff(UUID))
    return w._replace(s=side)


def _restart_t(w: World) -> World:
    side = w.t._replace(up=True)
    if side.row is None:
        return w._replace(t=side)
    found = _found(w.qt, MIG)
    row, effects = target.recover(side.row, found)
    side = book(side._replace(row=one(row)), effects)
    if found is None and row.live:
        side = post(side, ev.GuestGone(UUID))
    return w._replace(t=side)


def _network_faults(w: World) -> Iterator[tuple[str, World]]:
    for there in (True, False):
        queue = w.to_t if there else w.to_s
        if not queue:
            continue
        for story, changed, left in _bent(queue, w.left):
            bent = w._replace(left=left)
            bent = bent._replace(to_t=changed) if there else bent._replace(to_s=changed)
            yield f"{story} {queue[0]}", bent


def _bent(
    queue: tuple[msg.Message, ...], left: Budget
) -> Iterator[tuple[str, tuple[msg.Message, ...], Budget]]:
    if left.loss:
        yield "lost", queue[1:], left._replace(loss=left.loss - 1)
    if left.dup:
        yield "twice", (*queue, queue[0]), left._replace(dup=left.dup - 1)
    if left.reorder and len(queue) > 1:
        yield "overtaken", (*queue[1:], queue[0]), left._replace(reorder=left.reorder - 1)


def _orders(w: World) -> Iterator[tuple[str, World]]:
    if w.left.cancel and w.s.up and w.s.row.phase in source.BEFORE_CEDED and not w.s.effects:
        left = w.left._replace(cancel=w.left.cancel - 1)
        yield "cancel", s_step(w._replace(left=left), steps.CancelAsked("cancelled"))
    if w.left.lease and w.t.up and "lease" in w.t.timers and not w.t.effects:
        left = w.left._replace(lease=w.left.lease - 1)
        t = w.t._replace(timers=w.t.timers - {"lease"})
        yield "lease expires", t_step(w._replace(left=left, t=t), steps.LeaseExpired())
    if w.left.stall and w.s.up and "stall" in w.s.timers and not w.s.effects:
        left = w.left._replace(stall=w.left.stall - 1)
        s = w.s._replace(timers=w.s.timers - {"stall"})
        yield "deadline passes", s_step(w._replace(left=left, s=s), steps.Stalled())


def _patience(w: World) -> Iterator[tuple[str, World]]:
    """Time-outs that only repeat something: they come when nothing else is under way.

    The target's first and its lease last, as a world left alone goes the first way: neither side
    keeps the other waiting for ever by repeating itself.
    """
    for who, kind in (
        ("B", "resend"),
        ("A", "resend"),
        ("A", "stall"),
        ("A", "renew"),
        ("B", "lease"),
    ):
        side = w.s if who == "A" else w.t
        if side.up and kind in side.timers:
            spent = side._replace(timers=side.timers - {kind})
            event = steps.TIMEOUTS[kind]()
            after = (
                s_step(w._replace(s=spent), event)
                if who == "A"
                else t_step(w._replace(t=spent), event)
            )
            yield f"{who}'s {kind} timer", after


def successors(w: World) -> tuple[list[tuple[str, World]], list[tuple[str, World]]]:
    """Next states with their stories: those that come of themselves, and those that are faults.

    Time-outs that only repeat come of themselves when nothing else moves.
    """
    own = [*_daemons(w), *_processes(w)] or [*_restarts(w), *_patience(w)]
    faults = [
        *_process_faults(w), *_guest_faults(w), *_crashes(w), *_restarts(w), *_network_faults(w),
        *_orders(w),
    ]  # fmt: skip
    return own, faults


# -- the invariants -----------------------------------------------------------------------------


def check(w: World) -> None:
    """At no moment do two copies run.

    Raises:
        Violated: they do, or one runs without being owned.
    """
    if w.qs.running and w.ran:
        raise Violated("the source runs again what has run on the target")
    if w.qs.running and w.qt.running:
        raise Violated("two copies run")
    if w.qt.running and not (w.t.own and w.t.own.owner == TGT):
        raise Violated("the target runs what it does not own")
    if w.qs.running and w.s.own and w.s.own.owner != SRC:
        raise Violated("the source runs what it has ceded")
    for side, me in ((w.s, SRC), (w.t, TGT)):
        # Someone, or a boot, tries to set the domain running in the middle of all this.
        own = side.own
        if own and own.owner != me and may_run({UUID: own}, UUID, own.epoch, me):
            raise Violated("a machine that is not the owner may start the domain")


def check_end(w: World) -> None:
    """In the end exactly one copy runs, and nothing stays reserved.

    Raises:
        Violated: otherwise.
    """
    s_phase, t_phase = w.s.row.phase, w.t.row.phase if w.t.row else target.Phase.ENDED
    if s_phase is not source.Phase.ENDED:
        raise Violated(f"the source ends in {s_phase}")
    if t_phase not in (target.Phase.ENDED, target.Phase.GONE):
        raise Violated(f"the target ends in {t_phase}")
    if w.s.held or w.t.held:
        raise Violated("something stays locked or reserved")
    here, there = w.s.own, w.t.own
    assert here is not None
    owner = max((o for o in (here, there) if o), key=lambda o: o.epoch).owner
    side, guest = (w.s, w.qs) if owner == SRC else (w.t, w.qt)
    other, rest = (w.t, w.qt) if owner == SRC else (w.s, w.qs)
    if not side.present or other.present:
        raise Violated("the owner has no domain, or the other still has one")
    if other.row is not None and not other.scrubbed and other.row.phase is not target.Phase.ENDED:
        raise Violated("memory was given back without scrubbing")
    if rest.alive:
        raise Violated("a process is left over")
    if not w.s.row.live:
        return
    if guest.off:
        return
    if side.anew != (not guest.alive):
        raise Violated("not exactly one copy in the end")
    if guest.alive:
        if not guest.running:
            raise Violated("nobody runs the domain")
        if not guest.all_strands:
            raise Violated("strands were not restored")
