"""What core wants done.  An adapter carries each out and answers with events (``core.events``).

Effects of one step are carried out in order, after the step's records are durable.  An effect is
safe to repeat: after a restart ldmd issues again what it cannot know to be done.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lodom.core.errors import LodomError
from lodom.core.fsm import Effect
from lodom.core.messages import Message
from lodom.core.model.devices import Switch
from lodom.core.model.domain import Vcpu
from lodom.core.model.guest import GuestDisk, GuestNic, GuestSpec
from lodom.core.model.host import Region

# -- towards the user ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply(Effect):
    """The command of *request* has ended well."""

    request: str
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fail(Effect):
    """The command of *request* has ended with an error."""

    request: str
    error: LodomError


@dataclass(frozen=True)
class Report(Effect):
    """Progress of a long command, numbers only; the client words it."""

    request: str
    progress: Mapping[str, Any]


@dataclass(frozen=True)
class Settle(Effect):
    """Whoever waits for *key* gets his answer; nothing if nobody does.  Handled by the engine."""

    key: str
    error: LodomError | None = None
    say: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)


# -- time ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SetTimer(Effect):
    """Answer ``TimerFired(name)`` after *seconds* on the boot clock; replaces one of that name."""

    name: str
    seconds: float


@dataclass(frozen=True)
class CancelTimer(Effect):
    """Forget the timer."""

    name: str


# -- the host -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scrub(Effect):
    """Zero the region in the pool and prove it: ``Scrubbed``."""

    region: Region


@dataclass(frozen=True)
class MakeSwitch(Effect):
    """A bridge for a vsw, with its uplink: ``SwitchMade`` or ``SwitchFailed``."""

    request: str
    name: str
    net_dev: str
    mtu: int
    mac: str
    old: Switch | None = None
    """The switch as it was, where one is changed."""


@dataclass(frozen=True)
class RemoveSwitch(Effect):
    """Take the bridge away, if ldmd made it: ``SwitchGone``."""

    request: str
    name: str


@dataclass(frozen=True)
class OpenConsole(Effect):
    """Listen on the console port: ``ConsoleOpened`` or ``ConsoleFailed``."""

    uuid: str
    group: str
    name: str
    port: int


@dataclass(frozen=True)
class CloseConsole(Effect):
    """Stop listening for this domain."""

    uuid: str


@dataclass(frozen=True)
class CheckBackends(Effect):
    """See that each back end exists, can be opened and is free: ``BackendsChecked``."""

    uuid: str
    backends: tuple[tuple[str, str, bool], ...]
    """(volume as the user names it, back end, read-only)."""


# -- the hypervisor -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Incoming:
    """How a launched guest gets its state from another machine."""

    migration: str
    streams: int
    secret: str = field(repr=False)
    """Fresh pre-shared key, hexadecimal, for this one migration; kept in memory only."""
    address: str = ""
    """Local address to listen on; the port is the driver's choice."""


HOME: Final = "home"
"""Whose process it is that no migration brought, and who ends one that none asked to end."""


@dataclass(frozen=True)
class LaunchGuest(Effect):
    """Start the hypervisor process, stopped: ``GuestLaunched`` or ``GuestLaunchFailed``.

    On failure the adapter has removed all that it made.
    """

    spec: GuestSpec
    home: str = HOME
    incoming: Incoming | None = None


@dataclass(frozen=True)
class RunGuest(Effect):
    """Set the guest's CPUs running: the only way that they ever run.

    The adapter re-reads the journal first and needs (epoch, this machine) as the owner there at
    the highest epoch.  ``GuestRunning`` or ``GuestRunFailed``.
    """

    uuid: str
    epoch: int


@dataclass(frozen=True)
class AnnounceGuest(Effect):
    """Tell the networks where the guest's MACs are now; ``GuestUnannounced`` if it cannot."""

    uuid: str


@dataclass(frozen=True)
class ShutDownGuest(Effect):
    """Ask the guest's system to power off; it answers by ``GuestPoweredOff`` in its own time.

    ``GuestRefused(what="shutdown")`` if it cannot be asked.
    """

    uuid: str
    button: bool = False
    """Press the power button of a guest whose agent does not answer."""


@dataclass(frozen=True)
class PanicGuest(Effect):
    """Have the guest's kernel end itself: ``PanicAnswered``; the panic is news of its own."""

    uuid: str


@dataclass(frozen=True)
class DestroyGuest(Effect):
    """End the process and remove what was made for it: ``GuestGone``, also when there was none.

    ``asker``: the migration that wants it, or ``HOME``; the answer names it.
    """

    uuid: str
    asker: str = HOME


@dataclass(frozen=True)
class SetVcpus(Effect):
    """Make exactly *vcpus* the running CPUs of the guest, each pinned to its strand.

    Adds slots, brings CPUs on line or off line through the agent, pins the threads; parked slots
    share the strands of the others.  ``VcpusSet`` or ``VcpusRefused`` (then all is as before).
    """

    uuid: str
    vcpus: tuple[Vcpu, ...]
    cpus: tuple[tuple[int, int], ...]
    """(strand, host CPU)."""


@dataclass(frozen=True)
class PlugDevice(Effect):
    """Give a running guest a disk or network device: ``DevicePlugged`` or ``DeviceRefused``.

    On failure nothing is left of it.
    """

    uuid: str
    device: GuestDisk | GuestNic
    firmware: str = "bios"


@dataclass(frozen=True)
class UnplugDevice(Effect):
    """Take a device from a running guest, and what is behind it from its process.

    ``DeviceUnplugged``, also when there was none; ``DeviceRefused`` when the guest keeps it.
    """

    uuid: str
    place: str
    """``disk3``, ``nic0``: class and index."""
    force: bool = False
    """Do not ask the guest whether it uses the device."""


@dataclass(frozen=True)
class SetRebootAction(Effect):
    """Whether a guest's reboot ends its process (``stop``) or is only a reset."""

    uuid: str
    stop: bool


@dataclass(frozen=True)
class StartCopy(Effect):
    """Begin the live copy to the target; ends in ``CopyPaused`` before the last bytes."""

    uuid: str
    migration: str
    host: str
    port: int
    streams: int
    secret: str = field(repr=False)


@dataclass(frozen=True)
class FinishCopy(Effect):
    """From ``CopyPaused``: send the last bytes; ends in ``CopyCompleted``."""

    uuid: str
    migration: str


@dataclass(frozen=True)
class CancelCopy(Effect):
    """Give the copy up: ``CopyCancelled`` when the process has no migration any more.

    ``port``: where the copy goes on the target, 0 if it never began.
    """

    uuid: str
    migration: str
    port: int = 0


# -- the peer -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Send(Effect):
    """One message of a migration to the other machine; may be lost, repeated or overtaken."""

    migration: str
    message: Message
