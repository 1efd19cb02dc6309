"""machine.toml: what a machine is (DESIGN, section 4).  Every value has a default of the host's."""

# ruff: noqa: RUF009 - key(), table() and tables() make a dataclass field each

import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lodom.core.model.host import MAX_MEMORY, RA_BASE, Bus, CryptoUnit, Machine, Region, Strand
from lodom.core.units import MIB, format_size
from lodom.daemon import toml, values
from lodom.daemon.toml import Source, key, table, tables
from lodom.host import pci, pool, topology
from lodom.host.probe import vfio
from lodom.host.topology import Cpu

PATH = Path("/etc/lodom/machine.toml")
PORT = 6482
EMULATED_THREADS = 8
"""Strands of an emulated core unless told: as an UltraSPARC T2 has."""

# -- values -------------------------------------------------------------------------------------


def _ra_base(value: Any) -> int:
    """Blocks are laid out by their order, not by RA, so this needs to fit no page."""
    if (address := values.address(value)) % MIB:
        raise ValueError("must be a multiple of 1M (0x100000)")
    if address + MAX_MEMORY > values.ADDRESSES:
        raise ValueError(f"must leave room for {format_size(MAX_MEMORY)}")
    return address


def _uplinks(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("must be a table: switch = device")
    return {switch: values.text(device) for switch, device in value.items()}


# -- sections -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class MachineSection:
    """[machine].  None: read off the host."""

    name: str | None = key(values.auto(values.text), None)
    processor: str | None = key(values.auto(values.text), None)
    frequency: int | None = key(values.auto(values.hertz), None)
    """Hz."""
    accelerator: str = key(values.one_of("auto", "kvm", "tcg"), "auto")
    tcg_threads: str = key(values.one_of("auto", "single", "multi"), "auto")
    """Software emulation with one thread in all or one a virtual CPU; auto: what QEMU does well."""
    ra_base: int = key(_ra_base, RA_BASE)
    state_dir: Path = key(values.path, Path("/var/lib/lodom"))
    run_dir: Path = key(values.path, Path("/run/lodom"))
    log_dir: Path = key(values.path, Path("/var/log/lodom"))


@dataclass(frozen=True)
class StrandsSection:
    """[strands].  *cores* counts emulated cores; None: as many as the host's."""

    cpus: tuple[int, ...] | None = key(values.auto(values.cpu_list), None)
    threads_per_core: int | None = key(values.auto(values.number(1, 64)), None)
    cores: int | None = key(values.auto(values.number(1, 1024)), None)
    emulated: bool = key(values.truth, False)


@dataclass(frozen=True)
class RegionTable:
    """[[memory.region]]."""

    base: int | None = key(values.address, None)
    size: int | None = key(values.size, None)


@dataclass(frozen=True)
class MemorySection:
    """[memory].  *directory* (on a tmpfs or hugetlbfs) replaces the pool's own mount."""

    size: int | None = key(values.auto(values.size), None)
    base: int = key(values.address, 0)
    backing: str | None = key(values.auto(values.one_of(*pool.PAGES)), None)
    directory: Path | None = key(values.auto(values.path), None)
    region: tuple[RegionTable, ...] = tables(RegionTable)


@dataclass(frozen=True)
class CryptoSection:
    """[crypto]."""

    units: int | None = key(values.auto(values.number(0)), None)


@dataclass(frozen=True)
class BusTable:
    """[[io.bus]]."""

    name: str = key(values.text, "")
    pseudonym: str = key(values.text, "")


@dataclass(frozen=True)
class IoSection:
    """[io]; no bus declared: those of the host."""

    bus: tuple[BusTable, ...] = tables(BusTable)


@dataclass(frozen=True)
class NetworkSection:
    """[network]: the device behind each switch that is added without ``net-dev``."""

    uplinks: dict[str, str] = field(default_factory=dict, metadata={"read": _uplinks})


@dataclass(frozen=True)
class MigrationSection:
    """[migration].  Empty addresses: every address, and for the stream the one of the request."""

    rules: str = key(values.one_of("1.2", "3.x"), "1.2")
    strict: bool = key(values.truth, False)
    address: str = key(values.ip, "")
    port: int = key(values.number(1, 65535), PORT)
    stream_address: str = key(values.ip, "")


@dataclass(frozen=True)
class ConsolesSection:
    """[consoles]: where console ports listen."""

    listen: str = key(values.ip, "127.0.0.1")


@dataclass(frozen=True)
class Role:
    """Who has a role."""

    users: tuple[str, ...] = key(values.names, ())
    groups: tuple[str, ...] = key(values.names, ())


@dataclass(frozen=True)
class AuthSection:
    """[auth].  root has both roles always; ``write`` includes ``read``."""

    backend: str = key(values.one_of("pam", "file"), "pam")
    users: Path = key(values.path, Path("/etc/lodom/users"))
    """The file of users and password hashes of backend "file"."""
    certificates: bool = key(values.truth, False)
    """A machine whose certificate was accepted here may migrate to this one without a password
    (``migrate-domain -c``).  Off by default: to accept a target is not to let it in."""
    read: Role = table(Role)
    write: Role = table(Role)


@dataclass(frozen=True)
class ApiSection:
    """[api]; *socket* None: ``ldmd.sock`` in the run directory."""

    socket: Path | None = key(values.auto(values.path), None)


@dataclass(frozen=True)
class LogSection:
    """[log].  ``auto``: JSON, but text on a terminal."""

    format: str = key(values.one_of("auto", "json", "text"), "auto")


@dataclass(frozen=True)
class MetricsSection:
    """[metrics].  *listen*: "127.0.0.1:9482" serves ``/metrics`` there too, to whoever asks."""

    listen: tuple[str, int] | None = key(values.endpoint, None)


@dataclass(frozen=True)
class Config:
    """The whole of machine.toml, and what it makes of this host."""

    host: MachineSection = table(MachineSection, "machine")
    strands: StrandsSection = table(StrandsSection)
    memory: MemorySection = table(MemorySection)
    crypto: CryptoSection = table(CryptoSection)
    io: IoSection = table(IoSection)
    network: NetworkSection = table(NetworkSection)
    migration: MigrationSection = table(MigrationSection)
    consoles: ConsolesSection = table(ConsolesSection)
    auth: AuthSection = table(AuthSection)
    api: ApiSection = table(ApiSection)
    log: LogSection = table(LogSection)
    metrics: MetricsSection = table(MetricsSection)
    source: Source = field(default_factory=lambda: Source("machine.toml"), repr=False)

    @property
    def name(self) -> str:
        """The machine's name: the host's without its domain unless given."""
        return self.host.name or socket.gethostname().partition(".")[0]

    @property
    def socket(self) -> Path:
        """The Unix socket that ``ldm`` talks to."""
        return self.api.socket or self.host.run_dir / "ldmd.sock"

    def machine(self, instance: str, *, vlans: bool = False, root: Path = topology.ROOT) -> Machine:
        """The machine that ldmd runs; its hypervisor is for the driver to fill in.

        *instance* is the id made with the store; *vlans* what ``host.net`` probed.

        Raises:
            ConfigInvalid: a value asks for what this host does not have.
        """
        strands = self._strands(topology.cpus(root))
        backing = self.memory.backing or _default_backing(root)
        buses = tuple(Bus(b.name, b.pseudonym) for b in self.io.bus) or pci.buses(root)
        return Machine(
            name=self.name,
            instance=instance,
            processor=self.host.processor or topology.processor(root),
            frequency_hz=self.host.frequency or topology.frequency(root),
            strands=strands,
            regions=self._regions(pool.PAGES[backing], root),
            page=pool.PAGES[backing],
            crypto=self._crypto(strands, root),
            buses=buses,
            ra_base=self.host.ra_base,
            backing=backing,
            emulated=self.strands.emulated,
            rules=self.migration.rules,
            strict=self.migration.strict,
            vlans=vlans,
            vfio="" if (real := vfio(root)).present else f"no VFIO: {real.why}",
            uplinks=self.network.uplinks,
        )

    def pool(self, machine: Machine, kept: tuple[Region, ...]) -> pool.PoolSpec:
        """The memory pool of *machine*, without the ranges that the control domain keeps."""
        return pool.PoolSpec(
            regions=machine.regions,
            backing=machine.backing,
            directory=self.memory.directory or self.host.run_dir / "pool",
            kept=kept,
            own=self.memory.directory is None,
        )

    # -- parts -----------------------------------------------------------------------------------

    def _strands(self, online: tuple[Cpu, ...]) -> tuple[Strand, ...]:
        keys = self.strands
        cpus = online
        if keys.cpus is not None:
            cpus = tuple(c for c in online if c.id in keys.cpus)
            if missing := sorted(set(keys.cpus) - {c.id for c in cpus}):
                text = topology.format_cpu_list(missing)
                raise self.source.fault("strands.cpus", f"CPUs {text} are not on line on this host")
        if not keys.emulated:
            if keys.cores is not None:
                raise self.source.fault("strands.cores", "only with emulated = true")
            return topology.strands(cpus, keys.threads_per_core)
        return topology.emulated_strands(
            cpus,
            cores=keys.cores or len({c.core for c in cpus}),
            threads_per_core=keys.threads_per_core or EMULATED_THREADS,
        )

    def _regions(self, page: int, root: Path) -> tuple[Region, ...]:
        keys = self.memory
        if not keys.region:
            size = keys.size or topology.memory_total(root) // page * page
            regions = [("memory.size", Region(keys.base, size))]
        elif keys.size is not None:
            raise self.source.fault("memory.size", "give either a size or regions")
        else:
            regions = [(f"memory.region[{i}]", self._region(i)) for i in range(len(keys.region))]
        regions.sort(key=lambda pair: pair[1])
        end = 0
        for path, region in regions:
            if region.base % page or region.size % page:
                why = f"base and size must be multiples of the page, {format_size(page)}"
                raise self.source.fault(path, why)
            if region.base < end:
                raise self.source.fault(path, "overlaps the region before it")
            if region.end > values.ADDRESSES:
                raise self.source.fault(path, "goes past the last address, 2^64")
            end = region.end
        memory, there = sum(r.size for _, r in regions), topology.memory_total(root)
        if memory > there:
            why = f"{format_size(memory)} in all, and this host has {there // MIB}M"
            raise self.source.fault("memory.region" if keys.region else "memory.size", why)
        return tuple(region for _, region in regions)

    def _region(self, index: int) -> Region:
        row = self.memory.region[index]
        if row.base is None or row.size is None:
            missing = "base" if row.base is None else "size"
            raise self.source.fault(f"memory.region[{index}]", f"has no {missing}")
        return Region(row.base, row.size)

    def _crypto(self, strands: tuple[Strand, ...], root: Path) -> tuple[CryptoUnit, ...]:
        """One a core where the CPUs have AES; a number given is a number given."""
        units = topology.crypto_units(strands)
        if self.crypto.units is None:
            return units if topology.has_aes(root) else ()
        if self.crypto.units > len(units):
            why = f"{self.crypto.units}: one a core at most, and there are {len(units)} cores"
            raise self.source.fault("crypto.units", why)
        return units[: self.crypto.units]


def load(path: Path = PATH) -> Config:
    """The configuration in *path*; all defaults when the usual file is not there.

    Raises:
        ConfigInvalid: the file cannot be read or used; names file, line and key.
    """
    if path == PATH and not path.exists():
        return Config()
    return _whole(*toml.load(path, Config))


def parse(text: str, file: str) -> Config:
    """The configuration that is the text of *file*.

    Raises:
        ConfigInvalid: it cannot be used; names file, line and key.
    """
    return _whole(*toml.parse(text, file, Config))


def _whole(config: Config, source: Source) -> Config:
    taken: set[str] = set()
    for i, bus in enumerate(config.io.bus):
        if not bus.name:
            raise source.fault(f"io.bus[{i}]", "has no name")
        words = {bus.name, bus.pseudonym} - {""}
        if twice := taken & words:
            raise source.fault(f"io.bus[{i}]", f'"{min(twice)}": the name of another bus')
        taken |= words
    return replace(config, source=source)


def _default_backing(root: Path) -> str:
    """Huge pages of 2M, which every kernel can raise without a restart, or tmpfs."""
    huge = root / "sys/kernel/mm/hugepages/hugepages-2048kB"
    return "hugetlb-2M" if huge.is_dir() else "tmpfs"
