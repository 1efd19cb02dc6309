"""The two migration machines in a world small enough to visit all its states.

Two daemons (each: durable row, effects not yet carried out, events not yet handled, timers), two
channels, two hypervisor processes, two ledgers of ownership.  Each decision is durable as a whole;
a crash may fall before any of its effects, a send included.  Faults are bounded by a budget.  The
processes behave as measured: the source's resumes its guest by itself on a stream error before
``completed``, may say ``completed`` without the target's acknowledgement, may exit; ``cont`` on the
target may fail; the guest may reboot, power off, panic or refuse.

Checked in every state: at most one copy runs, and only its owner may set one running.  In every
end: exactly one (or the guest switched itself off), nothing locked or reserved, strands back,
memory given back for scrubbing.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core import messages as msg
from lodom.core.fsm import Effect, Event
from lodom.core.migration import source, steps, target
from lodom.core.migration.ownership import may_run, stale
from lodom.core.model.domain import Platform, Vcpu
from lodom.core.model.guest import GuestSpec
from lodom.core.model.inventory import Ownership

UUID, MIG, SRC, TGT = "d", "m", "A", "B"
VCPUS = (Vcpu(0, 0), Vcpu(1, 1))


class Budget(NamedTuple):
    """How many faults of each kind one run may meet."""

    crash: int = 0
    dup: int = 0
    loss: int = 0
    reorder: int = 0
    lease: int = 0
    stall: int = 0
    cancel: int = 0
    guest: int = 0
    process: int = 0
    """A stream error, a process that exits, a ``cont`` that fails, a false ``completed``."""


class Guest(NamedTuple):
    """A hypervisor process: its life, its run state, its copy, its strands."""

    alive: bool = False
    running: bool = False
    copy: str = "none"
    """Source: none active paused device completed failed.  Target: incoming loaded broken ran."""
    all_strands: bool = False
    off: bool = False


class Side(NamedTuple):
    """One daemon with its store."""

    row: Any
    up: bool = True
    effects: tuple[Effect, ...] = ()
    events: tuple[Event, ...] = ()
    timers: frozenset[str] = frozenset()
    own: Ownership | None = None
    held: bool = False
    """Source: the domain is locked.  Target: the shell holds resources."""
    present: bool = True
    scrubbed: bool = False
    anew: bool = False
    """The engine was told to start the domain anew from disk."""


class World(NamedTuple):
    """One state of everything."""

    s: Side
    t: Side
    qs: Guest
    qt: Guest
    to_t: tuple[msg.Message, ...] = ()
    to_s: tuple[msg.Message, ...] = ()
    left: Budget = Budget()
    loaded: bool = False
    """The target's process has had the whole guest: without that CEDED may not be written."""
    ran: bool = False
    """The target's copy has run: the source's must never run again."""


class Violated(Exception):
    """An invariant does not hold."""


def first(live: bool = True, budget: Budget | None = None) -> World:
    """The domain runs on the source on two strands; the migration is about to begin."""
    row = source.SourceMigration(
        id=MIG, uuid=UUID, name="g", target_name="g", source=SRC, source_name="a", target=TGT,
        host="b", peer_port=1, epoch=1, live=live, streams=2, vcpus=VCPUS, cpus=(), shrink=True,
        domain="",
    )  # fmt: skip
    qs = Guest(alive=True, running=True, all_strands=True) if live else Guest()
    side = Side(row, own=Ownership(UUID, 1, SRC), events=(steps.Begun(),))
    return World(side, Side(None, present=False), qs, Guest(), left=budget or Budget())


def _fresh_target(request: msg.Reserve) -> target.TargetMigration:
    spec = GuestSpec(UUID, "g", Platform("q35", "max", 2), 2, (0, 1), (), ())
    return target.TargetMigration(
        id=MIG, uuid=UUID, name="g", source=request.source, source_name="a", source_key="",
        target=TGT, epoch=request.epoch, live=request.live, streams=2, vcpus=VCPUS, cpus=(),
        spec=spec if request.live else None, grow=True,
    )  # fmt: skip


# -- a daemon's step ----------------------------------------------------------------------------


_ONE: dict[Any, Any] = {}


def _one(row: Any) -> Any:
    """The one copy of a row, which knows its hash: most of the time goes into comparing rows."""
    return _ONE.setdefault(row, row)


def _remembered(kind: type) -> None:
    plain: Callable[[Any], int] = kind.__hash__  # type: ignore[assignment]

    def cached(self: Any) -> int:
        known: int | None = self.__dict__.get("_hash")
        if known is None:
            known = self.__dict__["_hash"] = plain(self)
        return known

    kind.__hash__ = cached  # type: ignore[assignment]


for _kind in (source.SourceMigration, target.TargetMigration, GuestSpec):
    _remembered(_kind)


def _book(side: Side, effects: tuple[Effect, ...]) -> Side:
    """Apply the bookkeeping of one step; the rest waits to be carried out.

    Timers are set at once: they touch nothing else, and a crash forgets them either way, so states
    that differ only in a timer not yet set lead nowhere new.
    """
    rest: list[Effect] = []
    for e in effects:
        match e:
            case steps.LockDomain() | steps.HoldShell():
                side = side._replace(held=True, present=True)
            case steps.Own(uuid, epoch, owner):
                if side.own and epoch <= side.own.epoch:
                    raise Violated(f"epoch goes back: {e}")
                side = side._replace(own=Ownership(uuid, epoch, owner))
            case steps.UnlockDomain(_, how):
                side = side._replace(held=False, anew=side.anew or how == "gone")
            case steps.AdoptShell(_, how):
                side = side._replace(held=False, anew=side.anew or how == "gone")
            case steps.ForgetDomain():
                side = side._replace(held=False, present=False, scrubbed=True)
            case do.SetTimer(name):
                side = side._replace(timers=side.timers | {name.partition(":")[0]})
            case do.CancelTimer(name):
                side = side._replace(timers=side.timers - {name.partition(":")[0]})
            case _:
                rest.append(e)
    return side._replace(effects=side.effects + tuple(rest))


def _s_step(w: World, event: Event) -> World:
    side = w.s
    if isinstance(event, ev.GuestGone) and not side.held and side.present and not w.qs.off:
        side = side._replace(anew=True)  # an ordinary domain died: the engine starts it anew
    if side.row.phase is source.Phase.ENDED:
        return w._replace(s=side)  # the engine has dropped the row
    row, effects = source.step(side.row, event)
    ceded = row.phase is source.Phase.CEDED and side.row.phase is not source.Phase.CEDED
    if ceded and row.live and not w.loaded:
        raise Violated("ceded before the target had the guest")
    return w._replace(s=_book(side._replace(row=_one(row)), effects))


def _t_step(w: World, event: Event) -> World:
    if isinstance(event, ev.GuestGone) and not w.t.held and w.t.present:
        w = w._replace(t=w.t._replace(anew=True))
    row = w.t.row
    if row is None or row.phase is target.Phase.ENDED:
        if not isinstance(event, msg.Message):
            return w
        if not isinstance(event, msg.Reserve):
            answer = msg.Unknown()
            return w._replace(to_s=(*w.to_s, answer))
        ledger = {UUID: w.t.own} if w.t.own else {}
        if (why := stale(ledger, UUID, event.epoch, event.source)) or row is not None:
            return w._replace(to_s=(*w.to_s, msg.Refused(why or "ended")))
        row, event = _fresh_target(event), steps.Begun()
    row, effects = target.step(row, event)
    return w._replace(t=_book(w.t._replace(row=_one(row)), effects))


# -- carrying out one effect --------------------------------------------------------------------


def _post(side: Side, *events: Event) -> Side:
    return side._replace(events=side.events + events) if side.up else side


def _s_effect(w: World, e: Effect) -> Iterator[World]:  # noqa: C901 - one match, one line a word
    q = w.qs
    match e:
        case do.Send(_, message):
            if w.t.up:
                yield w._replace(to_t=(*w.to_t, message))
            else:  # nobody listens
                yield w._replace(s=_post(w.s, ev.Unsent(MIG, "connection refused")))
        case do.SetVcpus(_, vcpus, _):
            vids = tuple(v.vid for v in vcpus)
            if not q.alive:
                yield w._replace(s=_post(w.s, ev.VcpusRefused(UUID, ((-1, "gone"),))))
                return
            done = ev.VcpusSet(UUID, vids, (0, 1))
            all_strands = len(vids) == len(VCPUS)
            yield w._replace(s=_post(w.s, done), qs=q._replace(all_strands=all_strands))
            if w.left.guest:
                left = w.left._replace(guest=w.left.guest - 1)
                no = ev.VcpusRefused(UUID, ((1, "cpu has bound thread"),))
                yield w._replace(s=_post(w.s, no), left=left)
        case do.StartCopy():
            if q.alive and w.qt.alive and w.qt.copy == "incoming" and not q.off:
                yield w._replace(qs=q._replace(copy="active"))
            else:
                yield w._replace(s=_post(w.s, ev.CopyFailed(UUID, MIG, "no listener")))
        case do.FinishCopy():
            if q.copy == "paused":
                yield w._replace(qs=q._replace(copy="device"))
            else:
                yield w._replace(s=_post(w.s, ev.CopyFailed(UUID, MIG, "not paused")))
        case do.CancelCopy():
            running = q.running or (q.copy in ("paused", "device") and q.alive)
            broken = w.qt._replace(copy="broken") if w.qt.copy == "incoming" else w.qt
            copy = q.copy if q.copy == "completed" else "none"
            yield w._replace(
                s=_post(w.s, ev.CopyCancelled(UUID, MIG)),
                qs=q._replace(copy=copy, running=running),
                qt=broken if q.copy in ("active", "paused", "device") else w.qt,
            )
        case do.RunGuest(_, epoch):
            ledger = {UUID: w.s.own} if w.s.own else {}
            if not may_run(ledger, UUID, epoch, SRC):
                yield w._replace(s=_post(w.s, ev.GuestRunFailed(UUID, "not the owner", True)))
            elif not q.alive or q.off:
                yield w._replace(s=_post(w.s, ev.GuestRunFailed(UUID, "gone", False)))
            else:
                yield w._replace(s=_post(w.s, ev.GuestRunning(UUID)), qs=q._replace(running=True))
        case do.DestroyGuest():
            yield w._replace(s=_post(w.s, ev.GuestGone(UUID)), qs=Guest())
        case _:
            yield w


def _t_effect(w: World, e: Effect) -> Iterator[World]:
    q = w.qt
    match e:
        case do.Send(_, message):
            if isinstance(message, msg.Refused) and q.alive:
                raise Violated("refused while its process lives")
            yield w._replace(to_s=(*w.to_s, message)) if w.s.up else w
        case do.LaunchGuest():
            up = Guest(alive=True, copy="incoming")
            yield w._replace(t=_post(w.t, ev.GuestLaunched(UUID, 1, 1, MIG, 7)), qt=up)
            if w.left.process:
                left = w.left._replace(process=w.left.process - 1)
                no = ev.GuestLaunchFailed(UUID, MIG, "no")
                yield w._replace(t=_post(w.t, no), left=left)
        case do.RunGuest(_, epoch):
            ledger = {UUID: w.t.own} if w.t.own else {}
            if not may_run(ledger, UUID, epoch, TGT):
                yield w._replace(t=_post(w.t, ev.GuestRunFailed(UUID, "not the owner", True)))
                return
            if not q.alive:
                yield w._replace(t=_post(w.t, ev.GuestRunFailed(UUID, "gone", False)))
                return
            ran = q._replace(running=True, copy="ran")
            yield w._replace(t=_post(w.t, ev.GuestRunning(UUID)), qt=ran, ran=True)
            if w.left.process and q.copy == "loaded":
                left = w.left._replace(process=w.left.process - 1)
                cannot = ev.GuestRunFailed(UUID, "Failed to get write lock", True)
                yield w._replace(t=_post(w.t, cannot), left=left)
                silent = ev.GuestRunFailed(UUID, "no answer in time", False)
                yield w._replace(t=_post(w.t, silent), qt=ran, ran=True, left=left)
        case do.SetVcpus():
            done = ev.VcpusSet(UUID, (0, 1), (0, 1))
            yield w._replace(t=_post(w.t, done), qt=q._replace(all_strands=True))
        case do.DestroyGuest():
            yield w._replace(t=_post(w.t, ev.GuestGone(UUID)), qt=Guest())
        case _:
            yield w


# -- what can happen next -----------------------------------------------------------------------


def _daemons(w: World) -> Iterator[tuple[str, World]]:
    if w.s.up:
        if w.s.effects:
            e, rest = w.s.effects[0], w.s.effects[1:]
            for after in _s_effect(w._replace(s=w.s._replace(effects=rest)), e):
                yield f"A does {e}", after
        elif w.s.events:
            event = w.s.events[0]
            taken = w._replace(s=w.s._replace(events=w.s.events[1:]))
            yield f"A hears {event}", _s_step(taken, event)
        elif w.to_s:
            yield f"A gets {w.to_s[0]}", _s_step(w._replace(to_s=w.to_s[1:]), w.to_s[0])
    if w.t.up:
        if w.t.effects:
            e, rest = w.t.effects[0], w.t.effects[1:]
            for after in _t_effect(w._replace(t=w.t._replace(effects=rest)), e):
                yield f"B does {e}", after
        elif w.t.events:
            event = w.t.events[0]
            taken = w._replace(t=w.t._replace(events=w.t.events[1:]))
            yield f"B hears {event}", _t_step(taken, event)
        elif w.to_t:
            yield f"B gets {w.to_t[0]}", _t_step(w._replace(to_t=w.to_t[1:]), w.to_t[0])


def _processes(w: World) -> Iterator[tuple[str, World]]:
    qs, qt = w.qs, w.qt
    if qs.copy == "active" and qs.running and qt.copy == "incoming":
        paused = qs._replace(copy="paused", running=False)
        yield "copy pauses", w._replace(qs=paused, s=_post(w.s, ev.CopyPaused(UUID, MIG)))
    if qs.copy == "device" and qt.copy == "incoming":
        loaded = qt._replace(copy="loaded")
        yield (
            "target loads",
            w._replace(qt=loaded, t=_post(w.t, ev.IncomingLoaded(UUID, MIG)), loaded=True),
        )
    if qs.copy == "device" and qt.copy in ("loaded", "ran"):
        done = qs._replace(copy="completed")
        yield (
            "copy completes",
            w._replace(qs=done, s=_post(w.s, ev.CopyCompleted(UUID, MIG, _NUMBERS))),
        )
    if qt.alive and qt.copy == "incoming" and qs.copy in ("failed", "none") and not qs.alive:
        broken = qt._replace(copy="broken")
        yield (
            "target's stream breaks",
            w._replace(qt=broken, t=_post(w.t, ev.IncomingFailed(UUID, MIG, "stream"))),
        )
    if qt.alive and qt.copy == "broken":
        yield "target's process exits", w._replace(qt=Guest(), t=_post(w.t, ev.GuestGone(UUID)))


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
                qs=failed, qt=broken, s=_post(w.s, ev.CopyFailed(UUID, MIG, "stream")), left=left
            ),
        )
    if qs.copy == "device" and qt.copy == "incoming":
        yield (
            "completed without acknowledgement",
            w._replace(
                qs=qs._replace(copy="completed"),
                s=_post(w.s, ev.CopyCompleted(UUID, MIG, _NUMBERS)),
                left=left,
            ),
        )
    if qs.alive:
        broken = qt._replace(copy="broken") if qt.copy == "incoming" and qs.copy != "none" else qt
        yield (
            "source's process exits",
            w._replace(
                qs=Guest(off=qs.off), qt=broken, s=_post(w.s, ev.GuestGone(UUID)), left=left
            ),
        )
    if qt.alive:
        cut = qs.copy in ("active", "paused", "device") and qt.copy == "incoming"
        after = qs._replace(copy="failed", running=not qs.off) if cut else qs
        s = _post(w.s, ev.CopyFailed(UUID, MIG, "peer gone")) if cut else w.s
        t = _post(w.t, ev.GuestGone(UUID))
        yield "target's process exits", w._replace(qs=after, qt=Guest(), s=s, t=t, left=left)


def _guest_faults(w: World) -> Iterator[tuple[str, World]]:
    if w.left.guest and w.qs.running and w.s.row.phase is not source.Phase.NEW:
        left = w.left._replace(guest=w.left.guest - 1)
        off = w.qs._replace(running=False, off=True)
        for news in (ev.GuestPoweredOff(UUID), ev.GuestPanicked(UUID)):
            yield f"guest: {type(news).__name__}", w._replace(qs=off, s=_post(w.s, news), left=left)
        yield "guest reboots", w._replace(s=_post(w.s, ev.GuestRebooted(UUID)), left=left)


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
    side = _book(side._replace(row=_one(row)), effects)
    if found is None and row.live:
        side = _post(side, ev.GuestGone(UUID))
    if w.qs.off:
        side = _post(side, ev.GuestPoweredOff(UUID))
    return w._replace(s=side)


def _restart_t(w: World) -> World:
    side = w.t._replace(up=True)
    if side.row is None:
        return w._replace(t=side)
    found = _found(w.qt, MIG)
    row, effects = target.recover(side.row, found)
    side = _book(side._replace(row=_one(row)), effects)
    if found is None and row.live:
        side = _post(side, ev.GuestGone(UUID))
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
        yield "cancel", _s_step(w._replace(left=left), steps.CancelAsked("cancelled"))
    if w.left.lease and w.t.up and "lease" in w.t.timers and not w.t.effects:
        left = w.left._replace(lease=w.left.lease - 1)
        t = w.t._replace(timers=w.t.timers - {"lease"})
        yield "lease expires", _t_step(w._replace(left=left, t=t), steps.LeaseExpired())
    if w.left.stall and w.s.up and "stall" in w.s.timers and not w.s.effects:
        left = w.left._replace(stall=w.left.stall - 1)
        s = w.s._replace(timers=w.s.timers - {"stall"})
        yield "deadline passes", _s_step(w._replace(left=left, s=s), steps.Stalled())


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
                _s_step(w._replace(s=spent), event)
                if who == "A"
                else _t_step(w._replace(t=spent), event)
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
