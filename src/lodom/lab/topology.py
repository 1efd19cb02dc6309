"""The lab's topology file: any number of machines, and the links between them.

[[machine]]
name = "dt90-319"
cores = 4
strands-per-core = 4
processor = "UltraSPARC-T2"
frequency = "1200MHz"
memory = "4G"                      # or [[machine.region]] base = 0x108000000, size = "1G"
crypto-units = 4
backing = "hugetlb-2M"             # or tmpfs
console-ports = "5000-5100"
switches = ["primary-vsw0"]
primary-strands = 4
primary-memory = "512M"

[link]
rate = "1gbit"                     # tbf on each machine's side
delay = "1ms"                      # on each machine's side; only where the kernel has netem
"""

# ruff: noqa: RUF009 - key() and tables() make a dataclass field each

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lodom.core.errors import ConfigInvalid
from lodom.core.model.host import Region
from lodom.core.units import GIB, MIB, format_size
from lodom.daemon import config, toml, values
from lodom.daemon.config import BusTable, RegionTable
from lodom.daemon.toml import Source, key, table, tables
from lodom.grammar import values as grammar
from lodom.host.pool import PAGES


def _name(value: Any) -> str:
    """Fit for a namespace, a host name and a folder."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?", values.text(value)):
        raise ValueError("must be 1 to 32 letters, digits and inner dashes")
    if re.fullmatch(r"\d+|0[Xx][0-9A-Fa-f]*", str(value)):
        raise ValueError("would be taken for an address: must have another letter")
    return str(value)


def _ports(value: Any) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", str(value))
    if not match or not 0 < int(match[1]) <= int(match[2]) < 65536:
        raise ValueError('must be a range of ports such as "5000-5100"')
    return int(match[1]), int(match[2])


def _rate(value: Any) -> str:
    if not re.fullmatch(r"[1-9]\d*[kmg]?bit", str(value)):
        raise ValueError('must be a rate such as "100mbit" or "1gbit"')
    return str(value)


def _delay(value: Any) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?(us|ms|s)", str(value)):
        raise ValueError('must be a time such as "1ms"')
    return str(value)


@dataclass(frozen=True)
class LabMachine:
    """One machine of the lab.  Sizes in bytes; ``memory`` counts when no regions are given."""

    name: str = key(_name, "")
    cores: int = key(values.number(1, 1024), 4)
    strands_per_core: int = key(values.number(1, 64), 4)
    processor: str = key(values.text, "UltraSPARC-T2")
    frequency: int = key(values.hertz, 1_200_000_000)
    memory: int = key(values.size, 3 * GIB)
    regions: tuple[Region | RegionTable, ...] = tables(RegionTable, "region")
    crypto_units: int | None = key(values.auto(values.number(0)), None)
    buses: tuple[BusTable, ...] = tables(BusTable, "bus")
    backing: str = key(values.one_of(*PAGES), "tmpfs")
    rules: str = key(values.one_of("1.2", "3.x"), "1.2")
    console_ports: tuple[int, int] = key(_ports, (5000, 5100))
    switches: tuple[str, ...] = key(values.names, ("primary-vsw0",))
    primary_strands: int = key(values.number(1), 4)
    primary_memory: int = key(values.size, 512 * MIB)
    set_up: bool = key(values.truth, True)
    """Run the well-known commands of ``ldm-setup`` after the first start."""

    @property
    def size(self) -> int:
        """All its memory."""
        return sum(r.size or 0 for r in self.regions) if self.regions else self.memory


@dataclass(frozen=True)
class Link:
    """[link]."""

    rate: str = key(_rate, "")
    delay: str = key(_delay, "")

    @property
    def disciplines(self) -> tuple[tuple[str, ...], ...]:
        """Where and what tc puts on a machine's side: first the delay, the rate within it."""
        # netem's usual limit of 1000 packets would drop what a fast link has on its way.
        delay = ("netem", "delay", self.delay, "limit", "100000")
        rate = ("tbf", "rate", self.rate, "burst", "256kb", "latency", "50ms")
        kinds = [kind for kind, wanted in ((delay, self.delay), (rate, self.rate)) if wanted]
        places = (("root", "handle", "1:"), ("parent", "1:1", "handle", "2:"))
        return tuple((*place, *kind) for place, kind in zip(places, kinds, strict=False))


@dataclass(frozen=True)
class Topology:
    """The whole lab."""

    machines: tuple[LabMachine, ...] = tables(LabMachine, "machine")
    link: Link = table(Link)


TAKEN = ("client", "wire", "localhost", "password", "demo")
"""Names of the lab's own namespaces, hosts and files."""
MOST = 253
"""Machines that have addresses of their own beside the client's."""
DISK_SERVER, CONCENTRATOR = "primary-vds0", "primary-vcc0"

DEFAULT = Topology((LabMachine("dt90-319"), LabMachine("dt212-239")))


def load(path: Path) -> Topology:
    """The topology in *path*.

    Raises:
        ConfigInvalid: it cannot be read or used; names file, line and key.
    """
    found, source = toml.load(path, Topology)
    if not found.machines:
        raise source.fault("machine", "no [[machine]] is declared")
    if len(found.machines) > MOST:
        raise source.fault(f"machine[{MOST}]", f"one too many: a lab has at most {MOST} machines")
    seen: set[str] = set()  # as the resolver compares them, without case
    for index, machine in enumerate(found.machines):
        at = f"machine[{index}]"
        if not machine.name:
            raise source.fault(at, "has no name")
        known = machine.name.lower()
        if known in seen:
            raise source.fault(f"{at}.name", f'"{machine.name}": the name of another machine')
        if known in TAKEN:
            raise source.fault(f"{at}.name", f'"{machine.name}": the lab has this name for itself')
        seen.add(known)
        _check(machine, at, source)
    return found


def _check(m: LabMachine, at: str, source: Source) -> None:
    """What no value tells by itself.

    Raises:
        ConfigInvalid: this machine could not be started.
    """
    if m.primary_memory > m.size:
        why = f"more than the machine has, {format_size(m.size)}"
        raise source.fault(f"{at}.primary-memory", why)
    strands = m.cores * m.strands_per_core
    if m.primary_strands > strands:
        raise source.fault(f"{at}.primary-strands", f"more than the machine has, {strands}")
    services = [*m.switches, DISK_SERVER, CONCENTRATOR]
    for name in m.switches:
        try:
            grammar.NAME.convert(name)
        except ValueError as why:
            raise source.fault(f"{at}.switches", f'"{name}": {why}') from None
        if services.count(name) > 1:
            raise source.fault(f"{at}.switches", f'"{name}": the name of another service')
    try:  # the rest is for the machine's own configuration to judge
        config.parse(machine_toml(m, Path("/lab"), "10.97.0.1"), m.name).machine("lab")
    except ConfigInvalid as fault:
        raise source.fault(at, f"{fault.key}{fault.why}") from fault


def machine_toml(m: LabMachine, folder: Path, address: str) -> str:
    """machine.toml of a machine with its state in *folder*, found by the others at *address*."""
    regions = m.regions or (Region(0x8000000, m.memory),)
    sections: list[tuple[str, Mapping[str, object]]] = [
        ("[machine]", {
            "name": m.name, "processor": m.processor, "frequency": m.frequency,
            "state-dir": f"{folder}/state", "run-dir": f"{folder}/run", "log-dir": f"{folder}/log",
        }),
        ("[strands]", {
            "emulated": True, "cores": m.cores, "threads-per-core": m.strands_per_core,
        }),
        ("[memory]", {"backing": m.backing}),
        *(("[[memory.region]]", {"base": r.base, "size": r.size}) for r in regions),
        ("[crypto]", {"units": "auto" if m.crypto_units is None else m.crypto_units}),
        ("[migration]", {"rules": m.rules, "address": address, "stream-address": address}),
        ("[auth]", {"backend": "file", "users": f"{folder}/state/users"}),
        *(("[[io.bus]]", {"name": b.name, "pseudonym": b.pseudonym or b.name}) for b in m.buses),
    ]  # fmt: skip
    # A JSON text, number or truth is one of TOML too.
    return "".join(
        f"{header}\n"
        + "".join(f"{k} = {json.dumps(v)}\n" for k, v in rows.items() if v is not None)
        for header, rows in sections
    )


@dataclass(frozen=True)
class Placed:
    """A machine with what the lab gives it: namespace, address, folders."""

    machine: LabMachine
    index: int
    root: Path = field(repr=False)

    @property
    def namespace(self) -> str:
        """Its network namespace."""
        return f"lodom-{self.machine.name}"

    @property
    def address(self) -> str:
        """Where its ldmd answers the others, and they find it by name."""
        return f"10.97.0.{self.index + 1}"

    @property
    def folder(self) -> Path:
        """State, run and log folders, and machine.toml."""
        return self.root / self.machine.name

    @property
    def socket(self) -> Path:
        """Its ldmd's socket."""
        return self.folder / "run" / "ldmd.sock"

    @property
    def log(self) -> Path:
        """What its ldmd logs, every event and effect."""
        return self.folder / "log" / "ldmd.log"
