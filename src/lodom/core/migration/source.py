"""The source side of a migration: who gives the domain away, and when exactly.

    PREPARING ► SHRINKING ► COPYING ► SWITCHING ► FINISHING ► CEDED ► CLEANING ► CONFIRMING ► ENDED
        └───────────┴──────────┴────┬─────┴───────────┘         │ Refused: epoch + 2
                                 ABORTED ──────────────────► RESUMING ► RESTORING ► RELEASED ► ENDED

Exactly one of ABORTED and CEDED is ever written (HANDOVER, "Giving up").  CEDED needs three facts
together: this copy completed with the process postmigrate (``completed``), the target's LOADED
(``loaded``), and neither withdrawn.  ABORTED is durable before the guest is set running again.
Every phase has its ``entry`` effects, so that a restart of ldmd re-issues them.

Source: HANDOVER.md; Admin Guide 1.2, "Overview of the migration operation".
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


class Phase(StrEnum):
    """Where a source side stands."""

    NEW = "new"
    PREPARING = "preparing"
    SHRINKING = "shrinking"
    COPYING = "copying"
    SWITCHING = "switching"
    FINISHING = "finishing"
    CEDED = "ceded"
    CLEANING = "cleaning"
    CONFIRMING = "confirming"
    ABORTED = "aborted"
    RESUMING = "resuming"
    RESTORING = "restoring"
    RELEASED = "released"
    ENDED = "ended"


BEFORE_CEDED: Final = frozenset(
    {Phase.PREPARING, Phase.SHRINKING, Phase.COPYING, Phase.SWITCHING, Phase.FINISHING}
)
"""Cancel works here, and only here."""

_WAITING: Final = frozenset({Phase.CEDED, Phase.CLEANING, Phase.ABORTED, Phase.RESUMING})
"""On the target's word, or on a process here that may hang."""


@dataclass(frozen=True)
class SourceMigration:
    """One row of the source's journal.  ``epoch`` is the domain's epoch when it began."""

    id: str
    uuid: str
    name: str
    target_name: str
    source: str
    source_name: str
    target: str
    host: str
    peer_port: int
    epoch: int
    live: bool
    streams: int
    vcpus: tuple[Vcpu, ...]
    """All strands of the domain; the copy runs on the first (1.2 rules)."""
    cpus: tuple[tuple[int, int], ...]
    shrink: bool
    domain: str
    """The domain's facts for the target, as JSON; opaque here."""
    began: int = 0
    warnings: tuple[str, ...] = ()
    phase: Phase = Phase.NEW
    copy_port: int = 0
    moved: bool = False
    """The copy has begun to flow."""
    completed: bool = False
    loaded: bool = False
    refused: bool = False
    unknown: bool = False
    """The target says, after CEDED, that it does not know this migration (reinstalled?)."""
    taken_back: bool = False
    """The target refused after CEDED; this machine owns the domain again, at epoch + 2."""
    anew: bool = False
    """Taken back although the target may have run it: its disks may be newer than our copy."""
    gone: bool = False
    """Its process died on the way."""
    guest_end: str = ""
    """``off`` or ``panicked``: the guest ended itself on the way."""
    reason: str = ""
    doubt: bool = False
    tries: int = 0

    @property
    def epoch_here(self) -> int:
        """The epoch at which this machine is the owner."""
        return self.epoch + 2 if self.taken_back else self.epoch

    @property
    def shrunk(self) -> bool:
        """The copy was made on one of several strands."""
        return self.live and self.shrink and len(self.vcpus) > 1


def _timer(m: SourceMigration, kind: str, seconds: float) -> Effect:
    return do.SetTimer(f"{kind}:{m.id}", seconds)


def _stop_timers(m: SourceMigration, *kinds: str) -> Effects:
    return tuple(do.CancelTimer(f"{kind}:{m.id}") for kind in kinds)


def _send(m: SourceMigration, message: msg.Message) -> Effect:
    return do.Send(m.id, message)


def entry(m: SourceMigration) -> Effects:
    """What is to be done in the phase that *m* stands in; safe to repeat after a restart."""
    match m.phase:
        case Phase.PREPARING:
            request = msg.Reserve(
                uuid=m.uuid,
                name=m.name,
                target_name=m.target_name,
                live=m.live,
                epoch=m.epoch,
                source=m.source,
                source_name=m.source_name,
                streams=m.streams,
                domain=m.domain,
            )
            renew, stall = ("renew", steps.RENEW_S), ("stall", steps.PREPARE_S)
            return (_send(m, request), _timer(m, *renew), _timer(m, *stall))
        case Phase.SHRINKING:
            shrink = do.SetVcpus(m.uuid, m.vcpus[:1], m.cpus)
            return (shrink, _timer(m, "stall", steps.PREPARE_S))
        case Phase.COPYING:
            copy = do.StartCopy(m.uuid, m.id, m.host, m.copy_port, m.streams, "")
            return (copy, _timer(m, "stall", steps.STALL_S))
        case Phase.SWITCHING:
            deadline = _timer(m, "stall", steps.SWITCH_S)
            return (_send(m, msg.Recheck()), _timer(m, "renew", 1.0), deadline)
        case Phase.FINISHING:
            return (do.FinishCopy(m.uuid, m.id), _timer(m, "stall", steps.FINISH_S))
        case Phase.CEDED:
            return (
                _send(m, msg.Cede(m.epoch + 1)),
                *_stop_timers(m, "renew", "stall"),
                _timer(m, "resend", steps.pause(m.tries)),
            )
        case Phase.CLEANING:
            return (*_stop_timers(m, "resend"), do.DestroyGuest(m.uuid, m.id))
        case Phase.CONFIRMING:
            return (_send(m, msg.Confirm()), _timer(m, "resend", steps.pause(m.tries)))
        case Phase.ABORTED:
            return (
                do.CancelCopy(m.uuid, m.id, m.copy_port),
                _send(m, msg.Abort(m.reason)),
                *_stop_timers(m, "renew", "stall"),
            )
        case Phase.RESUMING:
            run = do.RunGuest(m.uuid, m.epoch_here)
            act = do.DestroyGuest(m.uuid, m.id) if m.anew else run
            return (*_stop_timers(m, "resend"), act)
        case Phase.RESTORING:
            return (do.SetVcpus(m.uuid, m.vcpus, m.cpus),)
        case Phase.RELEASED:
            decided = m.refused or (m.anew and m.taken_back)
            last = msg.Confirm() if decided else msg.Abort(m.reason)
            return (_send(m, last), _timer(m, "resend", steps.pause(m.tries)))
        case _:
            return _stop_timers(m, *steps.TIMEOUTS)


def _to(m: SourceMigration, phase: Phase, *first: Effect) -> tuple[SourceMigration, Effects]:
    after = replace(m, phase=phase, tries=0, doubt=False)
    return after, (*first, *entry(after), *_patience(after))


def _patience(m: SourceMigration) -> Effects:
    """How long the target's word, or the process here, is waited for before the users hear."""
    late = 0.0 if m.doubt else steps.DOUBT_S
    return (_timer(m, "doubt", late),) if m.phase in _WAITING else ()


# -- the way there ------------------------------------------------------------------------------


def _begin(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    return _to(m, Phase.PREPARING, steps.LockDomain(m.uuid))


def _prepared(m: SourceMigration, event: msg.Prepared) -> tuple[SourceMigration, Effects]:
    m = replace(m, copy_port=event.port)
    if not m.live:
        return _cede(m)
    return _to(m, Phase.SHRINKING if m.shrunk else Phase.COPYING)


def _shrunk(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    return _to(m, Phase.COPYING)


def _paused(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    return _to(m, Phase.SWITCHING)


def _stands(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    return _to(m, Phase.FINISHING)


def _moved(m: SourceMigration, event: ev.CopyProgressed) -> tuple[SourceMigration, Effects]:
    """Bytes still flow: the deadline of the copy starts again."""
    m = replace(m, moved=m.moved or event.numbers.get("transferred", 0) > 0)
    return m, (_timer(m, "stall", steps.STALL_S),)


def _completed(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    m = replace(m, completed=True)
    return _cede(m) if m.loaded else (m, ())


def _loaded(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    m = replace(m, loaded=True)
    return _cede(m) if m.completed else (m, ())


def _cede(m: SourceMigration) -> tuple[SourceMigration, Effects]:
    assert not m.live or (m.completed and m.loaded), "CEDED needs all its facts"
    return _to(m, Phase.CEDED, steps.Own(m.uuid, m.epoch + 1, m.target))


def _renew(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    """A sign of life; at switch-over, where the guest stands still, it comes often and asks."""
    if m.phase is Phase.SWITCHING:
        return m, (_send(m, msg.Recheck()), _timer(m, "renew", 1.0))
    again = 1.0 if m.phase is Phase.FINISHING else steps.RENEW_S
    return m, (_send(m, msg.Renew()), _timer(m, "renew", again))


# -- after CEDED --------------------------------------------------------------------------------


def _again(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    """Repeat the unanswered message, or the step that failed, more and more slowly."""
    m = replace(m, tries=min(m.tries + 1, steps.TRIES_MAX))
    if m.phase is Phase.CEDED:
        return m, (_send(m, msg.Cede(m.epoch + 1)), _timer(m, "resend", steps.pause(m.tries)))
    return m, entry(m)


def _doubt(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    return replace(m, doubt=True), ()


def _not_known(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    """Neither yes nor no: noted for ``recover-domain``, and asked again."""
    return replace(m, unknown=True), ()


def _recovered(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    """The administrator vouches that the target does not and will not run the domain.

    It may have run there: memory of before and disks of after would spoil each other, so the copy
    here is destroyed and the domain started anew.
    """
    return _take_back(replace(m, anew=True, reason="taken back by recover-domain"))


def _owned(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    if not m.live:
        return _to(m, Phase.CONFIRMING, steps.ForgetDomain(m.uuid))
    return _to(m, Phase.CLEANING)


def _destroyed(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    return _to(m, Phase.CONFIRMING, steps.ForgetDomain(m.uuid))


def _refused_late(m: SourceMigration, event: msg.Refused) -> tuple[SourceMigration, Effects]:
    return _take_back(replace(m, refused=True, reason=event.reason))


def _take_back(m: SourceMigration) -> tuple[SourceMigration, Effects]:
    m = replace(m, taken_back=True)
    own = steps.Own(m.uuid, m.epoch + 2, m.source)
    if not m.live or m.gone:
        return _release(m, own)
    return _to(m, Phase.RESUMING, own)


def _died_in_doubt(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    return replace(m, gone=True), ()


# -- giving up ----------------------------------------------------------------------------------

_WORDS: Final[dict[type[Event], str]] = {
    msg.Unknown: "the target does not know this migration any more",
    ev.GuestGone: "the domain's process died (see its qemu.log); it is started here anew",
    ev.GuestPoweredOff: "the guest powered off",
    ev.GuestPanicked: "the guest panicked",
}

_STALLED: Final[dict[Phase, str]] = {
    Phase.PREPARING: f"the target was not ready within {steps.PREPARE_S:.0f} s",
    Phase.SHRINKING: f"the guest did not give up its CPUs within {steps.PREPARE_S:.0f} s",
    Phase.COPYING: f"the copy did not move for {steps.STALL_S:.0f} s",
    Phase.SWITCHING: f"the target did not answer within {steps.SWITCH_S:.0f} s at switch-over",
    Phase.FINISHING: f"the last bytes were not acknowledged within {steps.FINISH_S:.0f} s",
}


def _why(m: SourceMigration, event: Event) -> str:
    if isinstance(event, steps.Stalled):
        return _STALLED[m.phase]
    if isinstance(event, ev.VcpusRefused):
        return "; ".join(text for _, text in event.reasons)
    return _WORDS.get(type(event)) or str(getattr(event, "reason", ""))


def _abort(m: SourceMigration, event: Event) -> tuple[SourceMigration, Effects]:
    m = replace(m, reason=_why(m, event), refused=m.refused or isinstance(event, msg.Refused))
    if isinstance(event, ev.GuestPoweredOff | ev.GuestPanicked):
        m = replace(m, guest_end=_END[type(event)])
    if isinstance(event, ev.GuestGone):
        m = replace(m, gone=True)
    if not m.live or m.gone:
        return _release(m, *_stop_timers(m, "renew", "stall"))
    return _to(m, Phase.ABORTED)


_END: Final[dict[type[Event], str]] = {ev.GuestPoweredOff: "off", ev.GuestPanicked: "panicked"}


def _not_reached(m: SourceMigration, event: ev.Unsent) -> tuple[SourceMigration, Effects]:
    """The target cannot be told; a copy that flows all the same goes on, and shows by itself."""
    return (m, ()) if m.moved else _abort(m, event)


def _note_end(m: SourceMigration, event: Event) -> tuple[SourceMigration, Effects]:
    m = replace(m, guest_end=_END[type(event)])
    return (m, ()) if m.phase is Phase.ABORTED else _release(m)


def _note_refused(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    return replace(m, refused=True), ()


def _cancelled(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    return _release(m) if m.guest_end else _to(m, Phase.RESUMING)


def _died(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    return _release(replace(m, gone=True))


def _hangs(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    """The administrator gives up waiting for the process: it is ended, the domain started anew."""
    return _to(replace(m, anew=True), Phase.RESUMING)


def _running(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    if m.anew:
        return m, ()  # by an order of before: it is being ended
    return _to(m, Phase.RESTORING) if m.shrunk else _release(m)


def _not_running(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    return m, (_timer(m, "resend", steps.pause(m.tries)),)


def _restored(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    return _release(m)


def _not_restored(m: SourceMigration, event: ev.VcpusRefused) -> tuple[SourceMigration, Effects]:
    if m.tries + 1 >= steps.RESTORE_TRIES:
        return _release(replace(m, reason=f"{m.reason}; {_why(m, event)}"))
    return m, (_timer(m, "resend", steps.pause(m.tries)),)


def _release(m: SourceMigration, *first: Effect) -> tuple[SourceMigration, Effects]:
    how = "gone" if m.gone else m.guest_end or "running"
    return _to(m, Phase.RELEASED, *first, steps.UnlockDomain(m.uuid, how if m.live else "cold"))


def _refusal_noted(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    return _to(replace(m, refused=True), Phase.RELEASED)


def _end(m: SourceMigration, _: Event) -> tuple[SourceMigration, Effects]:
    return _to(m, Phase.ENDED)


# -- after a restart of ldmd --------------------------------------------------------------------


def recover(m: SourceMigration, found: ev.GuestFound | None) -> tuple[SourceMigration, Effects]:
    """Go on after a restart, from what the journal and the process say.

    Before CEDED it goes on only while the process says that this copy is under way; in every
    other case ABORTED is written.
    """
    if m.phase in BEFORE_CEDED:
        copy = found.copy if found else "none"
        if m.phase in (Phase.COPYING, Phase.FINISHING) and copy == "active":
            beat = (_timer(m, "renew", 0.0), _timer(m, "stall", steps.STALL_S))
            return m, beat
        if m.phase in (Phase.COPYING, Phase.SWITCHING) and copy == "paused":
            return _to(m, Phase.SWITCHING)
        return _abort(m, steps.CancelAsked("ldmd was restarted on the source"))
    return m, (*entry(m), *_patience(m))


def step(m: SourceMigration, event: Event) -> tuple[SourceMigration, Effects]:
    """The machine after *event*, and what is to be done.

    Raises:
        UnexpectedEvent: the event cannot come in this phase.
    """
    return advance(TRANSITIONS, LATE, m, event)


def _row(*to: Phase, by: Any) -> Transition[SourceMigration]:
    return Transition(by, frozenset(to))


_ABORTED: Final = (Phase.ABORTED, Phase.RELEASED)

_CAUSES: Final[tuple[type[Event], ...]] = (
    msg.Refused,
    msg.Unknown,
    steps.CancelAsked,
    steps.Stalled,
    ev.GuestGone,
    ev.GuestPoweredOff,
    ev.GuestPanicked,
    ev.CopyFailed,
)

TRANSITIONS: Final[dict[Key, Transition[SourceMigration]]] = {
    (Phase.NEW, steps.Begun): _row(Phase.PREPARING, by=_begin),
    (Phase.PREPARING, msg.Prepared): _row(
        Phase.SHRINKING, Phase.COPYING, Phase.CEDED, by=_prepared
    ),
    **{
        (phase, ev.Unsent): _row(phase, *_ABORTED, by=_not_reached)
        for phase in (Phase.PREPARING, Phase.SHRINKING, Phase.COPYING)
    },
    (Phase.SHRINKING, ev.VcpusSet): _row(Phase.COPYING, by=_shrunk),
    (Phase.SHRINKING, ev.VcpusRefused): _row(*_ABORTED, by=_abort),
    (Phase.COPYING, ev.CopyProgressed): _row(Phase.COPYING, by=_moved),
    (Phase.COPYING, ev.CopyPaused): _row(Phase.SWITCHING, by=_paused),
    (Phase.SWITCHING, msg.Stands): _row(Phase.FINISHING, by=_stands),
    (Phase.FINISHING, ev.CopyCompleted): _row(Phase.FINISHING, Phase.CEDED, by=_completed),
    (Phase.FINISHING, msg.Loaded): _row(Phase.FINISHING, Phase.CEDED, by=_loaded),
    **{(phase, steps.RenewDue): _row(phase, by=_renew) for phase in BEFORE_CEDED},
    **{(phase, cause): _row(*_ABORTED, by=_abort) for phase in BEFORE_CEDED for cause in _CAUSES},
    (Phase.CEDED, steps.ResendDue): _row(Phase.CEDED, by=_again),
    **{(phase, steps.DoubtGrown): _row(phase, by=_doubt) for phase in _WAITING},
    (Phase.CEDED, msg.Owned): _row(Phase.CLEANING, Phase.CONFIRMING, by=_owned),
    (Phase.CEDED, steps.DropAsked): _row(Phase.CLEANING, Phase.CONFIRMING, by=_owned),
    (Phase.CEDED, msg.Refused): _row(Phase.RESUMING, Phase.RELEASED, by=_refused_late),
    (Phase.CEDED, msg.Unknown): _row(Phase.CEDED, by=_not_known),
    (Phase.CEDED, steps.RecoverAsked): _row(Phase.RESUMING, Phase.RELEASED, by=_recovered),
    (Phase.CEDED, ev.GuestGone): _row(Phase.CEDED, by=_died_in_doubt),
    (Phase.CLEANING, ev.GuestGone): _row(Phase.CONFIRMING, by=_destroyed),
    (Phase.CONFIRMING, steps.ResendDue): _row(Phase.CONFIRMING, by=_again),
    **{(Phase.CONFIRMING, bye): _row(Phase.ENDED, by=_end) for bye in (msg.Closed, msg.Unknown)},
    **{
        (phase, steps.RecoverAsked): _row(Phase.RESUMING, by=_hangs)
        for phase in (Phase.ABORTED, Phase.RESUMING)
    },
    (Phase.ABORTED, ev.CopyCancelled): _row(Phase.RESUMING, Phase.RELEASED, by=_cancelled),
    (Phase.ABORTED, msg.Refused): _row(Phase.ABORTED, by=_note_refused),
    (Phase.RESUMING, ev.GuestRunning): _row(
        Phase.RESUMING, Phase.RESTORING, Phase.RELEASED, by=_running
    ),
    (Phase.RESUMING, ev.GuestRunFailed): _row(Phase.RESUMING, by=_not_running),
    (Phase.RESUMING, steps.ResendDue): _row(Phase.RESUMING, by=_again),
    (Phase.RESUMING, msg.Refused): _row(Phase.RESUMING, by=_note_refused),
    (Phase.RESTORING, ev.VcpusSet): _row(Phase.RELEASED, by=_restored),
    (Phase.RESTORING, ev.VcpusRefused): _row(Phase.RESTORING, Phase.RELEASED, by=_not_restored),
    (Phase.RESTORING, steps.ResendDue): _row(Phase.RESTORING, by=_again),
    (Phase.RESTORING, msg.Refused): _row(Phase.RESTORING, by=_note_refused),
    **{
        (phase, end): _row(phase, Phase.RELEASED, by=_note_end)
        for phase in (Phase.ABORTED, Phase.RESUMING, Phase.RESTORING)
        for end in _END
    },
    **{
        (phase, ev.GuestGone): _row(Phase.RELEASED, by=_died)
        for phase in (Phase.ABORTED, Phase.RESUMING, Phase.RESTORING)
    },
    (Phase.RELEASED, steps.ResendDue): _row(Phase.RELEASED, by=_again),
    (Phase.RELEASED, msg.Refused): _row(Phase.RELEASED, by=_refusal_noted),
    (Phase.RELEASED, msg.Closed): _row(Phase.ENDED, by=_end),
    (Phase.RELEASED, msg.Unknown): _row(Phase.ENDED, by=_end),
}

_ANSWERS: Final[tuple[type[Event], ...]] = (msg.Prepared, msg.Stands, msg.Loaded)
_COPY: Final[tuple[type[Event], ...]] = (
    ev.CopyProgressed,
    ev.CopyPaused,
    ev.CopyCompleted,
    ev.CopyFailed,
    ev.CopyCancelled,
)
_TICKS: Final[tuple[type[Event], ...]] = tuple(steps.TIMEOUTS.values())
_GUEST: Final[tuple[type[Event], ...]] = (
    ev.GuestRunning,
    ev.GuestRunFailed,
    ev.VcpusSet,
    ev.VcpusRefused,
    ev.GuestPoweredOff,
    ev.GuestPanicked,
)

# Repeated answers, time-outs that lost the race, news of a copy that was given up: no effect.
# Not in it on purpose: Owned before CEDED or after ABORTED, and Refused after Owned; these would
# mean two owners, and raise.
LATE: Final[frozenset[Key]] = frozenset(
    {
        (phase, event)
        for phase in Phase
        for event in (*_ANSWERS, *_COPY, *_TICKS, *_GUEST, ev.Unsent, ev.GuestRebooted, msg.Closed)
    }
    | {(p, msg.Unknown) for p in (Phase.CLEANING, Phase.ENDED)}
    | {(p, msg.Unknown) for p in (Phase.ABORTED, Phase.RESUMING, Phase.RESTORING)}
    | {(p, msg.Owned) for p in (Phase.CLEANING, Phase.CONFIRMING)}
    | {(p, msg.Refused) for p in (Phase.ENDED,)}
    | {(p, ev.GuestGone) for p in (Phase.CONFIRMING, Phase.RELEASED, Phase.ENDED)}
) - frozenset(TRANSITIONS)
