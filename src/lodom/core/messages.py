"""What two ldmds say to each other about a migration.  The words; the protocol is core.migration.

Every message names its migration (in the envelope) and is safe to receive twice, late or never.
Only the source connects: what the target says waits in a mailbox that the source reads.
"""

from dataclasses import dataclass

from lodom.core.fsm import Event


@dataclass(frozen=True)
class Message(Event):
    """Base of all messages."""


# -- from source to target ----------------------------------------------------------------------


@dataclass(frozen=True)
class Reserve(Message):
    """Hold room for this domain and start a process that waits for its state (prepare).

    ``domain`` is the domain's facts as the rules saw them (``core.rules.case``), encoded as JSON.
    """

    uuid: str
    name: str
    target_name: str
    live: bool
    epoch: int
    source: str
    """Instance id of the source."""
    source_name: str
    streams: int
    domain: str


@dataclass(frozen=True)
class Renew(Message):
    """The source is alive and goes on; the target repeats where it stands.

    ``total`` and ``remaining``: bytes of the copy, which only the source knows.
    """

    total: int = 0
    remaining: int = 0


@dataclass(frozen=True)
class Recheck(Message):
    """The guest is stopped before its last bytes: does the reservation still stand?"""


@dataclass(frozen=True)
class Cede(Message):
    """The target owns the domain at ``epoch``; the source will never run it below that."""

    epoch: int


@dataclass(frozen=True)
class Abort(Message):
    """The source has given up; the target's copy must go."""

    reason: str


@dataclass(frozen=True)
class Confirm(Message):
    """The source has destroyed its copy, or taken note of the refusal: nothing is left to ask."""


# -- from target to source ----------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared(Message):
    """All is held; the process listens at ``port`` (0 for a domain that does not run)."""

    port: int


@dataclass(frozen=True)
class Stands(Message):
    """The reservation stands (answer to Recheck)."""


@dataclass(frozen=True)
class Loaded(Message):
    """The process has completed loading and is stopped, never run."""


@dataclass(frozen=True)
class Owned(Message):
    """The one final answer yes: the target runs the domain."""


@dataclass(frozen=True)
class Refused(Message):
    """The one final answer no: the target's copy is gone and will never run."""

    reason: str


@dataclass(frozen=True)
class Closed(Message):
    """The target has noted Confirm, and forgotten the migration."""


@dataclass(frozen=True)
class Unknown(Message):
    """The target has no record of this migration: neither yes nor no."""
