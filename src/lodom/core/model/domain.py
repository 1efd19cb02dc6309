"""A logical domain: what was asked (constraints) apart from what was given (bindings)."""

from dataclasses import dataclass, field
from enum import StrEnum

from lodom.core.model.devices import BoundConsole, Console, Vdisk, Vnet

PRIMARY = "primary"


class State(StrEnum):
    """The states a user sees (``ldm list``)."""

    INACTIVE = "inactive"
    BINDING = "binding"
    BOUND = "bound"
    STARTING = "starting"
    ACTIVE = "active"
    STOPPING = "stopping"
    UNBINDING = "unbinding"
    SUSPENDED = "suspended"


@dataclass(frozen=True)
class Constraints:
    """What the administrator asked for.  Sizes in bytes."""

    vcpu: int = 0
    memory: int = 0
    mau: int = 0
    vdisks: tuple[Vdisk, ...] = ()
    vnets: tuple[Vnet, ...] = ()
    console: Console = field(default_factory=Console)
    io: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    failure_policy: str = "ignore"
    masters: tuple[str, ...] = ()

    def variable(self, name: str) -> str:
        """The value of a variable, empty when unset."""
        return dict(self.variables).get(name, "")


@dataclass(frozen=True, order=True)
class Block:
    """A memory block: real address, physical address, size in bytes."""

    ra: int
    pa: int
    size: int


@dataclass(frozen=True, order=True)
class Vcpu:
    """Virtual CPU ``vid`` of a domain on strand ``pid`` of the machine."""

    vid: int
    pid: int


@dataclass(frozen=True)
class Platform:
    """What the guest sees of its machine; fixed at its first start, kept until unbound."""

    machine_type: str
    cpu_model: str
    max_vcpus: int


@dataclass(frozen=True)
class Bindings:
    """What a bound domain was given."""

    vcpus: tuple[Vcpu, ...] = ()
    blocks: tuple[Block, ...] = ()
    crypto: tuple[int, ...] = ()
    console: BoundConsole | None = None
    held: tuple[int, ...] = ()
    """Strands that nobody may have until this domain reboots (R06)."""
    cpu_dr_off: bool = False
    """R07: the domain arrived by migration and has not been rebooted since."""
    platform: Platform | None = None
    io: tuple[str, ...] = ()
    """I/O buses, by name."""


@dataclass(frozen=True)
class Runtime:
    """The hypervisor process of a domain and what is plugged into it."""

    pid: int
    started: int
    """Start time of the process in clock ticks since boot: (pid, started) names it for ever."""
    home: str
    """``home``, or the id of the migration that it was launched for."""
    boot_vcpus: int
    plugged: tuple[int, ...]
    """Virtual CPUs that exist in the process, ascending; those without a strand are parked."""
    online: tuple[int, ...] = ()
    """Virtual CPUs that the guest runs on now; fewer than its strands during a migration."""
    crypto_ports: int = 0
    """Ports for crypto devices; more than its units when it arrived where too few were free."""
    disk_ports: int = 0
    """Ports for disks, from index 0, used or not.  0: an earlier release started the process, with
    ports only for what it had then; nothing can be plugged."""
    nic_ports: int = 0


@dataclass(frozen=True)
class Domain:
    """One domain of this machine."""

    uuid: str
    name: str
    mac: str
    state: State = State.INACTIVE
    constraints: Constraints = field(default_factory=Constraints)
    bindings: Bindings | None = None
    runtime: Runtime | None = None
    agent: bool = False
    """The guest agent answers: flag ``n`` instead of ``t``."""
    running_since: int = 0
    """Wall clock, seconds, at the last start of the guest; 0 when not active."""
    migration: str = ""
    """Id of the migration that holds this domain locked."""
    storage_differs: bool = False
    restart: bool = False
    """When its process is gone it is started anew (reboot with something to do, panic, crash)."""
    deaths: int = 0
    """Unexpected ends in a row without the guest coming up in between."""
    hostid: int = 0
    halted: bool = False
    """It ran when the guests were stopped because the host goes down (``lifecycle.halt``)."""

    @property
    def control(self) -> bool:
        """This is the control domain."""
        return self.name == PRIMARY

    @property
    def bound(self) -> Bindings:
        """The bindings of a domain that has some."""
        assert self.bindings is not None, self.name
        return self.bindings
