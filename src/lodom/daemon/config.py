"""machine.toml: what a machine is (DESIGN, section 4).  Every value has a default of the host's."""

# ruff: noqa: RUF009 - key(), table() and tables() make a dataclass field each

import math
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from lodom.core.model.host import RA_BASE, Bus, CryptoUnit, Machine, Region, Strand
from lodom.core.units import MIB, format_size, parse_size
from lodom.daemon import toml
from lodom.daemon.toml import Source, key, table, tables
from lodom.host import pool, topology
from lodom.host.probe import vfio
from lodom.host.topology import Cpu

PATH = Path("/etc/lodom/machine.toml")
PORT = 6482
EMULATED_THREADS = 8
"""Strands of an emulated core unless told: as an UltraSPARC T2 has."""

# -- values: each raises ValueError with the reason ---------------------------------------------


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text that is not empty")
    return value


def _path(value: Any) -> Path:
    path = Path(_text(value))
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _number(low: int, high: float = math.inf) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            limit = f"at least {low}" if high == math.inf else f"{low} to {high}"
            raise ValueError(f"must be a whole number, {limit}")
        return value

    return read


def _auto(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """None for "auto", else what *read* makes of it."""
    return lambda value: None if value == "auto" else read(value)


def _one_of(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return str(value)

    return read


def _size(value: Any) -> int:
    try:
        return parse_size(str(value) if type(value) is int else _text(value))
    except ValueError:
        raise ValueError('must be bytes, or a text such as "512M" or "4G"') from None


def _address(value: Any) -> int:
    """A memory address; TOML itself reads 0x… numbers."""
    if type(value) is str and re.fullmatch(r"0x[0-9a-fA-F]+", value):
        return int(value, 16)
    return _number(0)(value)


def _ra_base(value: Any) -> int:
    """Blocks are laid out by their order, not by RA, so this needs to fit no page."""
    if (address := _address(value)) % MIB:
        raise ValueError("must be a multiple of 1M (0x100000)")
    return address


def _hertz(value: Any) -> int:
    if type(value) is int and value > 0:
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MG])Hz", str(value), re.IGNORECASE)
    if not match or not float(match[1]):
        raise ValueError('must be hertz, or a text such as "2.6GHz" or "1200MHz"')
    return round(float(match[1]) * (10**9 if match[2].upper() == "G" else 10**6))


def _cpu_list(value: Any) -> tuple[int, ...]:
    try:
        found = topology.parse_cpu_list(_text(value))
    except ValueError:
        found = ()
    if not found:
        raise ValueError('must be a list such as "0-15" or "0,2,8-11"')
    return found


def _ip(value: Any) -> str:
    try:
        return str(ip_address(_text(value)))
    except ValueError:
        raise ValueError("must be an IP address") from None


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("must be a list of names")
    return tuple(_text(name) for name in value)


def _uplinks(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("must be a table: switch = device")
    return {switch: _text(device) for switch, device in value.items()}


# -- sections -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class MachineSection:
    """[machine].  None: read off the host."""

    name: str | None = key(_auto(_text), None)
    processor: str | None = key(_auto(_text), None)
    frequency: int | None = key(_auto(_hertz), None)
    """Hz."""
    accelerator: str = key(_one_of("auto", "kvm", "tcg"), "auto")
    ra_base: int = key(_ra_base, RA_BASE)
    state_dir: Path = key(_path, Path("/var/lib/lodom"))
    run_dir: Path = key(_path, Path("/run/lodom"))
    log_dir: Path = key(_path, Path("/var/log/lodom"))


@dataclass(frozen=True)
class StrandsSection:
    """[strands].  *cores* counts emulated cores; None: as many as the host's."""

    cpus: tuple[int, ...] | None = key(_auto(_cpu_list), None)
    threads_per_core: int | None = key(_auto(_number(1, 64)), None)
    cores: int | None = key(_auto(_number(1, 1024)), None)
    emulated: bool = key(_truth, False)


@dataclass(frozen=True)
class RegionTable:
    """[[memory.region]]."""

    base: int | None = key(_address, None)
    size: int | None = key(_size, None)


@dataclass(frozen=True)
class MemorySection:
    """[memory].  *directory* (on a tmpfs or hugetlbfs) replaces the pool's own mount."""

    size: int | None = key(_auto(_size), None)
    base: int = key(_address, 0)
    backing: str | None = key(_auto(_one_of(*pool.PAGES)), None)
    directory: Path | None = key(_auto(_path), None)
    region: tuple[RegionTable, ...] = tables(RegionTable)


@dataclass(frozen=True)
class CryptoSection:
    """[crypto]."""

    units: int | None = key(_auto(_number(0)), None)


@dataclass(frozen=True)
class BusTable:
    """[[io.bus]]."""

    name: str = key(_text, "")
    pseudonym: str = key(_text, "")


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

    rules: str = key(_one_of("1.2", "3.x"), "1.2")
    strict: bool = key(_truth, False)
    address: str = key(_ip, "")
    port: int = key(_number(1, 65535), PORT)
    stream_address: str = key(_ip, "")


@dataclass(frozen=True)
class ConsolesSection:
    """[consoles]: where console ports listen."""

    listen: str = key(_ip, "127.0.0.1")


@dataclass(frozen=True)
class Role:
    """Who has a role."""

    users: tuple[str, ...] = key(_names, ())
    groups: tuple[str, ...] = key(_names, ())


@dataclass(frozen=True)
class AuthSection:
    """[auth].  root has both roles always; ``write`` includes ``read``."""

    backend: str = key(_one_of("pam", "file"), "pam")
    users: Path = key(_path, Path("/etc/lodom/users"))
    """The file of users and password hashes of backend "file"."""
    certificates: bool = key(_truth, False)
    """A machine whose certificate was accepted here may migrate to this one without a password
    (``migrate-domain -c``).  Off by default: to accept a target is not to let it in."""
    read: Role = table(Role)
    write: Role = table(Role)


@dataclass(frozen=True)
class ApiSection:
    """[api]; *socket* None: ``ldmd.sock`` in the run directory."""

    socket: Path | None = key(_auto(_path), None)


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
        buses = tuple(Bus(b.name, b.pseudonym) for b in self.io.bus) or topology.buses(root)
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
            end = region.end
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
    config, source = toml.load(path, Config)
    config = replace(config, source=source)
    for i, bus in enumerate(config.io.bus):
        if not bus.name:
            raise source.fault(f"io.bus[{i}]", "has no name")
    return config


def _default_backing(root: Path) -> str:
    """Huge pages of 2M, which every kernel can raise without a restart, or tmpfs."""
    huge = root / "sys/kernel/mm/hugepages/hugepages-2048kB"
    return "hugetlb-2M" if huge.is_dir() else "tmpfs"
