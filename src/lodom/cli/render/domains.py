"""``ldm list`` and ``ldm list-bindings``, as text.

Columns are those of 1.2 with VLAN and MTU (digest 2.4); six flags, STATE ten wide, ``SP`` for the
control domain (digest 5).  Section order: digest 2.4 and 2.5.
"""

from collections.abc import Iterable, Sequence

from lodom.cli.render.form import (
    INDENT,
    Document,
    Section,
    cpuset,
    joined,
    numbers,
    reports,
    row,
    section,
    size,
    uptime,
    with_sign,
)

HEADER = ("NAME", "STATE", "FLAGS", "CONS", "VCPU", "MEMORY", "UTIL", "UPTIME")


# -- the header ---------------------------------------------------------------------------------


def _line(cells: Sequence[object]) -> str:
    name, state, flags, cons, vcpu, memory, util, up = cells
    head = f"{name:<16} {state:<10} {flags:<7} {cons:<7} {vcpu:<5} {memory:<8} "
    return f"{head}{util:>4}  {up}".rstrip()


def _short(d: Document) -> str:
    return _line(
        (
            d["name"],
            d["state"],
            d["flags"],
            d["console"],
            d["vcpus"] or "",
            size(d["memory"]),
            with_sign(d["util"]),
            uptime(d["uptime"]),
        )
    )


def short(documents: Iterable[Document]) -> list[str]:
    """``ldm list``: one line a domain."""
    return [_line(HEADER), *map(_short, documents)]


# -- sections of one domain ---------------------------------------------------------------------


def _softstate(d: Document) -> list[str]:
    return ["SOFTSTATE", d["softstate"]] if d["softstate"] else []


def _mac(d: Document) -> list[str]:
    return ["MAC", INDENT + d["mac"]]


def _hostid(d: Document) -> list[str]:
    return ["HOSTID", INDENT + d["hostid"]]


def _control(d: Document) -> list[str]:
    return ["CONTROL", f"{INDENT}failure-policy={d['failure_policy']}"]


def _dependency(d: Document) -> list[str]:
    return ["DEPENDENCY", f"{INDENT}master={','.join(d['masters'])}"]


def _vcpu(d: Document) -> list[str]:
    rows = [
        f"{INDENT}{v['vid']:<7}{v['pid']:<7}{with_sign(v['util']):>4} {v['strand']:>5}%"
        for v in d["vcpu"]
    ]
    return ["VCPU", INDENT + "VID    PID    UTIL STRAND", *rows] if rows else []


def _mau(d: Document) -> list[str]:
    return section("MAU", (("CPUSET", 0),), ((cpuset(u["cpuset"]),) for u in d["mau"]))


def _memory(d: Document) -> list[str]:
    columns = (("RA", 17), ("PA", 17), ("SIZE", 0))
    return section("MEMORY", columns, ((b["ra"], b["pa"], size(b["size"])) for b in d["blocks"]))


def _variables(d: Document) -> list[str]:
    rows = [f"{INDENT}{v['name']}={v['value']}" for v in d["variables"]]
    return ["VARIABLES", *rows] if rows else []


def _io(d: Document) -> list[str]:
    columns = (("DEVICE", 17), ("PSEUDONYM", 17), ("OPTIONS", 0))
    return section("IO", columns, ((b["device"], b["pseudonym"], "") for b in d["io"]))


VSW_COLUMNS = (
    ("NAME", 17), ("MAC", 18), ("NET-DEV", 10), ("ID", 5), ("DEVICE", 11),
    ("DEFAULT-VLAN-ID", 16), ("PVID", 5), ("VID", 21), ("MTU", 6), ("MODE", 0),
)  # fmt: skip
VDS_COLUMNS = (("NAME", 17), ("VOLUME", 15), ("OPTIONS", 17), ("MPGROUP", 15), ("DEVICE", 0))
VCC_COLUMNS = (("NAME", 17), ("PORT-RANGE", 0))
_NETWORK = (
    ("NAME", 17), ("SERVICE", 28), ("ID", 5), ("DEVICE", 11), ("MAC", 18), ("MODE", 7),
    ("PVID", 5), ("VID", 21), ("MTU", 0),
)  # fmt: skip
_DISK = (
    ("NAME", 17), ("VOLUME", 28), ("TOUT", 5), ("ID", 5), ("DEVICE", 8), ("SERVER", 15),
    ("MPGROUP", 0),
)  # fmt: skip
_VCONS = (("NAME", 17), ("SERVICE", 28), ("PORT", 0))
_PEER = (("PEER", 28), ("MAC", 0))


def vsw_cells(s: Document) -> tuple[object, ...]:
    """The cells of ``VSW_COLUMNS``."""
    return (
        s["name"], s["mac"], s["net_dev"], s["id"], s["device"], s["default_vlan"], s["pvid"],
        numbers(s["vids"]), s["mtu"], s["mode"],
    )  # fmt: skip


def vds_rows(s: Document) -> list[tuple[object, ...]]:
    """One row a volume, the service's name on the first only; one row when there is none."""
    volumes = [(v["name"], ",".join(v["options"]), v["mpgroup"], v["device"]) for v in s["volumes"]]
    cells = volumes or [("", "", "", "")]
    return [("" if i else s["name"], *volume) for i, volume in enumerate(cells)]


def _vcc(d: Document) -> list[str]:
    return section("VCC", VCC_COLUMNS, ((s["name"], f"{s['low']}-{s['high']}") for s in d["vcc"]))


def _vsw(d: Document) -> list[str]:
    return section("VSW", VSW_COLUMNS, map(vsw_cells, d["vsw"]))


def _vds(d: Document) -> list[str]:
    return section("VDS", VDS_COLUMNS, (r for s in d["vds"] for r in vds_rows(s)))


def _vnet_cells(v: Document) -> tuple[object, ...]:
    service = f"{v['switch']}@{v['owner']}" if v["owner"] else v["switch"]
    return (
        v["name"], service, v["id"], v["device"], v["mac"], v["mode"], v["pvid"],
        numbers(v["vids"]), v["mtu"],
    )  # fmt: skip


def _network(d: Document) -> list[str]:
    return section("NETWORK", _NETWORK, map(_vnet_cells, d["network"]))


def _disk(d: Document) -> list[str]:
    rows = (
        (
            v["name"], f"{v['volume']}@{v['service']}", v["timeout"] or "", v["id"], v["device"],
            v["server"], v["mpgroup"],
        )
        for v in d["disk"]
    )  # fmt: skip
    return section("DISK", _DISK, rows)


def _vcons(d: Document) -> list[str]:
    console = d["vcons"]
    if console["type"]:
        return ["VCONS", INDENT + console["type"]]
    if not (console["service"] or console["group"] or console["port"]):
        return []
    service = f"{console['service']}@{console['owner']}" if console["owner"] else console["service"]
    return section("VCONS", _VCONS, [(console["group"], service, console["port"] or "")])


def status(d: Document) -> list[str]:
    """STATUS: only while an operation runs; the other machine is TARGET or SOURCE (1.5)."""
    operation = d["operation"]
    if operation is None:
        return []
    other = "TARGET" if operation["role"] == "source" else "SOURCE"
    columns = (("OPERATION", 13), ("PROGRESS", 12), (other, 0))
    progress = "error" if operation["error"] else f"{operation['progress']}%"
    return section("STATUS", columns, [(operation["operation"], progress, operation["peer"])])


def _notice(d: Document) -> list[str]:
    """NOTICE: what a migration left that is to be known, if anything (R07, R28 to R30)."""
    told = {
        "storage_differs": "storage differs: its disks are not those it had where it came from; "
        "stop it, correct the volumes, start it (ldm explain R29)",
        "cpu_dr_off": "CPU dynamic reconfiguration is disabled until it is rebooted "
        "(ldm explain R07)",
        "elsewhere": "another machine owns it: it cannot be started here; what is left of it here "
        "goes by ldm remove-domain",
    }
    lines = [INDENT + text for key, text in told.items() if d[key]]
    return ["NOTICE", *lines] if lines else []


# -- sections with their peers and clients ------------------------------------------------------


def _under(
    columns: Sequence[tuple[str, int]], rows: Iterable[Sequence[object]], title: str
) -> list[str]:
    lines = section(title, columns, rows)
    return [INDENT + line for line in lines[1:]]


def _peers(device: Document) -> list[str]:
    return _under(_PEER, ((p["name"], p["mac"]) for p in device["peers"]), "")


def _vsw_bound(d: Document) -> list[str]:
    lines: list[str] = []
    for s in d["vsw"]:
        block = section("VSW", VSW_COLUMNS, [vsw_cells(s)])
        lines += (block[1:] if lines else block) + _peers(s)
    return lines


def _network_bound(d: Document) -> list[str]:
    lines: list[str] = []
    for v in d["network"]:
        block = section("NETWORK", _NETWORK, [_vnet_cells(v)])
        lines += (block[1:] if lines else block) + _peers(v)
    return lines


def _vcc_bound(d: Document) -> list[str]:
    lines: list[str] = []
    columns = (("CLIENT", 28), ("PORT", 0))
    for s in d["vcc"]:
        block = section("VCC", VCC_COLUMNS, [(s["name"], f"{s['low']}-{s['high']}")])
        clients = _under(columns, ((c["name"], c["port"]) for c in s["clients"]), "")
        lines += (block[1:] if lines else block) + clients
    return lines


def _vds_bound(d: Document) -> list[str]:
    lines: list[str] = []
    columns = (("CLIENT", 28), ("VOLUME", 0))
    for s in d["vds"]:
        block = section("VDS", VDS_COLUMNS, vds_rows(s))
        clients = _under(columns, ((c["name"], c["volume"]) for c in s["clients"]), "")
        lines += (block[1:] if lines else block) + clients
    return lines


# -- whole reports ------------------------------------------------------------------------------

_EXTRA: tuple[Section, ...] = (_softstate, _mac, _hostid, _control, _dependency)
_LONG: tuple[Section, ...] = (
    _vcpu, _mau, _memory, _variables, _io, _vcc, _vsw, _vds, _network, _disk, _vcons,
    _notice,
)  # fmt: skip
_BOUND: tuple[Section, ...] = (
    _vcpu, _mau, _memory, _variables, _io, _vcc_bound, _vsw_bound, _vds_bound, _network_bound,
    _disk, _vcons, _notice,
)  # fmt: skip
FORMATS: dict[str, tuple[Section, ...]] = {
    "console": (_vcc, _vcons),
    "cpu": (_vcpu,),
    "crypto": (_mau,),
    "disk": (_vds, _disk),
    "domain": (_softstate, _hostid, _control, _dependency, _variables),
    "memory": (_memory,),
    "network": (_mac, _vsw, _network),
    "physio": (_io,),
    "serial": (),
    "status": (status, _notice),
}
"""Sections of ``-o`` (digest 2.6)."""


def long(documents: Iterable[Document], *, extended: bool = False) -> list[str]:
    """``ldm list -l``, or ``-e``: a report a domain, a line of dashes between."""
    sections = (*(_EXTRA if extended else ()), *_LONG)
    return reports(documents, lambda d: joined([short([d]), *(s(d) for s in sections)]))


def bindings(documents: Iterable[Document], *, extended: bool = False) -> list[str]:
    """``ldm list-bindings``: as ``-l`` or ``-e``, with peers and clients under each device."""
    sections = (*(_EXTRA if extended else ()), *_BOUND)
    return reports(documents, lambda d: joined([short([d]), *(s(d) for s in sections)]))


def subset(documents: Iterable[Document], formats: Sequence[str]) -> list[str]:
    """``ldm list -o``: the sections of *formats* under the name alone."""

    def report(d: Document) -> list[str]:
        header = ["NAME", d["name"]]
        if "domain" in formats:
            widths = (17, 11, 8, 0)
            cells = (d["name"], d["state"], d["flags"], with_sign(d["util"]))
            header = [row(widths, ("NAME", "STATE", "FLAGS", "UTIL")), row(widths, cells)]
        return joined([header, *(s(d) for f in formats for s in FORMATS[f])])

    return reports(documents, report)
