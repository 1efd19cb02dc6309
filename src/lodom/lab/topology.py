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
delay = "1ms"                      # only where the kernel has netem
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lodom.core.model.host import Region
from lodom.core.units import GIB, MIB, parse_size


class TopologyInvalid(Exception):
    """The file cannot be used; the text names file, place and key."""


@dataclass(frozen=True)
class LabMachine:
    """One machine of the lab.  Sizes in bytes; ``memory`` counts when no regions are given."""

    name: str
    cores: int = 4
    strands_per_core: int = 4
    processor: str = "UltraSPARC-T2"
    frequency: str = "1200MHz"
    memory: int = 3 * GIB
    regions: tuple[Region, ...] = ()
    crypto_units: int | None = None
    buses: tuple[tuple[str, str], ...] = ()
    backing: str = "tmpfs"
    rules: str = "1.2"
    console_ports: tuple[int, int] = (5000, 5100)
    switches: tuple[str, ...] = ("primary-vsw0",)
    primary_strands: int = 4
    primary_memory: int = 512 * MIB
    set_up: bool = True
    """Run the well-known commands of ``ldm-setup`` after the first start."""


@dataclass(frozen=True)
class Topology:
    """The whole lab."""

    machines: tuple[LabMachine, ...]
    rate: str = ""
    delay: str = ""


DEFAULT = Topology((LabMachine("dt90-319"), LabMachine("dt212-239")))

_FIELDS: Mapping[str, str] = {
    "name": "name",
    "cores": "cores",
    "strands-per-core": "strands_per_core",
    "processor": "processor",
    "frequency": "frequency",
    "memory": "memory",
    "region": "regions",
    "crypto-units": "crypto_units",
    "bus": "buses",
    "backing": "backing",
    "rules": "rules",
    "console-ports": "console_ports",
    "switches": "switches",
    "primary-strands": "primary_strands",
    "primary-memory": "primary_memory",
    "set-up": "set_up",
}


def load(path: Path) -> Topology:
    """The topology in *path*.

    Raises:
        TopologyInvalid: it cannot be read, or a key or value cannot be used.
    """
    try:
        plain = tomllib.loads(path.read_text())
    except OSError as error:
        raise TopologyInvalid(f"{path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise TopologyInvalid(f"{path}: {error}") from error
    _known(path, "", plain, ("machine", "link"))
    machines = tuple(
        _machine(path, index, table) for index, table in enumerate(plain.get("machine", []))
    )
    if not machines:
        raise TopologyInvalid(f"{path}: no [[machine]] is declared")
    names = [m.name for m in machines]
    if len(set(names)) != len(names):
        raise TopologyInvalid(f"{path}: two machines have the same name")
    link = plain.get("link", {})
    _known(path, "link", link, ("rate", "delay"))
    return Topology(machines, str(link.get("rate", "")), str(link.get("delay", "")))


def _known(path: Path, place: str, table: Mapping[str, Any], keys: Any) -> None:
    for key in table:
        if key not in keys:
            near = difflib.get_close_matches(key, list(keys), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TopologyInvalid(f"{path}: [{place}] unknown key {key!r}{hint}")


def _machine(path: Path, index: int, table: Mapping[str, Any]) -> LabMachine:
    place = f"machine {table.get('name', index)}"
    _known(path, place, table, _FIELDS)
    if not isinstance(table.get("name"), str) or not table["name"]:
        raise TopologyInvalid(f"{path}: [{place}] key 'name': a text is wanted")
    values: dict[str, Any] = {}
    for key, value in table.items():
        try:
            values[_FIELDS[key]] = _READ.get(key, _plain)(value)
        except (ValueError, TypeError, KeyError) as error:
            raise TopologyInvalid(
                f"{path}: [{place}] key {key!r}: {value!r} cannot be used ({error})"
            ) from error
    return LabMachine(**values)


def _plain(value: Any) -> Any:
    return value


def _size(value: Any) -> int:
    return parse_size(str(value))


def _regions(rows: Any) -> tuple[Region, ...]:
    return tuple(Region(int(row["base"]), _size(row["size"])) for row in rows)


def _buses(rows: Any) -> tuple[tuple[str, str], ...]:
    return tuple((str(row["name"]), str(row.get("pseudonym", ""))) for row in rows)


def _ports(value: Any) -> tuple[int, int]:
    low, _, high = str(value).partition("-")
    return int(low), int(high)


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a whole number is wanted")
    return value


_READ: Mapping[str, Any] = {
    "cores": _number,
    "strands-per-core": _number,
    "memory": _size,
    "region": _regions,
    "crypto-units": _number,
    "bus": _buses,
    "console-ports": _ports,
    "switches": tuple,
    "primary-strands": _number,
    "primary-memory": _size,
}


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
