"""``ldm-setup import-libvirt``: a libvirt domain's XML as ``ldm`` commands.

A pure translator.  Each element of the description ends in one of the lists of ``Plan``: nothing
is dropped in silence.  Source: libvirt's formatdomain.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree import ElementTree

from lodom.core.errors import InvalidValue
from lodom.core.units import MIB, format_size, round_up
from lodom.grammar.values import LDOM

MOST = 1 << 20
"""No description of a domain is larger."""
_DIGITS = 18
"""No number in one has more."""
_UNITS = {
    "b": 1, "bytes": 1, "kb": 1000, "k": 1 << 10, "kib": 1 << 10, "mb": 10**6, "m": MIB,
    "mib": MIB, "gb": 10**9, "g": 1 << 30, "gib": 1 << 30, "tb": 10**12, "t": 1 << 40,
    "tib": 1 << 40,
}  # fmt: skip
_CLASSES = {"hd": "disk", "cdrom": "cdrom", "network": "net"}
_GIVEN = {
    "controller": "controllers are laid out anew",
    "input": "the console is a serial line",
    "graphics": "the console is a serial line: log in on ttyS0, or over the network",
    "video": "the console is a serial line",
    "sound": "there is no sound",
    "audio": "there is no sound",
    "memballoon": "memory is a domain's own: change it with ldm set-memory",
    "hostdev": "a device of the host ties the guest to it",
    "emulator": "the machine's own QEMU is used",
    "rng": "the guest's kernel has its own entropy",
    "tpm": "there is no TPM: a disk that is sealed to it will ask for its recovery key",
    "console": "",
    "serial": "",
}
"""Devices that are not taken over, and why; empty: every domain has one."""
_ELSE = {
    "uuid": "the domain gets an id of its own",
    "clock": "the guest's clock is in UTC",
    "cpu": "the CPU is what both machines have: ldm set-variable cpu-model=... changes it",
    "features": "the machine's own are used",
    "on_crash": "ldm set-domain failure-policy=... is about masters; a panic restarts the guest",
}
_DISK = {
    "serial": "in the guest, name the disk by UUID or label, not by this",
    "wwn": "in the guest, name the disk by UUID or label, not by this",
    "encryption": "Lodom opens no encrypted image: qemu-img convert it first",
    "shareable": "a disk belongs to one domain",
    "transient": "what the guest writes stays",
    "host": "the monitors are those of ceph.conf",
}
"""What of a disk or its source is not taken over, and why."""
_DISK_KEPT = {
    "driver", "source", "target", "address", "alias", "boot", "readonly", "auth", "backingStore",
    "config", "snapshot",
}  # fmt: skip
_ATTRIBUTES = {
    "driver": {"name", "type", "io", "discard=unmap", "cache=none", "cache=default"},
    "source": {"file", "dev", "name", "protocol", "index", "tls=no"},
}
"""Of a disk: what is read, what is always so here, and what only makes it faster."""
_NIC = {
    "filterref": "nothing filters what it sends; do it in the host's bridge",
    "bandwidth": "nothing limits it",
    "mtu": "that of the switch counts: ldm set-vsw mtu=...",
    "link": "the device is connected",
    "port": "it reaches every device of the switch",
}
_NIC_KEPT = {"mac", "source", "model", "boot", "vlan", "target", "address", "alias"}
_MEANT = {"on_poweroff": "destroy", "on_reboot": "restart"}
"""What they say usually, and what always happens here."""


@dataclass
class Plan:
    """What becomes of the description, in lines for a reader, and the commands behind ``ldm``."""

    name: str
    kept: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    """What must be done by hand before the commands are run."""
    commands: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Device:
    """A disk or network device that came over: its name here, its place in the boot order."""

    name: str
    order: int


def translate(
    text: bytes, *, name: str = "", switch: str = "primary-vsw0", service: str = "primary-vds0"
) -> Plan:
    """The plan for the domain that *text* describes; *name* is another name for it.

    Raises:
        InvalidValue: it is no description of a domain that can run here.
    """
    root = _parsed(text)
    plan = Plan(_named(name or (root.findtext("name") or "").strip()))
    _add(plan, "add-domain")
    _size(plan, root)
    devices = root.find("devices")
    found = [] if devices is None else list(devices)
    disks = [d for e in found if e.tag == "disk" and (d := _disk(plan, e, service))]
    nets = [e for e in found if e.tag == "interface"]
    nics = [d for number, e in enumerate(nets) if (d := _nic(plan, e, number, switch))]
    for element in found:
        _other_device(plan, element)
    _boot(plan, root, disks, nics)
    for element in root:
        _other(plan, element)
    return plan


def _parsed(text: bytes) -> ElementTree.Element:
    def refused(why: str) -> InvalidValue:
        return InvalidValue(what="libvirt description", value="of the domain", why=why)

    if len(text) > MOST:
        raise refused(f"more than {format_size(MOST)}")
    try:
        words = text.decode()
        if "\0" in words:  # the parser would guess UTF-16, and find there what is not seen here
            raise refused("it is not UTF-8 text")
        # Entities are what makes XML dangerous, and no description has a reason for any.
        if "<!DOCTYPE" in words or "<!ENTITY" in words:
            raise refused("it declares a document type or entities; take virsh dumpxml's output")
        root = ElementTree.fromstring(words)  # noqa: S314 - see above
    except UnicodeDecodeError as e:
        raise refused("it is not UTF-8 text") from e
    except ElementTree.ParseError as e:
        raise refused(f"it is not well-formed XML: {e}") from e
    except ValueError as e:
        raise refused(str(e)) from e
    if root.tag != "domain":
        raise refused(f"it describes <{root.tag}>, not <domain>; take virsh dumpxml NAME's output")
    kind, arch = root.findtext("os/type") or "hvm", root.find("os/type")
    if kind != "hvm" or (arch is not None and arch.get("arch", "x86_64") != "x86_64"):
        raise refused("only full virtual machines (hvm) of x86_64 can run here")
    return root


def _named(name: str) -> str:
    try:
        return str(LDOM.convert(name))
    except ValueError as e:
        why = f"{e}; give another one: ldm-setup import-libvirt --name NAME FILE"
        raise InvalidValue(what="name", value=name, why=why) from e


def _add(plan: Plan, *words: str) -> None:
    plan.commands.append([*words, plan.name])


# -- strands and memory -------------------------------------------------------------------------


def _size(plan: Plan, root: ElementTree.Element) -> None:
    vcpu = root.find("vcpu")
    most = "1" if vcpu is None else (vcpu.text or "").strip()
    count = _whole("vcpu", most if vcpu is None else vcpu.get("current", most))
    plan.kept.append(f"{count} virtual CPUs")
    if str(count) != most:
        plan.lost.append(f"room for {most} CPUs: ldm add-vcpu adds them when they are wanted")
    if vcpu is not None and vcpu.get("cpuset"):
        plan.lost.append(
            f"CPUs {vcpu.get('cpuset')} of the host: the domain gets strands of its own"
        )
    _add(plan, "set-vcpu", str(count))
    memory = root.find("memory")
    if memory is None:
        raise InvalidValue(what="libvirt description", value=plan.name, why="it has no <memory>")
    unit = _UNITS.get(memory.get("unit", "KiB").lower(), 0)
    if not unit:
        raise InvalidValue(what="unit of memory", value=memory.get("unit", ""), why="not known")
    size = round_up(_whole("memory", (memory.text or "").strip()) * unit, 2 * MIB)
    plan.kept.append(f"{format_size(size)} of memory")
    _add(plan, "set-memory", format_size(size))


def _whole(what: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and int(text)):
        raise InvalidValue(what=what, value=text, why="not a whole number above 0")
    return int(text)


# -- devices ------------------------------------------------------------------------------------


def _disk(plan: Plan, element: ElementTree.Element, service: str) -> _Device | None:
    target = element.find("target")
    name = "" if target is None else target.get("dev", "")
    kind = element.get("device", "disk")
    backend = _backend(element)
    if kind not in ("disk", "cdrom", "lun") or not re.fullmatch(r"[A-Za-z0-9]+", name):
        why = "only disks and CDs with a plain name are taken over"
        plan.lost.append(f"{kind} {name or '?'}: {why}")
        return None
    if not backend:
        what = (
            "an empty CD drive" if kind == "cdrom" else f"no back end of a kind known here: {kind}"
        )
        if (source := element.find("source")) is not None and source.get("tls") == "yes":
            what = "its server is to be spoken to by TLS, which is not known here"
        plan.lost.append(f"disk {name}: {what}; add it with ldm add-vdsdev and ldm add-vdisk")
        return None
    driver = element.find("driver")
    form = "raw" if driver is None else driver.get("type", "raw")
    if form != "raw" and (not backend.startswith("/") or backend.startswith("/dev/")):
        why = f"{form} in {backend}, where only raw disks can be: qemu-img convert it to a file"
        plan.lost.append(f"disk {name}: {why}, then ldm add-vdsdev and ldm add-vdisk")
        return None
    backend = _formatted(plan, name, backend, form)
    read_only = kind == "cdrom" or element.find("readonly") is not None
    options = ["options=ro"] if read_only else []
    volume = f"{plan.name}-{name}@{service}"
    plan.commands.append(["add-vdsdev", *options, backend, volume])
    _add(plan, "add-vdisk", name, volume)
    plan.kept.append(f"disk {name}: {backend}{', read-only' if read_only else ''}")
    if kind == "cdrom" and not backend.endswith(".iso"):
        plan.lost.append(f"CD {name}: a read-only disk, as its name does not end in .iso")
    _of(plan, f"disk {name}", element, _DISK_KEPT, _DISK)
    _attributes(plan, f"disk {name}", element)
    bus = "" if target is None else target.get("bus", "virtio")
    if kind != "cdrom" and bus != "virtio":
        plan.lost.append(f"disk {name}: bus {bus} becomes virtio; the guest needs its drivers")
    return _Device(name, _order(element))


def _of(
    plan: Plan, what: str, element: ElementTree.Element, kept: set[str], lost: dict[str, str]
) -> None:
    """Say what else *element* and its source have."""
    source = element.find("source")
    own = [] if source is None else list(source)
    if source is not None and source.get("protocol") == "nbd":
        kept = kept | {"host"}
    for child in [*element, *own]:
        if child.tag not in kept:
            why = lost.get(child.tag, "there is nothing like it")
            plan.lost.append(f"{child.tag} of {what}: {why}")


def _attributes(plan: Plan, what: str, element: ElementTree.Element) -> None:
    """Say what the words of a disk's driver and source order that nothing here does."""
    for tag, kept in _ATTRIBUTES.items():
        child = element.find(tag)
        for key, value in {} if child is None else child.attrib.items():
            if not kept & {key, f"{key}={value}"}:
                plan.lost.append(f"{key}={value} of {what}: there is nothing like it")


def _backend(element: ElementTree.Element) -> str:
    """A path or URL; empty where there is none that ldm takes."""
    source = element.find("source")
    if source is None or source.get("tls") == "yes":  # in clear it would be another connection
        return ""
    path = source.get("file") or source.get("dev") or ""
    if path.startswith("/"):
        return path
    host, where = source.find("host"), source.get("name", "")
    if source.get("protocol") == "rbd" and where:
        auth = element.find("auth")
        user = "" if auth is None else f":id={auth.get('username', 'admin')}"
        at, conf = source.find("snapshot"), source.find("config")
        snapshot = "" if at is None else f"@{at.get('name', '')}"
        file = "" if conf is None else f":conf={conf.get('file', '')}"
        return f"rbd:{where}{snapshot}{user}{file}"
    if source.get("protocol") == "nbd" and host is not None and host.get("name"):
        server = host.get("name", "")
        server = f"[{server}]" if ":" in server else server
        return f"nbd://{server}:{host.get('port', '10809')}/{where}"
    return ""


def _formatted(plan: Plan, name: str, backend: str, form: str) -> str:
    """The back end as it is to be named: a qcow2 image is one by its name."""
    if form == "raw":
        return backend
    new = backend if backend.endswith(".qcow2") else f"{backend}.qcow2"
    if form != "qcow2":
        words = ["qemu-img", "convert", "-f", form, "-O", "qcow2", backend, new]
        plan.before.append(f"disk {name}: {shlex.join(words)}")
    elif new != backend:
        plan.before.append(f"disk {name}: {shlex.join(['mv', backend, new])}")
    return new


def _nic(plan: Plan, element: ElementTree.Element, number: int, switch: str) -> _Device | None:
    name, kind = f"vnet{number}", element.get("type", "")
    source = element.find("source")
    where = " ".join([] if source is None else sorted(source.attrib.values()))
    if kind not in ("network", "bridge", "direct", "ethernet"):
        plan.lost.append(f"network device {number} ({kind} {where}): add it by ldm add-vnet")
        return None
    mac = element.find("mac")
    address = [] if mac is None else [f"mac-addr={mac.get('address', '')}"]
    _add(plan, "add-vnet", *address, name, switch)
    plan.kept.append(f"network device {name}: {' '.join([*address, 'on', switch])}")
    plan.lost.append(f"network {where or kind}: {name} is on {switch}; see that they are the same")
    if (model := element.find("model")) is not None and model.get("type") != "virtio":
        plan.lost.append(f"network card {model.get('type')}: {name} is virtio; mind its drivers")
    if element.find("vlan") is not None:
        plan.lost.append(f"VLAN of {name}: ldm set-vnet pvid=... {name} {plan.name}")
    _of(plan, name, element, _NIC_KEPT, _NIC)
    return _Device(name, _order(element))


def _order(element: ElementTree.Element) -> int:
    boot = element.find("boot")
    return 0 if boot is None else _whole("boot order", boot.get("order", ""))


def _other_device(plan: Plan, element: ElementTree.Element) -> None:
    if element.tag in ("disk", "interface"):
        return
    target = element.find("target")
    if element.tag == "channel" and target is not None and "guest_agent" in target.get("name", ""):
        plan.kept.append("channel of the guest agent: every domain has one")
        return
    why = _GIVEN.get(element.tag, "not known here")
    kind = " ".join(filter(None, (element.tag, element.get("type") or element.get("model"))))
    if why:
        plan.lost.append(f"{kind}: {why}")
    elif "serial console on ttyS0" not in plan.kept:
        plan.kept.append("serial console on ttyS0")


# -- firmware and boot --------------------------------------------------------------------------


def _boot(plan: Plan, root: ElementTree.Element, disks: list[_Device], nics: list[_Device]) -> None:
    system = root.find("os")
    if system is None:
        return
    loader = system.find("loader")
    if system.get("firmware") == "efi" or (loader is not None and loader.get("type") == "pflash"):
        _variable(plan, "firmware", "uefi")
        plan.lost.append(
            "UEFI variables: boot entries are made anew from the disk's fallback path "
            "(EFI/BOOT/BOOTX64.EFI)"
        )
        if loader is not None and loader.get("secure") == "yes":
            plan.lost.append("secure boot: this firmware does not check signatures")
    elif loader is not None:
        words = "the machine's own BIOS is used; if it is UEFI: ldm set-variable firmware=uefi"
        plan.lost.append(f"loader {(loader.text or '').strip()}: {words} {plan.name}")
    for tag, variable in (("kernel", "boot-kernel"), ("initrd", "boot-initrd")):
        _variable(plan, variable, system.findtext(tag) or "")
    _variable(plan, "boot-args", system.findtext("cmdline") or "")
    ordered = sorted((d.order, d.name) for d in [*disks, *nics] if d.order)
    named = [e.get("dev", "") for e in system.findall("boot")]
    plan.lost += [f"boot from {d}: there is nothing like it" for d in named if d not in _CLASSES]
    classes = [_CLASSES[d] for d in named if d in _CLASSES]
    _variable(plan, "boot-device", " ".join([name for _, name in ordered] or classes))
    kind = system.find("type")
    machine = "" if kind is None else kind.get("machine", "")
    if re.fullmatch(r"pc-q35-\d+\.\d+", machine):
        _variable(plan, "machine-type", machine)
    elif machine and machine != "q35":
        plan.lost.append(f"machine type {machine}: it becomes q35; device names may change")
    for element in system:
        if element.tag not in ("type", "loader", "nvram", "boot", "kernel", "initrd", "cmdline"):
            plan.lost.append(f"{element.tag} of <os>: the machine's own is used")


def _variable(plan: Plan, name: str, value: str) -> None:
    if value:
        _add(plan, "set-variable", f"{name}={value}")
        plan.kept.append(f"{name} {value}")


def _other(plan: Plan, element: ElementTree.Element) -> None:
    tag = str(element.tag).rpartition("}")[2]
    if tag in ("name", "memory", "vcpu", "os", "devices"):
        return
    text = (element.text or "").strip()
    if tag == "currentMemory" or _MEANT.get(tag) == text:
        return
    if tag == "clock" and element.get("offset") == "utc":
        plan.kept.append("clock in UTC")
        return
    why = _ELSE.get(tag, "a domain has nothing like it")
    plan.lost.append(f"{tag}: {why}")


def report(plan: Plan) -> Iterator[str]:
    """The plan's lines for a reader, the commands apart."""
    for title, lines in (
        ("Kept", plan.kept),
        ("Not kept", plan.lost),
        ("To do before these commands", plan.before),
    ):
        if lines:
            yield f"{title}:"
            yield from (f"    {line}" for line in lines)
