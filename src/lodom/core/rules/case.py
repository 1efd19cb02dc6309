"""What the rules look at: facts of the domain, of the source and of the target.

Plain frozen values that travel between two ldmds as JSON.  The source makes ``DomainFacts`` and
``SourceFacts``; the target makes ``TargetFacts`` and judges.  Sizes in bytes, frequencies in Hz.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lodom.core.model.domain import Block, Constraints, Platform, Vcpu
from lodom.core.model.host import MAX_BLOCKS, RA_BASE, Hypervisor, Region


@dataclass(frozen=True)
class BackendFacts:
    """A volume's back end as one machine sees it; empty values are unknown."""

    kind: str = ""
    """``file``, ``block`` or ``url``."""
    size: int = 0
    ids: tuple[str, ...] = ()
    """Identities, the kind first: ``naa.…``, ``eui.…`` (SCSI, NVMe), ``uuid.…`` (NVMe)."""
    file_system: str = ""
    """Identity of the file system that holds a file, or of a logical volume."""
    direct: bool = True
    """Opened past the host's page cache."""
    problem: str = ""
    """Why it cannot be used."""
    replaced: str = ""
    """On the source: why it is not what the running domain reads and writes."""
    handshake: bool = False
    """On the target: the source's lock was seen, and seen to go."""
    layers: tuple["BackendFacts", ...] = ()
    """The images below a qcow2 image, nearest first."""


@dataclass(frozen=True)
class DiskFacts:
    """A disk of the domain."""

    name: str
    service: str
    volume: str
    options: tuple[str, ...] = ()
    mpgroup: str = ""
    boot: bool = False
    backend: BackendFacts = field(default_factory=BackendFacts)


@dataclass(frozen=True)
class NicFacts:
    """A network device of the domain, its MTU as it holds, whether its switch has an uplink.

    ``pvid`` 0 is the switch's default VLAN: as good as no VLAN.
    """

    name: str
    switch: str
    mac: str
    pvid: int = 0
    vids: tuple[int, ...] = ()
    mtu: int = 1500
    mode: str = ""
    uplink: bool = False


@dataclass(frozen=True)
class LanFacts:
    """What a machine knows of one VLAN of a switch; ``vlan`` 0 is the switch's default one."""

    vlan: int = 0
    addresses: tuple[str, ...] = ()
    """The machine's own, each with the length of its prefix; no link-local ones."""
    neighbours: Mapping[str, str] = field(default_factory=dict)
    """IP address to MAC address."""


@dataclass(frozen=True)
class NetworkFacts:
    """What a machine knows of the network of a switch without asking it; empty values: nothing."""

    macs: tuple[str, ...] = ()
    """The machine's own on this network, the bridge's first."""
    heard: tuple[str, ...] = ()
    """Senders of frames that the bridge has forwarded of late."""
    tags: tuple[int, ...] = ()
    """VLANs that its uplinks are in on the wire."""
    lans: tuple[LanFacts, ...] = ()
    mtu: int = 0
    """Of the bridge as it is now; 0: not known."""


@dataclass(frozen=True)
class AgentFacts:
    """What the guest says through its agent."""

    answers: bool = False
    cpu_dr: bool = False
    """It can take CPUs off line."""
    bindings_known: bool = False
    """It allows a look at who is bound to which CPU."""
    bound: tuple[tuple[int, int], ...] = ()
    """(CPU that would go, number of user threads bound to it), kernel threads not counted."""
    emptied_sets: tuple[str, ...] = ()
    """Processor sets that would lose their last CPU."""


@dataclass(frozen=True)
class FileFacts:
    """A file that the guest boots from directly: ``what`` is ``kernel`` or ``initrd``."""

    what: str
    path: str
    digest: str = ""
    """Empty: there is no such file."""


@dataclass(frozen=True)
class DomainFacts:
    """The domain that moves: enough to judge it, and to make its shell on the target."""

    uuid: str
    name: str
    target_name: str
    state: str
    mac: str = ""
    hostid: int = 0
    control: bool = False
    services: tuple[str, ...] = ()
    """Names of the virtual I/O services that it gives."""
    constraints: Constraints = field(default_factory=Constraints)
    vcpus: tuple[Vcpu, ...] = ()
    boot_vcpus: int = 0
    plugged: tuple[int, ...] = ()
    blocks: tuple[Block, ...] = ()
    crypto: int = 0
    """Crypto units bound."""
    crypto_ports: int = 0
    disk_ports: int = 0
    nic_ports: int = 0
    io: tuple[str, ...] = ()
    """I/O buses that it has."""
    direct: tuple[str, ...] = ()
    """Virtual devices that reach a physical device directly."""
    platform: Platform | None = None
    disks: tuple[DiskFacts, ...] = ()
    nics: tuple[NicFacts, ...] = ()
    firmware: str = "bios"
    files: tuple[FileFacts, ...] = ()
    agent: AgentFacts = field(default_factory=AgentFacts)
    locked_by: str = ""
    """The operation that holds the domain; empty if none."""
    storage_differs: bool = False

    @property
    def strands(self) -> int:
        """Strands in use: bound ones, or for an inactive domain those asked for."""
        return len(self.vcpus) or self.constraints.vcpu


@dataclass(frozen=True)
class MigrationFacts:
    """A migration under way that still bars others on its machine (R49)."""

    domain: str
    role: str
    """``source`` or ``target``."""
    peer: str


@dataclass(frozen=True)
class MachineFacts:
    """What both machines say of themselves."""

    name: str
    instance: str
    processor: str
    frequency_hz: int | None
    page: int
    ra_base: int = RA_BASE
    max_blocks: int = MAX_BLOCKS
    rules: str = "1.2"
    strict: bool = False
    vlans: bool = False
    protocols: tuple[int, ...] = ()
    hypervisor: Hypervisor = field(default_factory=Hypervisor)
    delayed: bool = False
    """A delayed reconfiguration is active."""
    migrations: tuple[MigrationFacts, ...] = ()
    primary_crypto: int = 0


@dataclass(frozen=True)
class SourceFacts:
    """The machine on which the migration starts; epoch and owner are its record of the domain."""

    machine: MachineFacts
    epoch: int = 0
    owner: str = ""
    networks: Mapping[str, NetworkFacts] = field(default_factory=dict)
    """By switch; missing: nothing known, or an older release."""


@dataclass(frozen=True)
class CoreFacts:
    """A core of the target: how many strands it has, which of them are free."""

    id: int
    strands: tuple[int, ...]
    free: tuple[int, ...]


@dataclass(frozen=True)
class UseFacts:
    """Memory of the target that is not free: ``kind`` is ``domain``, ``dirty`` or ``reserved``."""

    region: Region
    owner: str
    kind: str = "domain"


@dataclass(frozen=True)
class VolumeFacts:
    """A volume that the target exports; ``user`` is the domain that has it."""

    service: str
    volume: str
    options: tuple[str, ...] = ()
    mpgroup: str = ""
    user: str = ""
    backend: BackendFacts = field(default_factory=BackendFacts)


@dataclass(frozen=True)
class SwitchFacts:
    """A switch of the target."""

    name: str
    mtu: int = 1500
    uplink: bool = False


@dataclass(frozen=True)
class ConsoleFacts:
    """The first concentrator of the target's control domain; no name: there is none."""

    vcc: str = ""
    low: int = 0
    high: int = 0
    free: int = 0


@dataclass(frozen=True)
class TargetFacts:
    """The machine that the domain goes to, as it stands for this domain.

    What the target knows of the same UUID from an old configuration is left out of names, groups,
    MACs and volumes' users; ``known_state`` tells in what state that is.
    """

    machine: MachineFacts
    epoch: int = 0
    owner: str = ""
    known_state: str = ""
    cores: tuple[CoreFacts, ...] = ()
    regions: tuple[Region, ...] = ()
    free: tuple[Region, ...] = ()
    used: tuple[UseFacts, ...] = ()
    crypto_free: int = 0
    """Free crypto units of the cores in which the domain would get its strands."""
    disk_servers: tuple[str, ...] = ()
    volumes: tuple[VolumeFacts, ...] = ()
    switches: tuple[SwitchFacts, ...] = ()
    networks: Mapping[str, NetworkFacts] = field(default_factory=dict)
    """By switch."""
    console: ConsoleFacts = field(default_factory=ConsoleFacts)
    groups: tuple[str, ...] = ()
    macs: Mapping[str, str] = field(default_factory=dict)
    """MAC in normal form to who has it."""
    names: tuple[str, ...] = ()
    files: tuple[FileFacts, ...] = ()
    boots_without: str = ""
    """The configuration that the next boot restores, if this domain is not in it."""


_KINDS: Mapping[str, str] = {
    "inactive": "inactive",
    "bound": "bound",
    "binding": "bound",
    "unbinding": "bound",
}


def release(source: MachineFacts, target: MachineFacts) -> str:
    """The rule set that holds between two machines: 1.2 unless both say 3.x."""
    return "3.x" if {source.rules, target.rules} == {"3.x"} else "1.2"


@dataclass(frozen=True)
class Case:
    """One migration to judge.  ``force`` is the user's ``-f``."""

    domain: DomainFacts
    source: SourceFacts
    target: TargetFacts
    force: bool = False

    @property
    def kind(self) -> str:
        """Which set of rules the domain's state asks for: ``active``, ``bound``, ``inactive``."""
        return _KINDS.get(self.domain.state, "active")

    @property
    def release(self) -> str:
        """The rule set that both machines' come to."""
        return release(self.source.machine, self.target.machine)

    @property
    def strict(self) -> bool:
        """One of the machines wants to know for certain."""
        return self.source.machine.strict or self.target.machine.strict
