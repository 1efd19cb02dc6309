"""Words that the two migration machines share: bookkeeping effects and time-outs as events.

Bookkeeping effects change the inventory in the same durable step as the machine's own record; the
engine applies them, no adapter sees them.
"""

from dataclasses import dataclass

from lodom.core.fsm import Effect, Event

RENEW_S = 5.0
"""The source renews its lease this often (HANDOVER, Time)."""
LEASE_S = 60.0
"""The target gives up after this long without renewal and without a byte on the stream."""
PREPARE_S = 60.0
STALL_S = 60.0
"""The source gives a copy up that has not moved for this long."""
SWITCH_S = 10.0
FINISH_S = 60.0
DOUBT_S = 30.0
"""Machine-wide refusals end, and users hear, this long after the question (HANDOVER, "In doubt").
"""
RESEND_MAX_S = 30.0
RESTORE_TRIES = 5
TRIES_MAX = 6
"""Tries are counted only as far as the pauses grow."""


def pause(tries: int) -> float:
    """Seconds before the next try: 0.5, 1, 2 … 30."""
    return min(0.5 * 2.0**tries, RESEND_MAX_S)


# -- bookkeeping --------------------------------------------------------------------------------


@dataclass(frozen=True)
class LockDomain(Effect):
    """Nobody else may change the domain from here on (R47, R48)."""

    uuid: str


@dataclass(frozen=True)
class Own(Effect):
    """Write the ownership record."""

    uuid: str
    epoch: int
    owner: str


@dataclass(frozen=True)
class UnlockDomain(Effect):
    """The domain is an ordinary domain of the source again.

    ``how``: ``running``; or it must be looked after: ``gone`` (its process died: start it anew),
    ``off`` (the guest powered off), ``panicked``, ``cold`` (it did not run before).
    """

    uuid: str
    how: str


@dataclass(frozen=True)
class ForgetDomain(Effect):
    """The domain, or the shell of it, leaves this machine: release and scrub all it held."""

    uuid: str


@dataclass(frozen=True)
class HoldShell(Effect):
    """Create the shell: bound, flag ``t``, all resources of the migration reserved."""

    uuid: str


@dataclass(frozen=True)
class AdoptShell(Effect):
    """The shell is an ordinary domain of the target.

    ``how``: ``running``, ``gone`` (start it anew from disk), ``off`` or ``panicked`` (its guest
    ended itself meanwhile), or ``cold``.
    """

    uuid: str
    how: str


# -- time-outs and orders -----------------------------------------------------------------------


@dataclass(frozen=True)
class Begun(Event):
    """Start the migration."""


@dataclass(frozen=True)
class CancelAsked(Event):
    """An operator, or the loss of the ``ldm`` that asked, wants the migration to end."""

    reason: str


@dataclass(frozen=True)
class RecoverAsked(Event):
    """An administrator takes the domain back from a target that is lost, or a process that hangs.

    What runs, or might run, is not believed any more: the domain is started anew.
    """


@dataclass(frozen=True)
class DropAsked(Event):
    """An administrator gives the copy here up: another machine is known to have the domain."""


@dataclass(frozen=True)
class LeaseExpired(Event):
    """No sign of life from the source for the length of the lease."""


@dataclass(frozen=True)
class RenewDue(Event):
    """Time for a sign of life."""


@dataclass(frozen=True)
class Stalled(Event):
    """The deadline of the current phase has passed."""


@dataclass(frozen=True)
class ResendDue(Event):
    """Time to repeat the unanswered message or the refused step."""


@dataclass(frozen=True)
class DoubtGrown(Event):
    """No answer for ``DOUBT_S``: of the target after CEDED, or of the process here."""


TIMEOUTS: dict[str, type[Event]] = {
    "lease": LeaseExpired,
    "renew": RenewDue,
    "stall": Stalled,
    "resend": ResendDue,
    "doubt": DoubtGrown,
}
"""Timer names are ``KIND:MIGRATION``."""
