"""``-p``: one record a line, ``KEYWORD|attr=value``, rows beginning with a bar (digest 2.9).

Sizes are bytes, addresses hex, uptime seconds, percentages without their sign.  Ours at the end of
a row: ``held=`` on strands that are held back (R06).
"""

from collections.abc import Callable, Collection, Iterable, Sequence

from lodom.cli.render.form import VERSION, Document, cpuset, numbers, percent, record

Records = Callable[[Document], list[str]]


def _table(keyword: str, rows: list[str]) -> list[str]:
    return [keyword, *rows] if rows else []


def _blank(value: object) -> object:
    return "" if value is None or value == 0 else value


# -- records of a domain ------------------------------------------------------------------------


def _domain(d: Document) -> str:
    """Flags as words, in every parseable list (digest 2.3)."""
    return record(
        "DOMAIN",
        ("name", d["name"]),
        ("state", d["state"]),
        ("flags", ",".join(d["flag_words"])),
        ("cons", d["console"]),
        ("ncpu", _blank(d["vcpus"])),
        ("mem", _blank(d["memory"])),
        ("util", percent(d["util"])),
        ("uptime", "" if d["uptime"] is None else d["uptime"]),
    )


def _softstate(d: Document) -> list[str]:
    return [record("SOFTSTATE", ("softstate", d["softstate"]))] if d["softstate"] else []


def _mac(d: Document) -> list[str]:
    return [record("MAC", ("mac-addr", d["mac"]))]


def _hostid(d: Document) -> list[str]:
    return [record("HOSTID", ("hostid", d["hostid"]))]


def _control(d: Document) -> list[str]:
    return [record("CONTROL", ("failure-policy", d["failure_policy"]))]


def _dependency(d: Document) -> list[str]:
    return [record("DEPENDENCY", ("master", ",".join(d["masters"])))]


def _vcpu(d: Document) -> list[str]:
    rows = [
        record("", ("vid", v["vid"]), ("pid", v["pid"]), ("util", percent(v["util"])),
               ("strand", v["strand"]))
        for v in d["vcpu"]
    ]  # fmt: skip
    return _table("VCPU", rows)


def _mau(d: Document) -> list[str]:
    rows = [record("", ("id", u["id"]), ("cpuset", cpuset(u["cpuset"]))) for u in d["mau"]]
    return _table("MAU", rows)


def _memory(d: Document) -> list[str]:
    rows = [record("", ("ra", b["ra"]), ("pa", b["pa"]), ("size", b["size"])) for b in d["blocks"]]
    return _table("MEMORY", rows)


def _variables(d: Document) -> list[str]:
    return _table("VARIABLES", [record("", (v["name"], v["value"])) for v in d["variables"]])


def _io(d: Document) -> list[str]:
    rows = [record("", ("dev", b["device"]), ("alias", b["pseudonym"])) for b in d["io"]]
    return _table("IO", rows)


def _vcc(d: Document) -> list[str]:
    return [
        record("VCC", ("name", s["name"]), ("port-range", f"{s['low']}-{s['high']}"))
        for s in d["vcc"]
    ]


def _vsw_record(s: Document) -> str:
    return record(
        "VSW", ("name", s["name"]), ("mac-addr", s["mac"]), ("net-dev", s["net_dev"]),
        ("dev", s["device"]), ("default-vlan-id", s["default_vlan"]), ("pvid", s["pvid"]),
        ("vid", numbers(s["vids"])), ("mtu", s["mtu"]), ("mode", s["mode"]), ("id", s["id"]),
    )  # fmt: skip


def _vsw(d: Document) -> list[str]:
    return [_vsw_record(s) for s in d["vsw"]]


def _vds_records(s: Document) -> list[str]:
    rows = [
        record("", ("vol", v["name"]), ("opts", ",".join(v["options"])), ("dev", v["device"]),
               ("mpgroup", v["mpgroup"]))
        for v in s["volumes"]
    ]  # fmt: skip
    return [record("VDS", ("name", s["name"])), *rows]


def _vds(d: Document) -> list[str]:
    return [line for s in d["vds"] for line in _vds_records(s)]


def _vnet_record(v: Document) -> str:
    service = f"{v['switch']}@{v['owner']}" if v["owner"] else v["switch"]
    return record(
        "VNET", ("name", v["name"]), ("dev", v["device"]), ("service", service),
        ("mac-addr", v["mac"]), ("pvid", v["pvid"]), ("vid", numbers(v["vids"])),
        ("mtu", v["mtu"]), ("mode", v["mode"]), ("id", v["id"]),
    )  # fmt: skip


def _vnet(d: Document) -> list[str]:
    return [_vnet_record(v) for v in d["network"]]


def _vdisk(d: Document) -> list[str]:
    return [
        record(
            "VDISK", ("name", v["name"]), ("vol", f"{v['volume']}@{v['service']}"),
            ("timeout", _blank(v["timeout"])), ("dev", v["device"]), ("server", v["server"]),
            ("mpgroup", v["mpgroup"]), ("id", v["id"]),
        )
        for v in d["disk"]
    ]  # fmt: skip


def _vcons(d: Document) -> list[str]:
    console = d["vcons"]
    if console["type"]:
        return [record("VCONS", ("type", console["type"]))]
    if not (console["service"] or console["group"] or console["port"]):
        return []
    service = f"{console['service']}@{console['owner']}" if console["owner"] else console["service"]
    pairs = (("group", console["group"]), ("service", service), ("port", _blank(console["port"])))
    return [record("VCONS", *pairs)]


def _status(d: Document) -> list[str]:
    operation = d["operation"]
    if operation is None:
        return []
    other = "target" if operation["role"] == "source" else "source"
    row = record(
        "", ("op", operation["operation"]), ("progress", operation["progress"]),
        ("error", "yes" if operation["error"] else "no"), (other, operation["peer"]),
    )  # fmt: skip
    return ["STATUS", row]


# -- with peers and clients ---------------------------------------------------------------------


def _peers(device: Document) -> list[str]:
    return [record("", ("peer", p["name"]), ("mac-addr", p["mac"])) for p in device["peers"]]


def _vcc_bound(d: Document) -> list[str]:
    lines = []
    for line, s in zip(_vcc(d), d["vcc"], strict=True):
        rows = [record("", ("client", c["name"]), ("port", c["port"])) for c in s["clients"]]
        lines += [line, *rows]
    return lines


def _vsw_bound(d: Document) -> list[str]:
    return [line for s in d["vsw"] for line in (_vsw_record(s), *_peers(s))]


def _vds_bound(d: Document) -> list[str]:
    lines = []
    for s in d["vds"]:
        rows = [record("", ("client", c["name"]), ("vol", c["volume"])) for c in s["clients"]]
        lines += [*_vds_records(s), *rows]
    return lines


def _vnet_bound(d: Document) -> list[str]:
    return [line for v in d["network"] for line in (_vnet_record(v), *_peers(v))]


# -- whole reports ------------------------------------------------------------------------------

_EXTRA: tuple[Records, ...] = (_softstate, _mac, _hostid, _control, _dependency)
_LONG: tuple[Records, ...] = (
    _vcpu, _mau, _memory, _variables, _io, _vcc, _vsw, _vds, _vnet, _vdisk, _vcons,
)  # fmt: skip
_BOUND: tuple[Records, ...] = (
    _mac, _hostid, _control, _dependency, _vcpu, _mau, _memory, _variables, _io, _vcc_bound,
    _vsw_bound, _vds_bound, _vnet_bound, _vdisk, _vcons,
)  # fmt: skip
FORMATS: dict[str, tuple[Records, ...]] = {
    "console": (_vcc, _vcons),
    "cpu": (_vcpu,),
    "crypto": (_mau,),
    "disk": (_vds, _vdisk),
    "domain": (_softstate, _hostid, _control, _dependency, _variables),
    "memory": (_memory,),
    "network": (_mac, _vsw, _vnet),
    "physio": (_io,),
    "serial": (),
    "status": (_status,),
}


def short(documents: Iterable[Document]) -> list[str]:
    """``ldm list -p``."""
    return [VERSION, *map(_domain, documents)]


def _full(documents: Iterable[Document], sections: Sequence[Records]) -> list[str]:
    lines = [VERSION]
    for d in documents:
        lines.append(_domain(d))
        lines += [line for s in sections for line in s(d)]
    return lines


def long(documents: Iterable[Document], *, extended: bool = False) -> list[str]:
    """``ldm list -l -p``, or ``-e -p``."""
    return _full(documents, (*(_EXTRA if extended else ()), *_LONG))


def bindings(documents: Iterable[Document], *, extended: bool = False) -> list[str]:
    """``ldm list-bindings -p``: programs look for MAC, HOSTID and CONTROL here without ``-e``."""
    return _full(documents, (*((_softstate,) if extended else ()), *_BOUND))


def subset(documents: Iterable[Document], formats: Sequence[str]) -> list[str]:
    """``ldm list -o FORMAT -p``: the DOMAIN record has the name alone (migration digest 1.5)."""
    lines = [VERSION]
    for d in documents:
        lines.append(f"DOMAIN|name={d['name']}|")
        lines += [line for f in formats for s in FORMATS[f] for line in s(d)]
    return lines


def devices(d: Document, wanted: Collection[str], *, everything: bool) -> list[str]:
    """``ldm list-devices -p``: free devices, or all; bound ones alone have ``bound=``."""
    tables = {"cpu": _strands, "mau": _units, "memory": _blocks, "io": _buses}
    lines = [VERSION]
    for name, table in tables.items():
        if not wanted or name in wanted:
            lines += table(d, everything)
    return lines + (_functions(d) if everything and "io" in wanted else [])


def _strands(d: Document, everything: bool) -> list[str]:
    rows = [
        record("", ("pid", s["pid"]), ("free", s["free"]), ("pm", "" if s["free"] else "no"),
               *((("held", s["held"]),) if s["held"] else ()))
        for s in d["vcpu"]
        if everything or s["free"]
    ]  # fmt: skip
    return _table("VCPU", rows)


def _units(d: Document, everything: bool) -> list[str]:
    rows = [
        record("", ("id", u["id"]), ("cpuset", cpuset(u["cpuset"])), *_bound(u["bound"]))
        for u in d["mau"]
        if everything or not u["bound"]
    ]
    return _table("MAU", rows)


def _blocks(d: Document, everything: bool) -> list[str]:
    rows = [
        record("", ("pa", b["pa"]), ("size", b["size"]), *_bound(b["bound"]))
        for b in d["memory"]
        if everything or not b["bound"]
    ]
    return _table("MEMORY", rows)


def _buses(d: Document, everything: bool) -> list[str]:
    rows = [
        record("", ("dev", b["device"]), ("alias", b["pseudonym"]), *_bound(b["bound"]), *_opts(b))
        for b in d["io"]
        if everything or not b["bound"]
    ]
    return _table("IO", rows)


def _functions(d: Document) -> list[str]:
    rows = [
        record("", ("dev", f["address"]), ("bus", b["device"]), ("class", f["kind"]),
               ("id", f["id"]), ("driver", f["driver"]), ("group", f["group"]),
               *((("vf", "yes"),) if f["virtual"] else ()))
        for b in d["io"]
        for f in b["devices"]
    ]  # fmt: skip
    return _table("PCI", rows)


def _opts(bus: Document) -> tuple[tuple[str, object], ...]:
    return (("opts", "declared"),) if bus["source"] == "declared" else ()


def _bound(name: str) -> tuple[tuple[str, object], ...]:
    return (("bound", name),) if name else ()


def services(groups: Iterable[Document]) -> list[str]:
    """``ldm list-services -p``."""
    return [VERSION, *(line for g in groups for s in (_vcc, _vsw, _vds) for line in s(g))]


# -- constraints --------------------------------------------------------------------------------


def constraints(documents: Iterable[Document]) -> list[str]:
    """``ldm list-constraints -p`` (digest 2.10): counts, and services without their domain.

    What the sample of 1.2 does not print stands behind its fields, and only where it was set.
    """
    lines = [VERSION]
    for d in documents:
        control = bool(d["vcons"]["type"])
        lines += [record("DOMAIN", ("name", d["name"])), *(_mac(d) if control else ())]
        lines += [record("VCPU", ("count", d["vcpu"]))] if d["vcpu"] else []
        lines += [record("MAU", ("count", d["mau"]))] if d["mau"] else []
        lines += [record("MEMORY", ("size", d["memory"]))] if d["memory"] else []
        lines += [*_variables(d), *_io(d), *_asked_vds(d), *_vcc(d), *_asked_vsw(d)]
        lines += [*_asked_vnet(d), *_asked_vdisk(d)]
        lines += [] if control else _vcons({**d, "vcons": {**d["vcons"], "owner": ""}})
    return lines


def _set(*pairs: tuple[str, object]) -> list[tuple[str, object]]:
    return [(name, value) for name, value in pairs if value]


def _asked_vds(d: Document) -> list[str]:
    lines = []
    for s in d["vds"]:
        lines.append(record("VDS", ("name", s["name"])))
        for v in s["volumes"]:
            pairs = (("vol", v["name"]), ("opts", ",".join(v["options"])), ("dev", v["device"]))
            lines.append(record("", *pairs, *_set(("mpgroup", v["mpgroup"]))))
    return lines


def _asked_vsw(d: Document) -> list[str]:
    return [
        record("VSW", ("name", s["name"]), ("mac-addr", s["mac"]), ("net-dev", s["net_dev"]),
               ("dev", s["device"]), *_vlans(s), *_set(("mode", s["mode"])))
        for s in d["vsw"]
    ]  # fmt: skip


def _asked_vnet(d: Document) -> list[str]:
    return [
        record("VNET", ("name", v["name"]), ("dev", v["device"]), ("service", v["switch"]),
               ("mac-addr", v["mac"]), *_vlans(v), *_set(("mode", v["mode"])))
        for v in d["network"]
    ]  # fmt: skip


def _vlans(device: Document) -> list[tuple[str, object]]:
    return _set(
        ("pvid", device["pvid"] if device["pvid"] != 1 else ""),
        ("vid", numbers(device["vids"])),
        ("mtu", device["mtu"] if device["mtu"] != 1500 else ""),
    )


def _asked_vdisk(d: Document) -> list[str]:
    return [
        record("VDISK", ("name", v["name"]), ("vol", f"{v['volume']}@{v['service']}"),
               *_set(("timeout", v["timeout"])))
        for v in d["disk"]
    ]  # fmt: skip
