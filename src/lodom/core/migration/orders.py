"""What begins a migration: effects that gather facts on both machines, events that bring them."""

from collections.abc import Mapping
from dataclasses import dataclass

from lodom.core.errors import LodomError
from lodom.core.fsm import Effect, Event
from lodom.core.messages import Reserve
from lodom.core.rules.case import BackendFacts, DomainFacts, FileFacts, SourceFacts
from lodom.core.rules.form import Finding


@dataclass(frozen=True)
class CheckTarget(Effect):
    """Phase check: gather the domain's facts, ask the target to judge: ``TargetChecked``.

    Nothing changes anywhere.  The password travels beside the effect, not in it.  Without a user
    this machine's certificate is to be trusted there.
    """

    request: str
    uuid: str
    host: str
    user: str
    target_name: str
    force: bool
    dry_run: bool


@dataclass(frozen=True)
class TargetChecked(Event):
    """Both machines' findings; ``domain`` is the JSON of the facts that were judged."""

    request: str
    uuid: str
    migration: str
    findings: tuple[Finding, ...]
    target: str
    target_machine: str
    host: str
    port: int
    target_name: str
    streams: int
    domain: str
    dry_run: bool
    drawing: str = ""
    """The target's memory map, when the memory does not fit."""
    rules: str = "1.2"
    """The set of rules that both machines were judged by."""
    now: int = 0


@dataclass(frozen=True)
class CheckFailed(Event):
    """The target could not be asked."""

    request: str
    error: LodomError


@dataclass(frozen=True)
class ReserveAsked(Event):
    """A source asks to reserve; the facts of its message decoded, this host's looked up.

    ``key`` is the public key that signs the source's messages.
    """

    migration: str
    message: Reserve
    key: str
    domain: DomainFacts
    source: SourceFacts
    backends: Mapping[str, BackendFacts]
    """By ``volume@service``."""
    files: tuple[FileFacts, ...]
    since: int = 0
    """Wall clock of the guest's last start, kept over the move."""
    force: bool = False
    now: int = 0


@dataclass(frozen=True)
class RequestLost(Event):
    """The client of *request* is gone without detaching: what it started is cancelled."""

    request: str
