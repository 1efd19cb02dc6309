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

from collections.abc import Iterator
from dataclasses import replace
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
    side = Side(row, own=Ownership(UUID, 1, SRC))
    w = World(side, Side(None, present=False), qs, Guest(), left=budget or Budget())
    return s_step(w, steps.Begun())


def _fresh_target(request: msg.Reserve) -> target.TargetMigration:
    spec = GuestSpec(UUID, "g", Platform("q35", "max", 2), 2, (0, 1), (), ())
    return target.TargetMigration(
        id=MIG, uuid=UUID, name="g", source=request.source, source_name="a", source_key="",
        target=TGT, epoch=request.epoch, live=request.live, streams=2, vcpus=VCPUS, cpus=(),
        spec=spec if request.live else None, grow=True,
    )  # fmt: skip


# -- a daemon's step ----------------------------------------------------------------------------


def essence(row: Any) -> Any:
    """The row without what decides nothing: worlds that differ only in it are one.

    Texts; why the guest ended; how often something was tried where tries only lengthen a pause;
    notes for the operator; facts that are not asked for any more.
    """
    tries = row.tries if row.phase in (source.Phase.RESTORING, target.Phase.RUNNING) else 0
    row = replace(row, reason="", tries=tries)
    if isinstance(row, target.TargetMigration):
        return replace(row, gone=False)
    row = replace(row, unknown=False, doubt=False, guest_end="off" if row.guest_end else "")
    if row.phase is not source.Phase.COPYING:
        row = replace(row, moved=False)
    if row.phase not in source.BEFORE_CEDED:
        row = replace(row, completed=False, loaded=False)
    if row.phase in _LET_GO:
        row = replace(row, gone=False, guest_end="", taken_back=False)
    return row


_LET_GO = (source.Phase.RELEASED, source.Phase.ENDED)


def untold(e: Effect) -> Effect:
    """The effect without texts."""
    if isinstance(e, do.Send) and isinstance(e.message, msg.Abort | msg.Refused):
        return do.Send(e.migration, type(e.message)(""))
    return e


def book(side: Side, effects: tuple[Effect, ...]) -> Side:
    """Apply the bookkeeping of one step; the rest waits to be carried out.

    Timers are set at once: they touch nothing else, and a crash forgets them either way, so states
    that differ only in a timer not yet set lead nowhere new.  That of doubt only writes a note.
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
                side = side._replace(timers=side.timers | ({name.partition(":")[0]} - {"doubt"}))
            case do.CancelTimer(name):
                side = side._replace(timers=side.timers - {name.partition(":")[0]})
            case do.AnnounceGuest():
                pass
            case _:
                rest.append(untold(e))
    return side._replace(effects=side.effects + tuple(rest))


def s_step(w: World, event: Event) -> World:
    """The source's daemon handles one event."""
    side = w.s
    if isinstance(event, ev.GuestGone) and not side.held and side.present and not w.qs.off:
        side = side._replace(anew=True)  # an ordinary domain died: the engine starts it anew
    if side.row.phase is source.Phase.ENDED:
        return w._replace(s=side)  # the engine has dropped the row
    row, effects = source.step(side.row, event)
    ceded = row.phase is source.Phase.CEDED and side.row.phase is not source.Phase.CEDED
    if ceded and row.live and not w.loaded:
        raise Violated("ceded before the target had the guest")
    return w._replace(s=book(side._replace(row=essence(row)), effects))


def t_step(w: World, event: Event) -> World:
    """The target's daemon handles one event."""
    if isinstance(event, ev.GuestGone) and not w.t.held and w.t.present:
        w = w._replace(t=w.t._replace(anew=True))
    row = w.t.row
    if row is None or row.phase is target.Phase.ENDED:
        if not isinstance(event, msg.Message):
            return w
        ledger = {UUID: w.t.own} if w.t.own else {}
        if not isinstance(event, msg.Reserve) or stale(ledger, UUID, event.epoch, event.source):
            return w._replace(t=book(w.t, (do.Send(MIG, msg.Unknown()),)))
        row, event = _fresh_target(event), steps.Begun()  # the engine forgets an ended row
    row, effects = target.step(row, event)
    return w._replace(t=book(w.t._replace(row=essence(row)), effects))


# -- carrying out one effect --------------------------------------------------------------------


def post(side: Side, *events: Event) -> Side:
    """News for a daemon; one that is down hears nothing."""
    return side._replace(events=side.events + events) if side.up else side


Ways = Iterator[tuple[str, World]]
"""What went wrong, nothing as a rule, and the world that follows."""


def s_effect(w: World, e: Effect) -> Ways:  # noqa: C901 - one match, one line a word
    """The worlds that one effect of the source can lead to."""
    q = w.qs
    match e:
        case do.Send(_, message):
            if w.t.up:
                yield "", w._replace(to_t=(*w.to_t, message))
            else:  # nobody listens
                yield "", w._replace(s=post(w.s, ev.Unsent(MIG, "connection refused")))
        case do.SetVcpus(_, vcpus, _):
            vids = tuple(v.vid for v in vcpus)
            if not q.alive:
                yield "", w._replace(s=post(w.s, ev.VcpusRefused(UUID, ((-1, "gone"),))))
                return
            done = ev.VcpusSet(UUID, vids, (0, 1))
            all_strands = len(vids) == len(VCPUS)
            yield "", w._replace(s=post(w.s, done), qs=q._replace(all_strands=all_strands))
            if w.left.guest:
                left = w.left._replace(guest=w.left.guest - 1)
                no = ev.VcpusRefused(UUID, ((1, "cpu has bound thread"),))
                yield "guest keeps its CPU", w._replace(s=post(w.s, no), left=left)
        case do.StartCopy():
            if q.alive and w.qt.alive and w.qt.copy == "incoming" and not q.off:
                flows = ev.CopyProgressed(UUID, MIG, {"transferred": 1})
                yield "", w._replace(s=post(w.s, flows), qs=q._replace(copy="active"))
            else:
                yield "", w._replace(s=post(w.s, ev.CopyFailed(UUID, MIG, "no listener")))
        case do.FinishCopy():
            if q.copy == "paused":
                yield "", w._replace(qs=q._replace(copy="device"))
            else:
                yield "", w._replace(s=post(w.s, ev.CopyFailed(UUID, MIG, "not paused")))
        case do.CancelCopy():
            running = q.running or (q.copy in ("paused", "device") and q.alive)
            broken = w.qt._replace(copy="broken") if w.qt.copy == "incoming" else w.qt
            copy = q.copy if q.copy == "completed" else "none"
            after = w._replace(
                s=post(w.s, ev.CopyCancelled(UUID, MIG)),
                qs=q._replace(copy=copy, running=running),
                qt=broken if q.copy in ("active", "paused", "device") else w.qt,
            )
            yield "", after
        case do.RunGuest(_, epoch):
            ledger = {UUID: w.s.own} if w.s.own else {}
            if not may_run(ledger, UUID, epoch, SRC):
                yield "", w._replace(s=post(w.s, ev.GuestRunFailed(UUID, "not the owner", True)))
            elif not q.alive or q.off:
                yield "", w._replace(s=post(w.s, ev.GuestRunFailed(UUID, "gone", False)))
            else:
                yield (
                    "",
                    w._replace(s=post(w.s, ev.GuestRunning(UUID)), qs=q._replace(running=True)),
                )
        case do.DestroyGuest():
            yield "", w._replace(s=post(w.s, ev.GuestGone(UUID, MIG)), qs=Guest())
        case _:
            yield "", w


def t_effect(w: World, e: Effect) -> Ways:
    """The worlds that one effect of the target can lead to."""
    q = w.qt
    match e:
        case do.Send(_, message):
            if isinstance(message, msg.Refused) and q.alive:
                raise Violated("refused while its process lives")
            yield "", w._replace(to_s=(*w.to_s, message)) if w.s.up else w
        case do.LaunchGuest():
            up = Guest(alive=True, copy="incoming")
            yield "", w._replace(t=post(w.t, ev.GuestLaunched(UUID, 1, 1, MIG, 7)), qt=up)
            if w.left.process:
                left = w.left._replace(process=w.left.process - 1)
                no = ev.GuestLaunchFailed(UUID, MIG, "no")
                yield "launch fails", w._replace(t=post(w.t, no), left=left)
        case do.RunGuest(_, epoch):
            ledger = {UUID: w.t.own} if w.t.own else {}
            if not may_run(ledger, UUID, epoch, TGT):
                yield "", w._replace(t=post(w.t, ev.GuestRunFailed(UUID, "not the owner", True)))
                return
            if not q.alive or q.off:
                yield "", w._replace(t=post(w.t, ev.GuestRunFailed(UUID, "gone", False)))
                return
            ran = q._replace(running=True, copy="ran")
            yield "", w._replace(t=post(w.t, ev.GuestRunning(UUID)), qt=ran, ran=True)
            if w.left.process and q.copy == "loaded":
                left = w.left._replace(process=w.left.process - 1)
                cannot = ev.GuestRunFailed(UUID, "Failed to get write lock", True)
                yield "cont fails, paused", w._replace(t=post(w.t, cannot), left=left)
                t = post(w.t, ev.GuestRunFailed(UUID, "no answer in time", False))
                yield "cont unanswered, runs", w._replace(t=t, qt=ran, ran=True, left=left)
                yield "cont unanswered, paused", w._replace(t=t, left=left)
        case do.SetVcpus():
            if not q.alive or q.off:
                yield "", w._replace(t=post(w.t, ev.VcpusRefused(UUID, ((-1, "gone"),))))
                return
            done = ev.VcpusSet(UUID, (0, 1), (0, 1))
            yield "", w._replace(t=post(w.t, done), qt=q._replace(all_strands=True))
        case do.DestroyGuest():
            yield "", w._replace(t=post(w.t, ev.GuestGone(UUID, MIG)), qt=Guest())
        case _:
            yield "", w
