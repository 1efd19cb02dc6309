"""The target side of a migration: it answers once, OWNED or REFUSED.

    RESERVED ─► WAITING ─► LOADED ─► OWNED ─► RUNNING ─► ENDED
        │          │          │        │ (cont refused, still paused: cede back)
        └──────────┴────┬─────┴────────┘
                        ▼
                     REFUSED ─► GONE ─► ENDED

OWNED is durable before the guest is set running.  REFUSED is written before the process is killed,
and answered only when it is gone.  The lease competes with everything else in the same row.

Source: HANDOVER.md.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core import messages as msg
from lodom.core.fsm import Effect, Effects, Event, Key, Transition, advance
from lodom.core.migration import steps
from lodom.core.model.domain import Vcpu
from lodom.core.model.guest import GuestSpec


class Phase(StrEnum):
    """Where a target side stands."""

    NEW = "new"
    RESERVED = "reserved"
    WAITING = "waiting"
    LOADED = "loaded"
    OWNED = "owned"
    RUNNING = "running"
    REFUSED = "refused"
    GONE = "gone"
    ENDED = "ended"


UNDECIDED: Final = frozenset({Phase.RESERVED, Phase.WAITING, Phase.LOADED})


@dataclass(frozen=True)
class TargetMigration:
    """One row of the target's journal.  ``epoch`` is the domain's epoch at the source."""

    id: str
    uuid: str
    name: str
    source: str
    source_name: str
    source_key: str
    """Public key that signs the source's messages."""
    target: str
    epoch: int
    live: bool
    streams: int
    vcpus: tuple[Vcpu, ...]
    cpus: tuple[tuple[int, int], ...]
    spec: GuestSpec | None
    grow: bool
    """The guest arrives on one of several strands; the others are brought back here."""
    began: int = 0
    since: int = 0
    """Wall clock of the guest's last start."""
    phase: Phase = Phase.NEW
    port: int = 0
    started: bool = False
    """STARTED: the guest may have run here."""
    gone: bool = False
    restored: bool = False
    confirmed: bool = False
    reason: str = ""
    tries: int = 0


def _timer(m: TargetMigration, kind: str, seconds: float) -> Effect:
    return do.SetTimer(f"{kind}:{m.id}", seconds)


def _send(m: TargetMigration, message: msg.Message) -> Effect:
    return do.Send(m.id, message)


def _lease(m: TargetMigration) -> Effect:
    return _timer(m, "lease", steps.LEASE_S)


def entry(m: TargetMigration) -> Effects:
    """What is to be done in the phase that *m* stands in; safe to repeat after a restart."""
    match m.phase:
        case Phase.RESERVED:
            assert m.spec is not None
            launch = do.LaunchGuest(m.spec, m.id, do.Incoming(m.id, m.streams, ""))
            return (launch, _lease(m))
        case Phase.WAITING:
            return (_send(m, msg.Prepared(m.port)), _lease(m))
        case Phase.LOADED:
            first = msg.Loaded() if m.live else msg.Prepared(0)
            return (_send(m, first), _lease(m))
        case Phase.OWNED:
            run = do.RunGuest(m.uuid, m.epoch + 1)
            return (run, do.CancelTimer(f"lease:{m.id}"))
        case Phase.RUNNING:
            news = (_send(m, msg.Owned()),)
            if m.restored:
                return news
            return (*news, do.AnnounceGuest(m.uuid), do.SetVcpus(m.uuid, m.vcpus, m.cpus))
        case Phase.REFUSED:
            return (do.CancelTimer(f"lease:{m.id}"), do.DestroyGuest(m.uuid, m.id))
        case Phase.GONE:
            return (_send(m, msg.Refused(m.reason)),)
        case _:
            return (do.CancelTimer(f"lease:{m.id}"), do.CancelTimer(f"resend:{m.id}"))


def _to(m: TargetMigration, phase: Phase, *first: Effect) -> tuple[TargetMigration, Effects]:
    after = replace(m, phase=phase, tries=0)
    return after, (*first, *entry(after))


# -- holding ------------------------------------------------------------------------------------


def _begin(m: TargetMigration, _: Event) -> tuple[TargetMigration, Effects]:
    return _to(m, Phase.RESERVED if m.live else Phase.LOADED, steps.HoldShell(m.uuid))


def _launched(m: TargetMigration, event: ev.GuestLaunched) -> tuple[TargetMigration, Effects]:
    return _to(replace(m, port=event.port), Phase.WAITING)


def _renewed(m: TargetMigration, _: Event) -> tuple[TargetMigration, Effects]:
    """A sign of life: the lease starts again, and the source hears where we stand."""
    return m, (_lease(m),) if m.phase is Phase.RESERVED else entry(m)


def _bytes(m: TargetMigration, _: Event) -> tuple[TargetMigration, Effects]:
    return m, (_lease(m),)


def _recheck(m: TargetMigration, _: Event) -> tuple[TargetMigration, Effects]:
    return m, (_send(m, msg.Stands()), _lease(m))


def _loaded(m: TargetMigration, _: Event) -> tuple[TargetMigration, Effects]:
    return _to(m, Phase.LOADED)


# -- yes ----------------------------------------------------------------------------------------


def _ceded(m: TargetMigration, event: msg.Cede) -> tuple[TargetMigration, Effects]:
    if event.epoch != m.epoch + 1:
        return _refuse(replace(m, reason=f"ceded at epoch {event.epoch}, not {m.epoch + 1}"))
    own = steps.Own(m.uuid, m.epoch + 1, m.target)
    if not m.live:
        m = replace(m, restored=True)
        return _to(m, Phase.RUNNING, own, steps.AdoptShell(m.uuid, "cold"))
    return _to(replace(m, started=True), Phase.OWNED, own)


def _running(m: TargetMigration, _: Event) -> tuple[TargetMigration, Effects]:
    m = replace(m, restored=False)
    return _to(m, Phase.RUNNING, steps.AdoptShell(m.uuid, "running"))


def _not_running(m: TargetMigration, event: ev.GuestRunFailed) -> tuple[TargetMigration, Effects]:
    """Ceding back needs proof that it never ran: the same process, still paused after its refusal.

    Anything less counts as may-have-run, and is tried again until it runs or is gone.
    """
    if event.paused:
        own = steps.Own(m.uuid, m.epoch + 2, m.source)
        after, effects = _refuse(replace(m, started=False, reason=event.reason))
        return after, (own, *effects)
    return m, (_timer(m, "resend", steps.pause(m.tries)),)


def _again(m: TargetMigration, _: Event) -> tuple[TargetMigration, Effects]:
    m = replace(m, tries=min(m.tries + 1, steps.TRIES_MAX))
    if m.phase is Phase.OWNED:
        return m, (do.RunGuest(m.uuid, m.epoch + 1),)
    if m.restored:  # the domain has left again meanwhile
        return m, ()
    return m, (do.SetVcpus(m.uuid, m.vcpus, m.cpus),)


def _died_owned(m: TargetMigration, _: Event) -> tuple[TargetMigration, Effects]:
    """It may have run: the owner starts it anew from disk."""
    m = replace(m, gone=True, restored=True)
    return _to(m, Phase.RUNNING, steps.AdoptShell(m.uuid, "gone"))


def _ended_owned(m: TargetMigration, event: Event) -> tuple[TargetMigration, Effects]:
    """It ran, and its guest ended itself before ldmd knew: no ``cont`` would ever succeed again."""
    adopt = steps.AdoptShell(m.uuid, _END[type(event)])
    return _to(replace(m, restored=True), Phase.RUNNING, adopt)


_END: Final[dict[type[Event], str]] = {ev.GuestPoweredOff: "off", ev.GuestPanicked: "panicked"}


def _repeat(m: TargetMigration, _: Event) -> tuple[TargetMigration, Effects]:
    return m, (_send(m, msg.Owned()),)


def _restored(m: TargetMigration, _: Event) -> tuple[TargetMigration, Effects]:
    return _maybe_end(replace(m, restored=True))


def _not_restored(m: TargetMigration, _: Event) -> tuple[TargetMigration, Effects]:
    if m.tries + 1 >= steps.RESTORE_TRIES:
        return _maybe_end(replace(m, restored=True))
    return m, (_timer(m, "resend", steps.pause(m.tries)),)


def _died_running(m: TargetMigration, _: Event) -> tuple[TargetMigration, Effects]:
    """An ordinary domain already: the engine looks after it; no strand is left to restore."""
    return _maybe_end(replace(m, restored=True))


def _confirmed(m: TargetMigration, _: Event) -> tuple[TargetMigration, Effects]:
    after, effects = _maybe_end(replace(m, confirmed=True))
    return after, (*effects, _send(m, msg.Closed()))


def _maybe_end(m: TargetMigration) -> tuple[TargetMigration, Effects]:
    if m.confirmed and m.restored:
        return _to(m, Phase.ENDED)
    return m, ()


# -- no -----------------------------------------------------------------------------------------

_WORDS: Final[dict[type[Event], str]] = {
    steps.LeaseExpired: f"the source was silent for {steps.LEASE_S:.0f} s",
    ev.GuestGone: "the target's process died (see its qemu.log there)",
    msg.Cede: "the domain was ceded before it was loaded",
    msg.Confirm: "the source has ended this migration already",
}


def _refuse_on(m: TargetMigration, event: Event) -> tuple[TargetMigration, Effects]:
    reason = _WORDS.get(type(event)) or str(getattr(event, "reason", ""))
    return _refuse(replace(m, reason=reason))


def _refuse(m: TargetMigration) -> tuple[TargetMigration, Effects]:
    if not m.live:
        return _to(m, Phase.GONE, steps.ForgetDomain(m.uuid))
    return _to(m, Phase.REFUSED)


def _gone(m: TargetMigration, _: Event) -> tuple[TargetMigration, Effects]:
    return _to(m, Phase.GONE, steps.ForgetDomain(m.uuid))


def _say_no(m: TargetMigration, _: Event) -> tuple[TargetMigration, Effects]:
    return m, entry(m)


def _noted(m: TargetMigration, _: Event) -> tuple[TargetMigration, Effects]:
    after, effects = _to(m, Phase.ENDED)
    return after, (*effects, _send(m, msg.Closed()))


# -- after a restart of ldmd --------------------------------------------------------------------


def recover(m: TargetMigration, found: ev.GuestFound | None) -> tuple[TargetMigration, Effects]:
    """Go on after a restart, from what the journal and the process say.

    A process that still waits for its state, or has it and is paused, is kept; the lease starts
    again.  A process that is gone is answered by ``GuestGone`` from the engine.
    """
    if m.phase is Phase.RESERVED:
        return _refuse(replace(m, reason="ldmd was restarted on the target"))
    if m.phase is Phase.WAITING and m.live:
        ours = found is not None and found.home == m.id
        if ours and found is not None and found.status == "paused" and found.copy == "completed":
            return _to(m, Phase.LOADED)
        if not ours:
            return _refuse(replace(m, reason="the target's process did not outlive a restart"))
        return m, (_lease(m),)
    if m.phase is Phase.LOADED and m.live and (found is None or found.home != m.id):
        return _refuse(replace(m, reason="the target's process did not outlive a restart"))
    return m, entry(m)


def step(m: TargetMigration, event: Event) -> tuple[TargetMigration, Effects]:
    """The machine after *event*, and what is to be done.

    That an earlier copy of the domain is destroyed says nothing about the process of this one;
    that it is stopped here does once it runs here, and its next start brings all strands back.

    Raises:
        UnexpectedEvent: the event cannot come in this phase.
    """
    ours = ("", m.id, do.HOME) if m.phase is Phase.RUNNING else ("", m.id)
    if isinstance(event, ev.GuestGone) and event.asker not in ours:
        return m, ()
    return advance(TRANSITIONS, LATE, m, event)


def _row(*to: Phase, by: Any) -> Transition[TargetMigration]:
    return Transition(by, frozenset(to))


_NO: Final = (Phase.REFUSED, Phase.GONE)

_CAUSES: Final[tuple[type[Event], ...]] = (
    msg.Abort,
    msg.Confirm,
    steps.LeaseExpired,
    ev.GuestGone,
    ev.IncomingFailed,
)

TRANSITIONS: Final[dict[Key, Transition[TargetMigration]]] = {
    (Phase.NEW, steps.Begun): _row(Phase.RESERVED, Phase.LOADED, by=_begin),
    (Phase.RESERVED, ev.GuestLaunched): _row(Phase.WAITING, by=_launched),
    (Phase.RESERVED, ev.GuestLaunchFailed): _row(*_NO, by=_refuse_on),
    (Phase.WAITING, ev.CopyProgressed): _row(Phase.WAITING, by=_bytes),
    (Phase.WAITING, msg.Recheck): _row(Phase.WAITING, by=_recheck),
    (Phase.WAITING, msg.Reserve): _row(Phase.WAITING, by=_renewed),
    (Phase.WAITING, ev.IncomingLoaded): _row(Phase.LOADED, by=_loaded),
    (Phase.WAITING, msg.Cede): _row(*_NO, by=_refuse_on),
    (Phase.RESERVED, msg.Cede): _row(*_NO, by=_refuse_on),
    (Phase.LOADED, msg.Reserve): _row(Phase.LOADED, by=_renewed),
    (Phase.LOADED, msg.Recheck): _row(Phase.LOADED, by=_recheck),
    (Phase.LOADED, msg.Cede): _row(Phase.OWNED, Phase.RUNNING, *_NO, by=_ceded),
    **{(phase, msg.Renew): _row(phase, by=_renewed) for phase in UNDECIDED},
    **{(phase, cause): _row(*_NO, by=_refuse_on) for phase in UNDECIDED for cause in _CAUSES},
    (Phase.OWNED, ev.GuestRunning): _row(Phase.RUNNING, by=_running),
    (Phase.OWNED, ev.GuestRunFailed): _row(Phase.OWNED, Phase.REFUSED, by=_not_running),
    (Phase.OWNED, ev.GuestGone): _row(Phase.RUNNING, by=_died_owned),
    **{(Phase.OWNED, end): _row(Phase.RUNNING, by=_ended_owned) for end in _END},
    (Phase.OWNED, steps.ResendDue): _row(Phase.OWNED, by=_again),
    (Phase.RUNNING, msg.Cede): _row(Phase.RUNNING, by=_repeat),
    (Phase.RUNNING, ev.VcpusSet): _row(Phase.RUNNING, Phase.ENDED, by=_restored),
    (Phase.RUNNING, ev.VcpusRefused): _row(Phase.RUNNING, Phase.ENDED, by=_not_restored),
    (Phase.RUNNING, steps.ResendDue): _row(Phase.RUNNING, by=_again),
    (Phase.RUNNING, ev.GuestGone): _row(Phase.RUNNING, Phase.ENDED, by=_died_running),
    (Phase.RUNNING, msg.Confirm): _row(Phase.RUNNING, Phase.ENDED, by=_confirmed),
    (Phase.REFUSED, ev.GuestGone): _row(Phase.GONE, by=_gone),
    **{
        (Phase.GONE, ask): _row(Phase.GONE, by=_say_no)
        for ask in (msg.Cede, msg.Abort, msg.Renew, msg.Recheck, msg.Reserve)
    },
    (Phase.GONE, msg.Confirm): _row(Phase.ENDED, by=_noted),
}

_ASKS: Final[tuple[type[Event], ...]] = (msg.Reserve, msg.Renew, msg.Recheck, msg.Cede)
_TICKS: Final[tuple[type[Event], ...]] = tuple(steps.TIMEOUTS.values())
_NEWS: Final[tuple[type[Event], ...]] = (
    ev.CopyProgressed,
    ev.IncomingLoaded,
    ev.IncomingFailed,
    ev.GuestLaunched,
    ev.GuestLaunchFailed,
    ev.GuestRunning,
    ev.GuestRunFailed,
    ev.GuestRebooted,
    ev.GuestPoweredOff,
    ev.GuestPanicked,
    ev.VcpusSet,
    ev.VcpusRefused,
    ev.Unsent,
)

# Questions repeated while the answer is on its way, time-outs that lost the race: no effect.
# Not in it on purpose: Abort once OWNED (a source that ceded never aborts), Confirm of OWNED before
# it was answered.  Confirm of what a late Reserve began anew is a cause to refuse.
LATE: Final[frozenset[Key]] = frozenset(
    {(phase, event) for phase in Phase for event in (*_ASKS, *_TICKS, *_NEWS)}
    | {(Phase.REFUSED, m) for m in (msg.Abort, msg.Confirm)}
    | {(p, ev.GuestGone) for p in (Phase.GONE, Phase.ENDED)}
) - frozenset(TRANSITIONS)
