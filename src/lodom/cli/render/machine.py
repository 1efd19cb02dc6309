"""``ldm list-devices``, ``list-services``, ``list-constraints``, ``list-variable``, ``-V``: text.

A strand that is held back until a domain reboots (R06), and strands that share the host's CPUs,
are neither free nor bound in the tables of 1.2; both are told in a NOTE at the end of ``-a``.
"""

from collections.abc import Collection, Iterable

from lodom.cli.render.domains import VDS_COLUMNS, VSW_COLUMNS, vds_rows, vsw_cells
from lodom.cli.render.form import (
    INDENT,
    Document,
    cpuset,
    joined,
    numbers,
    reports,
    section,
    size,
)

DEVICES = ("cpu", "mau", "memory", "io")


# -- list-devices -------------------------------------------------------------------------------


def devices(d: Document, wanted: Collection[str], *, everything: bool) -> list[str]:
    """The tables asked for (all when none), free devices only unless *everything*."""
    tables = {
        "cpu": _strands(d, everything),
        "mau": _units(d, everything),
        "memory": _memory(d, everything),
        "io": _buses(d, everything),
    }
    blocks = [tables[name] for name in DEVICES if not wanted or name in wanted]
    if everything and "io" in wanted:
        blocks.append(_functions(d))
    if everything and (not wanted or "cpu" in wanted):
        blocks.append(_notes(d))
    return joined(blocks)


def _strands(d: Document, everything: bool) -> list[str]:
    rows = [
        f"{INDENT}{s['pid']:<8}{s['free']:<7}{'---' if s['free'] else 'no'}"
        for s in d["vcpu"]
        if everything or s["free"]
    ]
    return ["VCPU", INDENT + "PID  %FREE     PM", *rows] if rows else []


def _units(d: Document, everything: bool) -> list[str]:
    columns = (("ID", 7), ("CPUSET", 40), ("BOUND", 0))
    rows = [(u["id"], cpuset(u["cpuset"]), u["bound"]) for u in d["mau"]]
    if everything:
        return section("MAU", columns, rows)
    return section("MAU", columns[:2], [cells[:2] for cells in rows if not cells[2]])


def _memory(d: Document, everything: bool) -> list[str]:
    columns = (("PA", 21), ("SIZE", 16), ("BOUND", 0))
    rows = [(b["pa"], size(b["size"]), b["bound"]) for b in d["memory"]]
    if everything:
        return section("MEMORY", columns, rows)
    return section("MEMORY", columns[:2], [cells[:2] for cells in rows if not cells[2]])


def _buses(d: Document, everything: bool) -> list[str]:
    columns = (("DEVICE", 17), ("PSEUDONYM", 17), ("BOUND", 8), ("OPTIONS", 0))
    rows = [(b["device"], b["pseudonym"], "yes" if b["bound"] else "", _origin(b)) for b in d["io"]]
    if everything:
        return section("IO", columns, rows)
    free = [(*cells[:2], cells[3]) for cells in rows if not cells[2]]
    shown = (*columns[:2], columns[3]) if any(cells[2] for cells in free) else columns[:2]
    return section("IO", shown, [cells[: len(shown)] for cells in free])


def _functions(d: Document) -> list[str]:
    """What is on the host's buses: a table of ours, shown where ``io`` is asked for by name."""
    columns = (
        ("ADDRESS", 17), ("BUS", 9), ("CLASS", 12), ("ID", 12), ("DRIVER", 17), ("GROUP", 0)
    )  # fmt: skip
    rows = [
        (f["address"], b["pseudonym"], f["kind"] + (" vf" if f["virtual"] else ""), f["id"],
         f["driver"], f["group"])
        for b in d["io"]
        for f in b["devices"]
    ]  # fmt: skip
    return section("PCI", columns, rows)


def _origin(bus: Document) -> str:
    """A bus of machine.toml is a name without a device; it must not pass for a real one."""
    return "declared" if bus["source"] == "declared" else ""


def _notes(d: Document) -> list[str]:
    lines = []
    for name in sorted({s["held"] for s in d["vcpu"]} - {""}):
        pids = numbers(s["pid"] for s in d["vcpu"] if s["held"] == name)
        lines.append(f"{INDENT}PID {pids}: held until {name} is rebooted (R06)")
    if d["emulated"]:
        strands, cpus = len(d["vcpu"]), len({s["cpu"] for s in d["vcpu"]})
        lines.append(f"{INDENT}emulated: {strands} strands share {cpus} CPUs of the host")
    return ["NOTE", *lines] if lines else []


# -- list-services ------------------------------------------------------------------------------


def services(groups: Iterable[Document]) -> list[str]:
    """The tables of all services with the domain that gives them (digest 2.8)."""
    groups = list(groups)
    owner = ("LDOM", 17)
    vcc = [(s["name"], g["ldom"], f"{s['low']}-{s['high']}") for g in groups for s in g["vcc"]]
    vsw = [_with_owner(vsw_cells(s), g["ldom"]) for g in groups for s in g["vsw"]]
    vds = [
        _with_owner(cells, g["ldom"] if cells[0] else "")
        for g in groups
        for s in g["vds"]
        for cells in vds_rows(s)
    ]
    return joined(
        (
            section("VCC", (("NAME", 17), owner, ("PORT-RANGE", 0)), vcc),
            section("VSW", (VSW_COLUMNS[0], owner, *VSW_COLUMNS[1:]), vsw),
            section("VDS", (VDS_COLUMNS[0], owner, *VDS_COLUMNS[1:]), vds),
        )
    )


def _with_owner(cells: tuple[object, ...], owner: str) -> tuple[object, ...]:
    return (cells[0], owner, *cells[1:])


# -- list-constraints, list-variable, list-spconfig ----------------------------------------------


def constraints(documents: Iterable[Document]) -> list[str]:
    """A report a domain: title DOMAIN with the name under it (digest 2.10)."""
    return reports(documents, _constraints)


def _constraints(d: Document) -> list[str]:
    count = (("COUNT", 0),)
    network: tuple[tuple[str, int], ...]
    network = (("NAME", 13), ("SERVICE", 28), ("DEVICE", 13), ("MAC", 0))
    if any(v["mode"] for v in d["network"]):
        network = (*network[:3], ("MAC", 20), ("MODE", 0))
    disk = (("NAME", 17), ("VOLUME", 0))
    console = d["vcons"]
    variables = [f"{INDENT}{v['name']}={v['value']}" for v in d["variables"]]
    asked = [(console["group"], console["service"])] if console["service"] else []
    blocks = (
        ["DOMAIN", d["name"]],
        section("VCPU", count, [(d["vcpu"],)] if d["vcpu"] else []),
        section("MAU", count, [(d["mau"],)] if d["mau"] else []),
        section("MEMORY", (("SIZE", 0),), [(size(d["memory"]),)] if d["memory"] else []),
        ["VARIABLES", *variables] if variables else [],
        section("IO", (("DEVICE", 17), ("PSEUDONYM", 0)),
                [(b["device"], b["pseudonym"]) for b in d["io"]]),
        section("VCC", (("NAME", 17), ("PORT-RANGE", 0)),
                [(s["name"], f"{s['low']}-{s['high']}") for s in d["vcc"]]),
        section("VSW", VSW_COLUMNS, map(vsw_cells, d["vsw"])),
        section("VDS", VDS_COLUMNS, [cells for s in d["vds"] for cells in vds_rows(s)]),
        section("NETWORK", network,
                [(v["name"], v["switch"], v["device"], v["mac"], v["mode"])[: len(network)]
                 for v in d["network"]]),
        section("DISK", disk, [(v["name"], f"{v['volume']}@{v['service']}") for v in d["disk"]]),
        section("VCONS", (("NAME", 17), ("SERVICE", 0)), asked),
    )  # fmt: skip
    return joined(blocks)


def variables(d: Document) -> list[str]:
    """``name=value``, one a line."""
    return [f"{v['name']}={v['value']}" for v in d["variables"]]


def configurations(d: Document) -> list[str]:
    """One name a line, with what it is to the machine (digest 2.8).

    The current one can be the next one too: a boot then undoes what was changed since it was saved.
    """
    words = ("current", "next")
    return [c["name"] + "".join(f" [{word}]" for word in words if c[word]) for c in d["configs"]]


# -- -V -----------------------------------------------------------------------------------------


def version(d: Document) -> list[str]:
    """``ldm -V`` in the layout of 1.2 (digest 2.1); the accelerator's reason is ours."""
    reason = f" ({d['accelerator_reason']})" if d["accelerator_reason"] else ""
    lines = [
        "",
        f"Logical Domain Manager (v {d['release']})",
        f"   Hypervisor control protocol v {d['protocol']}",
        f"   Using Hypervisor MD v {d['schema']}",
        "",
        "System PROM:",
        f"   Hypervisor  v. {d['hypervisor']}   QEMU, accelerator {d['accelerator']}{reason}",
    ]
    lines += [f"   Firmware    v. {name}   {digest}" for name, digest in d["firmware"].items()]
    return lines
