"""Facts that do not forbid a migration of a domain but are said before it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from facts_means import DISK, VDS, VSW, A, B, Pair, bound, exported, file_of, removed, row
from machines import Machine

from lodom.host.net import bridge_name


@contextmanager
def attached(p: Pair, *machines: Machine, options: str = "", switch: str = VSW) -> Iterator[None]:
    """Bound domains with a network device: ``ldg2`` on the first machine, ``user`` on the other."""
    with ExitStack() as stack:
        for machine in machines:
            name = "ldg2" if machine is p.a else "user"
            stack.enter_context(bound(machine, name))
            machine.ldm("unbind-domain", name)
            machine.ldm("add-vnet", *options.split(), "vnet0", switch, name)
            machine.ldm("bind-domain", name)
        yield


@row(
    "R02",
    f"The control domain of {B} has no cryptographic units: the copy uses 2 streams; with 1 it "
    "would be up to 1.5 times as fast",
    severity="note",
)
def no_units_there(p: Pair) -> Iterator[None]:
    p.b.ldm("set-mau", "0", "primary")
    try:
        yield
    finally:
        p.b.ldm("set-mau", "1", "primary")


@row(
    "R28",
    f"LDom ldg1 will read AND OVERWRITE ldg1@{VDS} of {B} as its boot disk vdisk0, which is other "
    "storage: the sizes differ: 16M and 8M",
    severity="warning",
    options="-f",
)
def another_file_by_force(p: Pair) -> Iterator[None]:
    with exported(p.b, file_of(p.folder / "forced.img", DISK // 2)):
        yield


@row(
    "R22 R33",
    f"Switch switch-y of vnet0 has an uplink on {A} and none on {B}",
    ldom="ldg2",
    severity="warning",
)
def the_switch_has_no_uplink_there(p: Pair) -> Iterator[None]:
    p.a.in_namespace("ip", "link", "add", "nic9", "type", "veth", "peer", "name", "nic9p")
    try:
        with switched(p, "net-dev=nic9"):
            yield
    finally:
        p.a.in_namespace("ip", "link", "del", "nic9")


OTHERS = "Switch switch-y of vnet0 seems to be on different networks: "


@row(
    "R33",
    f"{OTHERS}10.77.1.0/24 on {A}, 10.77.2.0/24 on {B}",
    ldom="ldg2",
    severity="warning",
)
def the_prefixes_differ(p: Pair) -> Iterator[None]:
    with switched(p):
        for machine, address in ((p.a, "10.77.1.5/24"), (p.b, "10.77.2.5/24")):
            machine.in_namespace("ip", "addr", "add", address, "dev", bridge(machine))
        yield


@row(
    "R33",
    f"{OTHERS}10.77.1.1 is 02:00:00:00:77:0a on {A}, 10.77.1.1 is 02:00:00:00:77:0b on {B}",
    ldom="ldg2",
    severity="warning",
)
def the_gateways_differ(p: Pair) -> Iterator[None]:
    with switched(p):
        for machine, letter in ((p.a, "a"), (p.b, "b")):
            wire = ("dev", bridge(machine))
            run = machine.in_namespace
            run("ip", "addr", "add", f"10.77.1.{ord(letter)}/24", *wire)
            gateway = ("10.77.1.1", "lladdr", f"02:00:00:00:77:0{letter}")
            run("ip", "neigh", "replace", *gateway, *wire, "nud", "stale")
        yield


@row("L19", f"vnet0 has MTU 9000, switch switch-y on {B} 1500", ldom="ldg2", severity="warning")
def frames_are_smaller_there(p: Pair) -> Iterator[None]:
    with switched(p, "mtu=9000"):
        yield


@row("L19", f"vnet0 has MTU 1500, switch switch-y on {B} 1400", ldom="ldg2", severity="warning")
def its_bridge_has_been_given_less(p: Pair) -> Iterator[None]:
    with switched(p):
        p.b.in_namespace("ip", "link", "set", bridge_name(B, "switch-y"), "mtu", "1400")
        yield


@contextmanager
def switched(p: Pair, *option: str) -> Iterator[None]:
    """``ldg2`` on a switch of both machines, which has *option* only on the first."""
    p.a.ldm("add-vsw", *option, "switch-y", "primary")
    p.b.ldm("add-vsw", "switch-y", "primary")
    try:
        with attached(p, p.a, switch="switch-y"):
            yield
    finally:
        for machine in (p.a, p.b):
            machine.ldm("remove-vsw", "switch-y")


def bridge(machine: Machine) -> str:
    """The bridge of ``switch-y``."""
    return bridge_name(machine.name, "switch-y")


@row(
    "R36",
    f"The console of LDom ldg2 is set anew on {B}; port=5050 group=mine is not kept",
    ldom="ldg2",
    severity="note",
)
def a_console_as_wished(p: Pair) -> Iterator[None]:
    p.a.ldm("add-domain", "ldg2")
    try:
        p.a.ldm("set-vcons", "port=5050", "group=mine", "ldg2")
        yield
    finally:
        removed(p.a, "ldg2")


@row(
    "R40 R41 R42",
    f"mode=hybrid of vnet0 is kept and not fulfilled on {B}",
    ldom="ldg2",
    severity="note",
)
def hybrid_is_wished(p: Pair) -> Iterator[None]:
    with attached(p, p.a, options="mode=hybrid"):
        yield


@row(
    "L20",
    f"MAC address 00:14:4f:fc:ab:cd of vnet0 of LDom ldg2, set by hand, is in use on {B} by "
    "vnet vnet0 of LDom user",
    ldom="ldg2",
    severity="warning",
)
def the_address_is_in_use(p: Pair) -> Iterator[None]:
    with attached(p, p.a, p.b, options="mac-addr=00:14:4f:fc:ab:cd"):
        yield


@row(
    "L21",
    f"{B} has 0 free cryptographic units on the cores for LDom ldg2, which has 1 bound",
    ldom="ldg2",
    severity="warning",
)
def all_units_are_taken(p: Pair) -> Iterator[None]:
    with bound(p.a, "ldg2", mau=1), bound(p.b, "taker", vcpus=11, mau=3):
        yield


@row(
    "L23",
    f"The next boot of {B} restores the configuration factory-default, without LDom ldg1",
    severity="warning",
)
def a_configuration_is_selected_there(p: Pair) -> Iterator[None]:
    p.b.ldm("set-spconfig", "factory-default")
    try:
        yield
    finally:
        p.b.ldm("add-spconfig", "as-it-is")
        p.b.ldm("remove-spconfig", "as-it-is")
