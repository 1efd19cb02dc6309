"""Text and ``-p`` as the samples of the digest print them (ldm-cli 2, choices of its section 5).

Where a sample of 1.2 lacks the columns of VLANs and MTU its rows are given here with them.
"""

from dataclasses import replace
from typing import Any

import pytest

from lodom.cli.render import render
from lodom.cli.render.form import percent, uptime
from lodom.core.model.domain import State
from lodom.core.model.host import Bus, PciDevice
from lodom.core.model.inventory import Inventory
from lodom.core.units import GIB
from lodom.core.views import Live, Moving, view

LIVE = Live(
    now=1_000 + 3 * 86_400 + 21 * 3_600 + 7 * 60,
    load={"u0": 0.5},
    vcpu_load={("u0", 1): 23.4},
    moving={"u1": Moving("s", "dt90-319", 20)},
    release="0.1.0",
    protocol="1",
    schema="1",
)


def shown(inventory: Inventory, verb: str, live: Live = LIVE, **arguments: Any) -> str:
    return "\n".join(render(verb, arguments, view(verb, arguments, inventory, live)))


def document(**fields: object) -> dict[str, object]:
    """The fields that a short list shows."""
    empty = {"console": "", "vcpus": 0, "memory": 0, "util": None, "uptime": None}
    return {**empty, **fields}


FIELD_CAPTURES = [
    (
        document(
            name="primary",
            state="active",
            flags="-n-c--",
            console="SP",
            vcpus=64,
            memory=32544 << 20,
            util=0.1,
            uptime=540,
        ),
        "primary          active     -n-c--  SP      64    32544M   0.1%  9m",
    ),
    (
        document(
            name="primary",
            state="active",
            flags="-ndcv-",
            console="SP",
            vcpus=8,
            memory=4 * GIB,
            util=0.1,
            uptime=2 * 3600 + 16 * 60 + 59,
        ),
        "primary          active     -ndcv-  SP      8     4G       0.1%  2h 16m",
    ),
    (
        document(name="ldg1", state="inactive", flags="------"),
        "ldg1             inactive   ------",
    ),
    (
        document(
            name="DR-PRD02-CBSDB02",
            state="bound",
            flags="------",
            console="5006",
            vcpus=16,
            memory=100 * GIB,
        ),
        "DR-PRD02-CBSDB02 bound      ------  5006    16    100G",
    ),
    (
        document(
            name="DR-PRD02-CBSAPP01",
            state="active",
            flags="-n----",
            console="5004",
            vcpus=16,
            memory=64 * GIB,
            util=0.3,
            uptime=45 * 86400 + 7 * 3600 + 55 * 60,
        ),
        "DR-PRD02-CBSAPP01 active     -n----  5004    16    64G      0.3%  45d 7h 55m",
    ),
    (
        document(
            name="ldg-src",
            state="suspended",
            flags="-n---s",
            vcpus=1,
            memory=GIB,
            util=0.0,
            uptime=2 * 3600 + 7 * 60,
        ),
        "ldg-src          suspended  -n---s          1     1G       0.0%  2h 7m",
    ),
]


@pytest.mark.parametrize(("given", "line"), FIELD_CAPTURES)
def test_short_list_as_captured_on_real_machines(given: dict[str, object], line: str) -> None:
    heading = "NAME             STATE      FLAGS   CONS    VCPU  MEMORY   UTIL  UPTIME"
    assert [heading, line] == render("list-domain", {}, {"domains": [given]})


def test_short_list_parseable(inventory: Inventory) -> None:
    assert shown(inventory, "list-domain", parseable=True) == (
        "VERSION 1.3\n"
        "DOMAIN|name=primary|state=active|flags=normal,control,vio-service|cons=SP|ncpu=4"
        "|mem=805306368|util=0.5|uptime=335220\n"
        "DOMAIN|name=ldg1|state=bound|flags=migration-source|cons=5000|ncpu=1|mem=268435456"
        "|util=|uptime=\n"
        "DOMAIN|name=ldg2|state=inactive|flags=|cons=|ncpu=|mem=|util=|uptime="
    )


LONG_PRIMARY = """\
NAME             STATE      FLAGS   CONS    VCPU  MEMORY   UTIL  UPTIME
primary          active     -n-cv-  SP      4     768M     0.5%  3d 21h 7m

VCPU
    VID    PID    UTIL STRAND
    0      0      0.0%   100%
    1      1       23%   100%
    2      2      0.0%   100%
    3      3      0.0%   100%

MAU
    CPUSET
    (0, 1, 2, 3)

MEMORY
    RA               PA               SIZE
    0x4000000        0x4000000        768M

IO
    DEVICE           PSEUDONYM        OPTIONS
    pci@780          bus_a

VCC
    NAME             PORT-RANGE
    vcc0             5000-5100

VSW
    NAME             MAC               NET-DEV   ID   DEVICE     DEFAULT-VLAN-ID PVID VID\
                  MTU   MODE
    vsw0             08:00:20:aa:bb:e0 e1000g0   0    switch@0   1               1   \
                      1500

VDS
    NAME             VOLUME         OPTIONS          MPGROUP        DEVICE
    vds0             myvol-a        slice                           /disk/a
                     myvol-b                                        /disk/b
                     myvol-c        ro,slice,excl    mp1            /disk/c
    vds1             myvol-d                                        /disk/d

VCONS
    SP"""
LONG_GUEST = """\
NAME             STATE      FLAGS   CONS    VCPU  MEMORY   UTIL  UPTIME
ldg1             bound      -----s  5000    1     256M

VCPU
    VID    PID    UTIL STRAND
    0      4             100%

MEMORY
    RA               PA               SIZE
    0x4000000        0x34000000       256M

VARIABLES
    boot-device=/virtual-devices@100/disk@0:a
    auto-boot?=false

NETWORK
    NAME             SERVICE                     ID   DEVICE     MAC               MODE   PVID \
VID                  MTU
    mynet-b          vsw0@primary                0    network@0  08:00:20:ab:9a:12        1    \
                     1500
    mynet-a          vsw0@primary                1    network@1  08:00:20:ab:9a:11        3    \
4,5                  1500

DISK
    NAME             VOLUME                      TOUT ID   DEVICE  SERVER         MPGROUP
    mydisk-a         myvol-a@vds0                     0    disk@0  primary
    mydisk-b         myvol-b@vds0                     1    disk@1  primary

VCONS
    NAME             SERVICE                     PORT
    mygroup          vcc0@primary                5000"""


def test_long_list(inventory: Inventory) -> None:
    text = shown(inventory, "list-domain", long=True, ldoms=["primary", "ldg1"])
    assert text == LONG_PRIMARY + "\n" + "-" * 78 + "\n" + LONG_GUEST


def test_extended_list_begins_with_what_1_2_adds(inventory: Inventory) -> None:
    inventory = inventory.with_domain(replace(inventory.named("ldg1"), state=State.ACTIVE))
    text = shown(inventory, "list-domain", extended=True, ldoms=["ldg1"])
    assert text.split("\n\nVCPU")[0].splitlines()[2:] == [
        "",
        "SOFTSTATE",
        "Guest agent does not answer",
        "",
        "MAC",
        "    00:14:4f:fa:ed:88",
        "",
        "HOSTID",
        "    0x84faed88",
        "",
        "CONTROL",
        "    failure-policy=ignore",
        "",
        "DEPENDENCY",
        "    master=primary",
    ]


@pytest.mark.parametrize("form", ["", "long", "extended"])
def test_flags_are_words_in_parseable_lists(inventory: Inventory, form: str) -> None:
    lines = shown(inventory, "list-domain", parseable=True, **{form: True}).splitlines()
    domains = [line.split("|")[3] for line in lines if line.startswith("DOMAIN")]
    assert domains == ["flags=normal,control,vio-service", "flags=migration-source", "flags="]


def test_memory_of_one_domain(inventory: Inventory) -> None:
    """The specification's own example of ``-o memory``."""
    ldg1 = inventory.named("ldg1")
    block = replace(ldg1.bound.blocks[0], ra=0x8000000, pa=0x208000000, size=2 * GIB)
    moved = replace(ldg1, name="ldg-src", bindings=replace(ldg1.bound, blocks=(block,)))
    text = shown(inventory.with_domain(moved), "list-domain", formats=["memory"], ldoms=["ldg-src"])
    assert text == (
        "NAME\nldg-src\n\nMEMORY\n"
        "    RA               PA               SIZE\n"
        "    0x8000000        0x208000000      2G"
    )


def test_status_on_the_source(inventory: Inventory) -> None:
    assert shown(inventory, "list-domain", formats=["status"], ldoms=["ldg1"]) == (
        "NAME\nldg1\n\nSTATUS\n"
        "    OPERATION    PROGRESS    TARGET\n"
        "    migration    20%         dt90-319"
    )


def test_status_on_the_target_parseable(inventory: Inventory) -> None:
    live = replace(LIVE, moving={"u1": Moving("t", "t5440-sys-1", 42)})
    arguments = {"formats": ["status"], "parseable": True, "ldoms": ["ldg1"]}
    assert shown(inventory, "list-domain", live, **arguments) == (
        "VERSION 1.3\nDOMAIN|name=ldg1|\nSTATUS\n"
        "|op=migration|progress=42|error=no|source=t5440-sys-1"
    )


def test_no_status_without_operation(inventory: Inventory) -> None:
    """Scripts poll until the word STATUS is gone."""
    assert shown(inventory, "list-domain", formats=["status"], ldoms=["ldg2"]) == "NAME\nldg2"


def test_bindings_of_a_guest_show_the_peers(inventory: Inventory) -> None:
    text = shown(inventory, "list-bindings", ldoms=["ldg1"])
    network = text.split("NETWORK\n")[1].split("\n\n")[0].splitlines()
    assert network[2:5] == [
        "        PEER                        MAC",
        "        vsw0@primary                08:00:20:aa:bb:e0",
        "        mynet-a@ldg1                08:00:20:ab:9a:11",
    ]
    assert network[5] == network[0]
    assert "\nMAC\n" not in text


def test_bindings_of_the_control_domain_show_the_clients(inventory: Inventory) -> None:
    text = shown(inventory, "list-bindings", ldoms=["primary"])
    for client in (
        "        CLIENT                      PORT\n        mygroup@ldg1                5000\n",
        "        CLIENT                      VOLUME\n        mydisk-a@ldg1               myvol-a\n",
        "        mynet-b@ldg1                08:00:20:ab:9a:12\n",
    ):
        assert client in text


def test_bindings_parseable(inventory: Inventory) -> None:
    lines = shown(inventory, "list-bindings", parseable=True).splitlines()
    vdisk = next(line for line in lines if line.startswith("VDISK"))
    assert vdisk == (
        "VDISK|name=mydisk-a|vol=myvol-a@vds0|timeout=|dev=disk@0|server=primary|mpgroup=|id=0"
    )
    vnet = next(line for line in lines if line.startswith("VNET"))
    assert vnet.startswith(
        "VNET|name=mynet-b|dev=network@0|service=vsw0@primary|mac-addr=08:00:20:ab:9a:12|pvid=1"
    )
    assert "|vol=myvol-a|opts=slice|dev=/disk/a|mpgroup=" in lines
    assert "|client=mydisk-a@ldg1|vol=myvol-a" in lines
    assert "|peer=vsw0@primary|mac-addr=08:00:20:aa:bb:e0" in lines
    assert "VCONS|type=SP" in lines
    assert "MAC|mac-addr=00:03:ba:d8:b1:46" in lines


def test_services(inventory: Inventory) -> None:
    assert shown(inventory, "list-services") == (
        "VCC\n"
        "    NAME             LDOM             PORT-RANGE\n"
        "    vcc0             primary          5000-5100\n"
        "\n"
        "VSW\n"
        "    NAME             LDOM             MAC               NET-DEV   ID   DEVICE     "
        "DEFAULT-VLAN-ID PVID VID                  MTU   MODE\n"
        "    vsw0             primary          08:00:20:aa:bb:e0 e1000g0   0    switch@0   "
        "1               1                         1500\n"
        "\n"
        "VDS\n"
        "    NAME             LDOM             VOLUME         OPTIONS          MPGROUP        "
        "DEVICE\n"
        "    vds0             primary          myvol-a        slice                           "
        "/disk/a\n"
        "                                      myvol-b                                        "
        "/disk/b\n"
        "                                      myvol-c        ro,slice,excl    mp1            "
        "/disk/c\n"
        "    vds1             primary          myvol-d                                        "
        "/disk/d"
    )


ALL_DEVICES = """\
VCPU
    PID  %FREE     PM
    0       0      no
    1       0      no
    2       0      no
    3       0      no
    4       0      no
    5       0      no
    6       100    ---
    7       100    ---

MAU
    ID     CPUSET                                  BOUND
    0      (0, 1, 2, 3)                            primary
    1      (4, 5, 6, 7)

MEMORY
    PA                   SIZE            BOUND
    0x4000000            768M            primary
    0x34000000           256M            ldg1
    0x54000000           4M              _sys_
    0x54400000           4M

IO
    DEVICE           PSEUDONYM        BOUND   OPTIONS
    pci@780          bus_a            yes
    pci@7c0          bus_b

NOTE
    PID 5: held until ldg1 is rebooted (R06)"""


def test_all_devices(inventory: Inventory) -> None:
    assert shown(inventory, "list-devices", all=True) == ALL_DEVICES


def test_what_is_on_the_buses_of_the_host(inventory: Inventory) -> None:
    """Where I/O is asked for by name; in ``--json`` always."""
    nic = PciDevice("0000:01:10.0", "network", "8086:154c", "iavf", "8", virtual=True)
    disk = PciDevice("0000:00:1f.2", "storage", "8086:2922", "ahci")
    buses = (Bus("pci@0", "bus_a", "sysfs", (disk, nic)),)
    host = replace(inventory, machine=replace(inventory.machine, buses=buses))
    assert shown(host, "list-devices", devices=["io"], all=True).partition("\n\n")[2] == (
        "PCI\n"
        "    ADDRESS          BUS      CLASS       ID          DRIVER           GROUP\n"
        "    0000:00:1f.2     bus_a    storage     8086:2922   ahci\n"
        "    0000:01:10.0     bus_a    network vf  8086:154c   iavf             8"
    )
    assert "PCI" not in shown(host, "list-devices", all=True)
    lines = shown(host, "list-devices", devices=["io"], all=True, parseable=True).splitlines()
    assert lines[lines.index("PCI") + 1 :] == [
        "|dev=0000:00:1f.2|bus=pci@0|class=storage|id=8086:2922|driver=ahci|group=",
        "|dev=0000:01:10.0|bus=pci@0|class=network|id=8086:154c|driver=iavf|group=8|vf=yes",
    ]


def test_devices_say_that_strands_are_emulated(emulated: Inventory) -> None:
    text = shown(emulated, "list-devices", all=True)
    assert text == ALL_DEVICES + "\n    emulated: 8 strands share 2 CPUs of the host"


def test_free_memory_as_in_the_specification() -> None:
    """``ldm list-devices memory`` of the specification's example."""
    memory = [
        {"pa": "0x108000000", "size": GIB, "bound": ""},
        {"pa": "0x148000000", "size": GIB, "bound": "ldg9"},
        {"pa": "0x188000000", "size": GIB, "bound": ""},
    ]
    devices = {"vcpu": [], "mau": [], "memory": memory, "io": [], "emulated": False}
    assert render("list-devices", {"devices": ["memory"]}, devices) == [
        "MEMORY",
        "    PA                   SIZE",
        "    0x108000000          1G",
        "    0x188000000          1G",
    ]


def test_devices_parseable(inventory: Inventory) -> None:
    """A free row has no ``bound=``; a held strand says for whom."""
    assert shown(
        inventory, "list-devices", parseable=True, all=True, devices=["cpu", "memory"]
    ) == (
        "VERSION 1.3\nVCPU\n"
        "|pid=0|free=0|pm=no\n|pid=1|free=0|pm=no\n|pid=2|free=0|pm=no\n|pid=3|free=0|pm=no\n"
        "|pid=4|free=0|pm=no\n|pid=5|free=0|pm=no|held=ldg1\n"
        "|pid=6|free=100|pm=\n|pid=7|free=100|pm=\n"
        "MEMORY\n"
        "|pa=0x4000000|size=805306368|bound=primary\n"
        "|pa=0x34000000|size=268435456|bound=ldg1\n"
        "|pa=0x54000000|size=4194304|bound=_sys_\n"
        "|pa=0x54400000|size=4194304"
    )


def test_free_devices_parseable_are_counted_by_scripts(inventory: Inventory) -> None:
    lines = shown(inventory, "list-devices", parseable=True).splitlines()
    assert sum(line.startswith("|pid=") for line in lines) == 2
    assert sum(line.startswith("|id=") for line in lines) == 1


CONSTRAINTS = """\
DOMAIN
ldg1

VCPU
    COUNT
    1

MEMORY
    SIZE
    256M

VARIABLES
    boot-device=/virtual-devices@100/disk@0:a
    auto-boot?=false

NETWORK
    NAME         SERVICE                     DEVICE       MAC
    mynet-b      vsw0                        network@0    08:00:20:ab:9a:12
    mynet-a      vsw0                        network@1    08:00:20:ab:9a:11

DISK
    NAME             VOLUME
    mydisk-a         myvol-a@vds0
    mydisk-b         myvol-b@vds0

VCONS
    NAME             SERVICE
    mygroup          vcc0"""


def test_constraints(inventory: Inventory) -> None:
    assert shown(inventory, "list-constraints", ldoms=["ldg1"]) == CONSTRAINTS


CONSTRAINTS_PARSEABLE = """\
VERSION 1.3
DOMAIN|name=primary
MAC|mac-addr=00:03:ba:d8:b1:46
VCPU|count=4
MAU|count=1
MEMORY|size=805306368
IO
|dev=pci@780|alias=bus_a
VDS|name=vds0
|vol=myvol-a|opts=slice|dev=/disk/a
|vol=myvol-b|opts=|dev=/disk/b
|vol=myvol-c|opts=ro,slice,excl|dev=/disk/c|mpgroup=mp1
VDS|name=vds1
|vol=myvol-d|opts=|dev=/disk/d
VCC|name=vcc0|port-range=5000-5100
VSW|name=vsw0|mac-addr=08:00:20:aa:bb:e0|net-dev=e1000g0|dev=switch@0
DOMAIN|name=ldg1
VCPU|count=1
MEMORY|size=268435456
VARIABLES
|boot-device=/virtual-devices@100/disk@0:a
|auto-boot?=false
VNET|name=mynet-b|dev=network@0|service=vsw0|mac-addr=08:00:20:ab:9a:12
VNET|name=mynet-a|dev=network@1|service=vsw0|mac-addr=08:00:20:ab:9a:11|pvid=3|vid=4,5
VDISK|name=mydisk-a|vol=myvol-a@vds0
VDISK|name=mydisk-b|vol=myvol-b@vds0
VCONS|group=mygroup|service=vcc0|port=
DOMAIN|name=ldg2"""


def test_constraints_parseable(inventory: Inventory) -> None:
    assert shown(inventory, "list-constraints", parseable=True) == CONSTRAINTS_PARSEABLE


def test_variables(inventory: Inventory) -> None:
    assert shown(inventory, "list-variable", ldom="ldg1") == (
        "boot-device=/virtual-devices@100/disk@0:a\nauto-boot?=false"
    )


def test_version(inventory: Inventory) -> None:
    assert shown(inventory, "show-version") == (
        "\nLogical Domain Manager (v 0.1.0)\n"
        "   Hypervisor control protocol v 1\n"
        "   Using Hypervisor MD v 1\n"
        "\nSystem PROM:\n"
        "   Hypervisor  v. 10.0.2   QEMU, accelerator tcg (KVM is not usable)\n"
        "   Firmware    v. bios   sha256:ab"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (120, "2m"), (3600, "1h"), (45 * 86400 + 8 * 3600, "45d 8h")],
)
def test_uptime(seconds: int, text: str) -> None:
    assert uptime(seconds) == text


@pytest.mark.parametrize(
    ("load", "text"), [(0.04, "0.0"), (7, "7.0"), (9.94, "9.9"), (9.96, "10"), (100, "100")]
)
def test_percent(load: float, text: str) -> None:
    assert percent(load) == text


def test_other_commands_print_what_ldmd_says() -> None:
    assert render("start-domain", {}, {"say": "LDom ldg1 started"}) == ["LDom ldg1 started"]
    assert render("add-vcpu", {}, {}) == []


def test_what_a_migration_left_is_noticed(inventory: Inventory) -> None:
    """R07 and R28: in the long list and the status, and only while it lasts."""
    domain = inventory.named("ldg1")
    assert "NOTICE" not in shown(inventory, "list-domain", long=True, ldoms=["ldg1"])
    left = inventory.with_domain(
        replace(
            domain,
            storage_differs=True,
            bindings=replace(domain.bound, cpu_dr_off=True),
        )
    )
    for how in ({"long": True}, {"formats": ["status"]}):
        lines = shown(left, "list-domain", ldoms=["ldg1"], **how).splitlines()
        first, second = lines[lines.index("NOTICE") + 1 :][:2]
        assert first.startswith("    storage differs: ")
        assert second == (
            "    CPU dynamic reconfiguration is disabled until it is rebooted (ldm explain R07)"
        )
