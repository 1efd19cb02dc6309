"""The host's processors, memory and buses, read from /proc and /sys.

Every function takes the *root* that holds ``proc`` and ``sys``, so recorded trees can be read.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lodom.core.model.host import CryptoUnit, Strand

ROOT = Path("/")
_CPUS = Path("sys/devices/system/cpu")
_HZ_IN_NAME = re.compile(r"\s*@\s*([0-9.]+)\s*([GM])Hz", re.IGNORECASE)
_TSC_GRAIN = 10_000_000
"""A calibrated clock differs by some kHz from boot to boot; nominal ones are multiples of this."""


@dataclass(frozen=True, order=True)
class Cpu:
    """One CPU thread of the host that is on line: its number, its core, its NUMA node."""

    core: tuple[int, int]
    """(package, core id): unique in the host; core ids alone repeat in each package."""
    id: int
    node: int = 0


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The numbers in ``0-3,8``, ascending.

    Raises:
        ValueError: not such a list.
    """
    found: set[int] = set()
    for part in filter(None, (p.strip() for p in text.split(","))):
        low, dash, high = part.partition("-")
        first, last = int(low), int(high) if dash else int(low)
        if last < first:
            raise ValueError(text)
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def format_cpu_list(cpus: Iterable[int]) -> str:
    """``0-3,8`` for the numbers 0, 1, 2, 3 and 8."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(f"{a}-{b}" if a != b else str(a) for a, b in runs)


def cpus(root: Path = ROOT) -> tuple[Cpu, ...]:
    """The CPUs that are on line, core by core."""
    base = root / _CPUS
    online = parse_cpu_list(_text(base / "online") or "0")
    nodes = {
        cpu: int(node.name[4:])
        for node in (root / "sys/devices/system/node").glob("node[0-9]*")
        for cpu in parse_cpu_list(_text(node / "cpulist"))
    }
    return tuple(sorted(Cpu(_core(base, n), n, nodes.get(n, 0)) for n in online))


def _core(base: Path, cpu: int) -> tuple[int, int]:
    """Where the kernel says nothing, each CPU is a core of its own."""
    topology = base / f"cpu{cpu}" / "topology"
    package, core = _text(topology / "physical_package_id"), _text(topology / "core_id")
    return (max(int(package), 0), int(core)) if package and core else (0, cpu)


def strands(cpus: Sequence[Cpu], threads_per_core: int | None = None) -> tuple[Strand, ...]:
    """One strand for each CPU, under the CPU's own number; cores are numbered from 0.

    *threads_per_core* regroups the CPUs, in core order, where the host hides its cores; a rest
    makes a smaller last core.
    """
    ordered = sorted(cpus)
    if threads_per_core is None:
        index = {core: i for i, core in enumerate(dict.fromkeys(c.core for c in ordered))}
        numbered = [(c.id, index[c.core]) for c in ordered]
    else:
        numbered = [(c.id, i // threads_per_core) for i, c in enumerate(ordered)]
    return tuple(sorted(Strand(pid=cpu, core=core, cpu=cpu) for cpu, core in numbered))


def emulated_strands(
    cpus: Sequence[Cpu], *, cores: int, threads_per_core: int
) -> tuple[Strand, ...]:
    """*cores* times *threads_per_core* strands, numbered from 0, shared out over the real CPUs.

    Neighbouring strands go to different CPUs, so one core's strands are not all on one CPU.
    """
    ids = [c.id for c in sorted(cpus)]
    return tuple(
        Strand(pid=pid, core=pid // threads_per_core, cpu=ids[pid % len(ids)])
        for pid in range(cores * threads_per_core)
    )


def crypto_units(strands: Iterable[Strand]) -> tuple[CryptoUnit, ...]:
    """One unit a core, numbered as the cores."""
    return tuple(CryptoUnit(id=core, core=core) for core in sorted({s.core for s in strands}))


def has_aes(root: Path = ROOT) -> bool:
    """Every CPU has AES instructions (x86 ``flags``, ARM ``Features``)."""
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", _cpuinfo(root), re.MULTILINE)
    return bool(lines) and all("aes" in line.split() for line in lines)


def processor(root: Path = ROOT) -> str:
    """The model name of the CPUs without the frequency, blanks collapsed; or "unknown"."""
    return " ".join(_HZ_IN_NAME.sub("", _model_name(root)).split()) or "unknown"


def frequency(root: Path = ROOT) -> int | None:
    """The nominal frequency in Hz, or None when the host does not tell it.

    Never what the CPU runs at now: two equal hosts must compare equal (R10).  Sources, best first:
    base_frequency (intel_pstate), nominal_freq (ACPI CPPC), the model name, the constant TSC.
    """
    cpu = root / _CPUS / f"cpu{min((c.id for c in cpus(root)), default=0)}"
    if base := _text(cpu / "cpufreq/base_frequency"):
        return int(base) * 1000
    if nominal := int(_text(cpu / "acpi_cppc/nominal_freq") or 0):
        return nominal * 1_000_000
    if match := _HZ_IN_NAME.search(_model_name(root)):
        factor = 1_000_000_000 if match[2].upper() == "G" else 1_000_000
        return round(float(match[1]) * factor)
    return _tsc(root)


def _tsc(root: Path) -> int | None:
    """With a constant TSC the kernel presets the delay loop from it: BogoMIPS is twice its MHz."""
    text = _cpuinfo(root)
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    mips = re.search(r"^bogomips\s*:\s*([0-9.]+)", text, re.MULTILINE)
    if not (flags and mips and {"constant_tsc", "nonstop_tsc"} <= set(flags[1].split())):
        return None
    return round(float(mips[1]) * 500_000 / _TSC_GRAIN) * _TSC_GRAIN or None


def memory_total(root: Path = ROOT) -> int:
    """Bytes of memory that the kernel manages (MemTotal)."""
    return _meminfo(root, "MemTotal")


def memory_available(root: Path = ROOT) -> int:
    """Bytes that can be had without swapping (MemAvailable)."""
    return _meminfo(root, "MemAvailable")


def _meminfo(root: Path, field: str) -> int:
    match = re.search(rf"^{field}:\s*(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def _model_name(root: Path) -> str:
    match = re.search(r"^(?:model name|Model)\s*:(.*)$", _cpuinfo(root), re.MULTILINE)
    return match[1].strip() if match else ""


def _cpuinfo(root: Path) -> str:
    return _text(root / "proc/cpuinfo")


def _text(path: Path) -> str:
    """The file's text without the blanks at its ends, empty when it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
