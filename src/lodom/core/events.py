"""What happened, as adapters tell core.  Time and identifiers come in here and nowhere else."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from lodom.core.fsm import Event
from lodom.core.messages import Message
from lodom.core.model.devices import Switch
from lodom.core.model.host import Region


@dataclass(frozen=True)
class CommandGiven(Event):
    """An ``ldm`` command, already parsed by the grammar.

    ``fresh`` carries random material for whatever the command may create: ``uuid``, ``mac``
    (candidates), ``migration``, ``secret``; ``now`` is the wall clock in seconds.  ``heard``: for
    ``recover-domain``, (epoch, owner) of the domain by each machine that says so.  ``same``: for
    volumes, back ends of ours that are the same file or device as the one that is meant.
    """

    request: str
    verb: str
    arguments: Mapping[str, Any]
    fresh: Mapping[str, Any]
    now: int = 0
    heard: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    same: Collection[str] = ()


@dataclass(frozen=True)
class TimerFired(Event):
    """A timer of that name ran out."""

    name: str


@dataclass(frozen=True)
class Scrubbed(Event):
    """The region is proved zero."""

    region: Region


@dataclass(frozen=True)
class SwitchMade(Event):
    """The bridge of the vsw is there; *notes* is what its administrator should know of it."""

    request: str
    name: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SwitchFailed(Event):
    """The bridge could not be made, or changed from what ``old`` is; it is as it was."""

    request: str
    name: str
    reason: str
    old: Switch | None = None


@dataclass(frozen=True)
class SwitchGone(Event):
    """The bridge of a removed vsw is away and its uplink as before; *reason* why not."""

    request: str
    name: str
    reason: str = ""


@dataclass(frozen=True)
class ConsoleOpened(Event):
    """The console port listens."""

    uuid: str
    port: int


@dataclass(frozen=True)
class ConsoleFailed(Event):
    """The port cannot be had."""

    uuid: str
    port: int
    reason: str


@dataclass(frozen=True)
class BackendsChecked(Event):
    """``problems``: (volume, what is wrong), empty when all can be used."""

    uuid: str
    problems: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class GuestLaunched(Event):
    """The process is up, stopped.  ``port``: where it listens for an incoming copy."""

    uuid: str
    pid: int
    started: int
    home: str
    port: int = 0


@dataclass(frozen=True)
class GuestLaunchFailed(Event):
    """The process could not be started; its own words.  Nothing is left of it."""

    uuid: str
    home: str
    reason: str


@dataclass(frozen=True)
class GuestRunning(Event):
    """``RunGuest`` succeeded."""

    uuid: str
    now: int = 0


@dataclass(frozen=True)
class GuestRunFailed(Event):
    """The CPUs do not run; ``paused``: the process was seen paused after its refusal."""

    uuid: str
    reason: str
    paused: bool


@dataclass(frozen=True)
class GuestRefused(Event):
    """The guest could not be asked, or said no."""

    uuid: str
    what: str
    reason: str


@dataclass(frozen=True)
class PanicAnswered(Event):
    """The order to panic was given to the guest; or could not be, for ``reason``."""

    uuid: str
    reason: str = ""


@dataclass(frozen=True)
class GuestUnannounced(Event):
    """The networks could not be told where the guest is: its process did not take the order."""

    uuid: str
    reason: str


@dataclass(frozen=True)
class GuestPoweredOff(Event):
    """The guest switched itself off; its process still stands."""

    uuid: str


@dataclass(frozen=True)
class GuestRebooted(Event):
    """The guest reset itself; ``ended``: the process waits to be replaced (SetRebootAction)."""

    uuid: str
    ended: bool = False
    now: int = 0


@dataclass(frozen=True)
class GuestPanicked(Event):
    """The guest's kernel reported its end."""

    uuid: str


@dataclass(frozen=True)
class AgentChanged(Event):
    """The guest agent began or ceased to answer."""

    uuid: str
    answers: bool


@dataclass(frozen=True)
class GuestGone(Event):
    """The process is proved to be gone (pidfd), and what was made for it is removed.

    ``asker`` as in ``DestroyGuest``, whose answer this is; empty when it ended by itself.
    """

    uuid: str
    asker: str = ""


@dataclass(frozen=True)
class GuestFound(Event):
    """After a restart of ldmd: the process of this domain as it stands.

    ``home`` as in ``Runtime``; ``status`` is one of ``running``, ``paused``, ``shutdown``,
    ``panicked``, ``postmigrate``, ``inmigrate``; ``copy`` is the state of its migration:
    ``none``, ``active``, ``paused`` (before switch-over), ``completed``, ``failed``.
    """

    uuid: str
    pid: int
    started: int
    home: str
    status: str
    copy: str
    places: tuple[str, ...] | None = None
    """Where it has disks and network devices (``disk0``); None if it does not say."""


@dataclass(frozen=True)
class DevicePlugged(Event):
    """The running process has the device; ``taken``: a driver of the guest's system has it too."""

    uuid: str
    place: str
    taken: bool = True


@dataclass(frozen=True)
class DeviceUnplugged(Event):
    """The guest let the device go, asked or not; its volume or tap is free."""

    uuid: str
    place: str


@dataclass(frozen=True)
class DeviceRefused(Event):
    """The device was not plugged, or (``plug`` false) not let go; all is as before."""

    uuid: str
    place: str
    reason: str
    plug: bool


@dataclass(frozen=True)
class VcpusSet(Event):
    """The guest runs on exactly these slots; ``plugged`` is the set of slots that exist now."""

    uuid: str
    vids: tuple[int, ...]
    plugged: tuple[int, ...]


@dataclass(frozen=True)
class VcpusRefused(Event):
    """The change was refused and put back; ``reasons``: (slot, words), slot -1 for all."""

    uuid: str
    reasons: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class CopyProgressed(Event):
    """Numbers of a copy under way: bytes, total, rate, dirty_rate, round (driver's words)."""

    uuid: str
    migration: str
    numbers: Mapping[str, int] = field(hash=False)


@dataclass(frozen=True)
class CopyPaused(Event):
    """The source's guest is stopped before the last bytes (pre-switchover)."""

    uuid: str
    migration: str


@dataclass(frozen=True)
class CopyCompleted(Event):
    """The source's process reports *this* migration completed and the run state postmigrate."""

    uuid: str
    migration: str
    numbers: Mapping[str, int]


@dataclass(frozen=True)
class CopyFailed(Event):
    """The copy ended without completing; the guest may have been resumed by its process."""

    uuid: str
    migration: str
    reason: str


@dataclass(frozen=True)
class CopyCancelled(Event):
    """``CancelCopy`` is done: the process has no migration under way."""

    uuid: str
    migration: str


@dataclass(frozen=True)
class IncomingLoaded(Event):
    """The target's process has completed loading and is paused, never run."""

    uuid: str
    migration: str


@dataclass(frozen=True)
class IncomingFailed(Event):
    """The target's process did not load the guest, or is not paused after it."""

    uuid: str
    migration: str
    reason: str


@dataclass(frozen=True)
class Received(Event):
    """A message of the other machine about a migration."""

    migration: str
    message: Message


@dataclass(frozen=True)
class Unsent(Event):
    """The other machine could not be reached with a message of this migration."""

    migration: str
    reason: str
