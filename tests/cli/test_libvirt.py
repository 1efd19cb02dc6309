"""libvirt's descriptions as ``ldm`` commands: what is kept, what is not, what is refused."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub_ldmd import StubLdmd

from lodom.cli.libvirt import MOST, Plan, report, translate
from lodom.cli.setup import setup
from lodom.core.errors import InvalidValue
from lodom.grammar.parser import parse

FOLDER = Path(__file__).parent / "libvirt"
COMMANDS = {
    "cloud": """
        add-domain web1
        set-vcpu 2 web1
        set-memory 2G web1
        add-vdsdev /var/lib/libvirt/images/web1.qcow2 web1-vda@primary-vds0
        add-vdisk vda web1-vda@primary-vds0 web1
        add-vdsdev options=ro /var/lib/libvirt/images/seed.iso web1-sda@primary-vds0
        add-vdisk sda web1-sda@primary-vds0 web1
        add-vnet mac-addr=52:54:00:aa:bb:cc vnet0 primary-vsw0 web1
        set-variable firmware=uefi web1
        set-variable boot-device=disk web1
        set-variable machine-type=pc-q35-7.2 web1
    """,
    "old": """
        add-domain mail
        set-vcpu 1 mail
        set-memory 1G mail
        add-vdsdev '/srv/mail server.img.qcow2' mail-hda@primary-vds0
        add-vdisk hda mail-hda@primary-vds0 mail
        add-vdsdev /srv/data.vmdk.qcow2 mail-hdb@primary-vds0
        add-vdisk hdb mail-hdb@primary-vds0 mail
        add-vnet mac-addr=52:54:00:00:00:01 vnet0 primary-vsw0 mail
        set-variable 'boot-device=cdrom disk' mail
    """,
    "ceph": """
        add-domain db
        set-vcpu 4 db
        set-memory 8G db
        add-vdsdev rbd:vms/db-root:id=libvirt db-vda@primary-vds0
        add-vdisk vda db-vda@primary-vds0 db
        add-vdsdev nbd://store1:10809/logs db-vdb@primary-vds0
        add-vdisk vdb db-vdb@primary-vds0 db
        add-vdsdev /dev/disk/by-id/wwn-0x5000c500a1b2c3d4 db-sda@primary-vds0
        add-vdisk sda db-sda@primary-vds0 db
        add-vnet mac-addr=52:54:00:00:00:09 vnet0 primary-vsw0 db
        set-variable 'boot-device=vnet0 vda' db
    """,
}
LOST = {
    "cloud": ["room for 4 CPUs", "UEFI variables", "graphics spice", "cpu: the CPU is", "metadata"],
    "old": [
        "bus ide becomes virtio", "machine type pc-i440fx-2.8: it becomes q35", "floppy fda",
        "disk hdc: an empty CD drive", "network card e1000", "network device 1 (user",
        "clock: the guest's clock is in UTC", "bootmenu of <os>", "sound ich6", "on_reboot",
    ],
    "ceph": [
        "disk vdc: no back end", "disk vdd: no back end", "VLAN of vnet0", "hostdev pci",
        "tpm tpm-crb", "shmem", "cputune", "memoryBacking", "iothreads", "commandline",
    ],
}  # fmt: skip


def plan_of(name: str) -> Plan:
    return translate((FOLDER / f"{name}.xml").read_bytes())


@pytest.mark.parametrize("name", COMMANDS)
def test_commands(name: str) -> None:
    wanted = [line.strip() for line in COMMANDS[name].strip().splitlines()]
    assert [shlex.join(words) for words in plan_of(name).commands] == wanted


@pytest.mark.parametrize("name", ["cloud", "ceph"])
def test_the_grammar_knows_every_command(name: str) -> None:
    for words in plan_of(name).commands:
        parse(words)


@pytest.mark.parametrize("name", LOST)
def test_what_is_lost_is_said(name: str) -> None:
    lost = plan_of(name).lost
    for words in LOST[name]:
        assert any(line.startswith(words) or words in line for line in lost), (words, lost)


def test_what_must_be_done_before() -> None:
    assert plan_of("old").before == [
        "disk hda: mv '/srv/mail server.img' '/srv/mail server.img.qcow2'",
        "disk hdb: qemu-img convert -f vmdk -O qcow2 /srv/data.vmdk /srv/data.vmdk.qcow2",
    ]
    assert plan_of("cloud").before == []


DETAILS = """<domain><name>x</name><memory>1</memory><vcpu cpuset="0-3">1</vcpu><devices>
<disk type="file" device="disk"><source file="/srv/x.img"><encryption format="luks"/></source>
  <target dev="vda" bus="virtio"/><serial>ROOT1</serial><shareable/>
  <iotune><total_iops_sec>9</total_iops_sec></iotune><backingStore/></disk>
<disk type="file" device="cdrom"><source file="/srv/tools.img"/><target dev="sda"/></disk>
<disk type="block" device="disk"><driver type="qcow2"/><source dev="/dev/vg/x"/>
  <target dev="vdb" bus="virtio"/></disk>
<disk type="network" device="disk"><driver type="qcow2"/>
  <source protocol="nbd" name="e"><host name="h"/></source><target dev="vdc" bus="virtio"/></disk>
<disk type="network" device="disk"><source protocol="rbd" name="p/i"><snapshot name="s"/>
  <config file="/etc/ceph/b.conf"/></source><target dev="vdd" bus="virtio"/></disk>
<interface type="bridge"><source bridge="br0"/><filterref filter="clean-traffic"/>
  <link state="down"/><mtu size="9000"/><port isolated="yes"/></interface>
</devices></domain>"""


def test_what_a_device_loses_is_said() -> None:
    """Not only whole devices: a filter that is gone, a card that was unplugged."""
    plan = translate(DETAILS.encode())
    for words in (
        "CPUs 0-3 of the host", "encryption of disk vda", "serial of disk vda: in the guest",
        "shareable of disk vda", "iotune of disk vda", "CD sda: a read-only disk",
        "filterref of vnet0: nothing filters", "link of vnet0: the device is connected",
        "mtu of vnet0", "port of vnet0",
    ):  # fmt: skip
        assert any(line.startswith(words) for line in plan.lost), words
    assert not any("backingStore" in line for line in plan.lost)
    assert ["add-vdsdev", "rbd:p/i@s:conf=/etc/ceph/b.conf", "x-vdd@primary-vds0"] in plan.commands


def test_what_the_words_of_a_disk_order_is_kept_or_told() -> None:
    """TLS to an NBD server must not become a connection in clear in silence."""
    disks = """<devices><disk type="file" device="disk">
      <driver name="qemu" type="raw" cache="writeback" io="native" discard="ignore"/>
      <source file="/srv/x.img" startupPolicy="optional" index="1"/><target dev="vda" bus="virtio"/>
    </disk><disk type="network" device="disk"><driver type="raw" cache="none" discard="unmap"/>
      <source protocol="nbd" name="e" tls="yes"><host name="h"/></source>
      <target dev="vdb" bus="virtio"/></disk></devices>"""
    plan = translate(SMALL.format("x", "", 1, 1, disks).encode())
    assert plan.lost == [
        "cache=writeback of disk vda: there is nothing like it",
        "discard=ignore of disk vda: there is nothing like it",
        "startupPolicy=optional of disk vda: there is nothing like it",
        "disk vdb: its server is to be spoken to by TLS, which is not known here; "
        "add it with ldm add-vdsdev and ldm add-vdisk",
    ]
    assert not any("nbd" in word for words in plan.commands for word in words)


def test_a_firmware_in_rom_and_a_boot_from_floppy_are_told() -> None:
    """Taken for BIOS in silence, a UEFI guest would not come up and nothing would say why."""
    system = "<os><type>hvm</type><loader>/usr/share/ovmf/OVMF.fd</loader><boot dev='fd'/></os>"
    lost = translate(SMALL.format("x", "", 1, 1, system).encode()).lost
    assert lost == [
        "loader /usr/share/ovmf/OVMF.fd: the machine's own BIOS is used; "
        "if it is UEFI: ldm set-variable firmware=uefi x",
        "boot from fd: there is nothing like it",
    ]


def test_an_image_that_is_no_file_is_neither_moved_nor_taken_for_raw() -> None:
    """``mv`` of a device would move its node; the guest would see the image itself."""
    plan = translate(DETAILS.encode())
    assert plan.before == []
    for disk, back_end in (("vdb", "/dev/vg/x"), ("vdc", "nbd://h:10809/e")):
        assert any(line.startswith(f"disk {disk}: qcow2 in {back_end}") for line in plan.lost)
        assert not any(disk in words for words in plan.commands)


def test_a_server_by_its_ipv6_address_is_in_brackets() -> None:
    source = '<source protocol="nbd" name="e"><host name="2001:db8::7" port="10810"/></source>'
    plan = translate(DETAILS.replace('<source file="/srv/x.img">', source + "<source>").encode())
    volume = "x-vda@primary-vds0"
    assert ["add-vdsdev", "nbd://[2001:db8::7]:10810/e", volume] in plan.commands


SILENT = {"name", "currentMemory", "on_poweroff", "os", "devices", "vcpu", "interface", "console"}
"""Told of under another word, or always so."""


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_dropped_in_silence(name: str) -> None:
    """Each element of the domain and of its devices is named by some line."""
    root = ElementTree.parse(FOLDER / f"{name}.xml").getroot()
    told = "\n".join(report(plan_of(name)))
    for element in [*root, *root.iterfind("devices/*")]:
        tag = str(element.tag).rpartition("}")[2]
        restart = tag == "on_reboot" and element.text == "restart"
        assert tag in SILENT or tag in told or restart, tag


BOMB = b"""<?xml version="1.0"?><!DOCTYPE domain [<!ENTITY a "aaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]><domain><name>&c;</name></domain>"""
XXE = b'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/shadow">]><domain><name>&x;</name></domain>'
SMALL = "<domain><name>{}</name><memory{}>{}</memory><vcpu>{}</vcpu>{}</domain>"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not well-formed"),
        (b"<domain><name>x</name>", "not well-formed"),
        (b"\xff\xfe<\0d\0", "not UTF-8"),
        (b"<domain>\0</domain>", "not UTF-8"),
        (BOMB.decode().encode("utf-16-le"), "not UTF-8"),
        (BOMB, "declares a document type"),
        (XXE, "declares a document type"),
        (b"<network><name>x</name></network>", "describes <network>"),
        (b"<domain><name>x</name><os><type arch='aarch64'>hvm</type></os></domain>", "x86_64"),
        (b"<domain><name>x</name><os><type>exe</type></os></domain>", "x86_64"),
        (b"<domain><name>x</name></domain>", "no <memory>"),
        (b"<domain/>", "--name NAME"),
        (SMALL.format("a b", "", 1024, 1, "").encode(), "--name NAME"),
        (SMALL.format("x", "", "much", 1, "").encode(), "not a whole number"),
        (SMALL.format("x", "", 1024, 0, "").encode(), "not a whole number"),
        (SMALL.format("x", "", "9" * 5000, 1, "").encode(), "not a whole number"),
        (SMALL.format("x", " unit='acre'", 1024, 1, "").encode(), "unit of memory"),
        (b"<domain>" + b" " * MOST + b"</domain>", "more than 1M"),
    ],
)
def test_what_is_no_domain_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(InvalidValue, match=why):
        translate(text)


def test_another_name_another_switch() -> None:
    plan = translate(
        SMALL.format("a b", "", 1, 1, "<devices><interface type='bridge'/></devices>").encode(),
        name="ab", switch="vsw9",
    )  # fmt: skip
    assert plan.commands[-1] == ["add-vnet", "vnet0", "vsw9", "ab"]


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: f"<domain>{t}".encode()))
def test_no_input_is_a_crash(text: bytes) -> None:
    with pytest.raises(InvalidValue):
        translate(text)


# -- the program --------------------------------------------------------------------------------


def test_it_is_shown_and_with_consent_done(
    ldmd: StubLdmd, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(FOLDER / "cloud.xml")
    assert setup(["import-libvirt", file]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("Kept:\n    2 virtual CPUs\n    2G of memory\n")
    assert said.err.endswith(f"--service primary-vds0 {file}\n")
    assert ldmd.asked == []
    again = shlex.split(said.err.removeprefix("To run these commands: ldm-setup "))
    assert setup(again) == 0
    assert [verb for verb, _ in ldmd.asked][:3] == ["add-domain", "set-vcpu", "set-memory"]
    assert len(ldmd.asked) == len(plan_of("cloud").commands)


def test_the_first_refusal_ends_it(ldmd: StubLdmd) -> None:
    def answers(verb: str, _: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
        refusal = {"error": {"exit": 5, "text": "LDom web1 already exists"}}
        yield refusal if verb == "add-domain" else {"result": {}}

    ldmd.answers = answers
    assert setup(["import-libvirt", "--yes", str(FOLDER / "cloud.xml")]) == 5
    assert len(ldmd.asked) == 1


def test_a_refusal_on_the_way_leaves_nothing_behind(
    ldmd: StubLdmd, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = {"add-vnet"}

    def answers(verb: str, _: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
        refusal = {"error": {"exit": 5, "text": f"{verb}: no"}}
        yield refusal if verb in refused else {"result": {}}

    ldmd.answers = answers
    words = ["import-libvirt", "--yes", str(FOLDER / "cloud.xml")]
    assert setup(words) == 5
    done = [verb for verb, _ in ldmd.asked]
    undone = done[done.index("add-vnet") + 1 :]
    volumes = done.count("add-vdiskserverdevice")
    assert volumes >= 1
    assert undone == ["remove-domain"] + ["remove-vdiskserverdevice"] * volumes
    assert capsys.readouterr().err.endswith("Nothing of it was kept.\n")
    refused.add("remove-domain")
    assert setup(words) == 5
    assert "Still to be done: ldm remove-domain " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["/nonexistent.xml", "/"])
def test_a_file_that_cannot_be_read(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert setup(["import-libvirt", name]) != 0
    assert name in capsys.readouterr().err
