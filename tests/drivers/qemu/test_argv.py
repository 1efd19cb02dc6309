"""The command line as a pure function of the specification."""

import json
from dataclasses import replace

import pytest
from sides import MIB, SPEC

from lodom.core.errors import NotSupported
from lodom.core.model.domain import Block
from lodom.core.model.guest import GuestDisk, GuestNic, GuestSpec
from lodom.drivers.qemu.argv import Image, Launch, Paths, arguments
from lodom.drivers.qemu.settings import Settings

PATHS = Paths("/run/q", "/run/a", "/run/c", "/log/c,1")
DISKS = (GuestDisk("vdisk0", 0, "/d0"), GuestDisk("a-name-longer-than-20-letters", 9, "/d9", True))
NICS = (GuestNic("vnet0", 3, "00:14:4f:f8:00:01", "vsw0", mtu=9000),)


def command(spec: GuestSpec, settings: Settings | None = None, **launch: object) -> list[str]:
    image = Image({"driver": "file", "filename": "/d"})
    start = Launch(
        home="home",
        paths=PATHS,
        backing=[("/pool", b.pa) for b in sorted(spec.blocks)],
        images=[image] * len(spec.disks),
        taps=[7 + i for i in range(len(spec.nics))],
        version=(10, 1, 0),
    )
    return arguments(spec, replace(start, **launch), settings or Settings())


def values(args: list[str], option: str) -> list[str]:
    return [args[i + 1] for i, arg in enumerate(args) if arg == option]


def devices(args: list[str]) -> dict[str, dict[str, object]]:
    found = [json.loads(v) for v in values(args, "-device")]
    return {str(d.get("id", d["driver"])): d for d in found}


def test_always_starts_stopped():
    """HANDOVER: QEMU is always started stopped, at boot too; the guest has its own will."""
    for args in (command(SPEC), command(SPEC, incoming=True)):
        assert "-S" in args
        assert values(args, "-action") == ["reboot=reset,shutdown=pause,panic=pause"]
    assert values(command(SPEC, incoming=True), "-incoming") == ["defer"]


def test_blocks_lie_in_the_order_of_their_real_addresses():
    """Guest-physical addresses are a function of the sorted block list alone (DESIGN, RA)."""
    blocks = (Block(0x20000000, 0, 64 * MIB), Block(0x8000000, 128 * MIB, 32 * MIB))
    args = command(replace(SPEC, blocks=blocks))
    objects = [json.loads(v) for v in values(args, "-object")]
    # The largest first: else QEMU under emulation dies in the middle of a migration.
    assert [(o["id"], o["offset"], o["size"]) for o in objects] == [
        ("m1", 0, 64 * MIB),
        ("m0", 128 * MIB, 32 * MIB),
    ]
    assert values(args, "-numa") == ["node,nodeid=0,cpus=0-3,memdev=m0", "node,nodeid=1,memdev=m1"]
    assert values(args, "-m") == ["size=98304k"]


def test_a_device_keeps_its_place_whatever_else_there_is():
    """A disk's or nic's PCI address depends on its index only."""
    alone = devices(command(replace(SPEC, disks=DISKS[1:])))
    together = devices(command(replace(SPEC, disks=DISKS, nics=NICS)))
    for name in ("disk-port9", "disk9-dev"):
        assert alone[name] == together[name]
    ports = [d for d in together.values() if d["driver"] == "pcie-root-port"]
    assert len({d["addr"] for d in ports}) == len({d["chassis"] for d in ports}) == len(ports)
    # Functions behind an absent function 0 are invisible to the guest.
    assert {str(d["addr"]).split(".")[0] + ".0x0" for d in ports} <= {d["addr"] for d in ports}


def test_an_index_without_a_place_is_refused():
    with pytest.raises(NotSupported, match="disk 64"):
        command(replace(SPEC, disks=(GuestDisk("d", 64, "/d"),)))


def test_disks_are_locked_raw_and_as_writable_as_asked():
    args = command(replace(SPEC, disks=DISKS))
    nodes = {n["node-name"]: n for n in map(json.loads, values(args, "-blockdev"))}
    assert nodes["disk9"]["driver"] == "raw"
    assert (nodes["disk9"]["read-only"], nodes["disk0-file"]["read-only"]) == (True, False)
    assert devices(args)["disk9-dev"]["serial"] == "a-name-longer-than-2"


def test_nics_get_their_tap_by_descriptor():
    args = command(replace(SPEC, nics=NICS))
    assert values(args, "-netdev") == ["tap,id=nic3,fd=7,vhost=off"]
    nic = devices(args)["nic3-dev"]
    assert (nic["mac"], nic["host_mtu"]) == ("00:14:4f:f8:00:01", 9000)


def test_plugged_slots_are_there_from_the_start():
    """A target has exactly the slots of its source; with NUMA they name node 0."""
    args = command(replace(SPEC, plugged=(0, 1, 2)))
    assert values(args, "-smp") == ["cpus=2,maxcpus=4,sockets=1,cores=4,threads=1"]
    assert devices(args)["cpu2"] == {
        "driver": "Westmere-v1-x86_64-cpu",
        "id": "cpu2",
        "socket-id": 0,
        "core-id": 2,
        "thread-id": 0,
        "node-id": 0,
    }


def test_privileges_are_given_up():
    """A user of its own; elevateprivileges=deny would kill QEMU in its own setuid."""
    args = command(SPEC, user=64001)
    assert values(args, "-run-with") == ["user=64001:64001"]
    assert "elevateprivileges" not in values(args, "-sandbox")[0]
    assert values(command(SPEC, user=64001, version=(8, 2, 9)), "-runas") == ["64001:64001"]
    assert "elevateprivileges=deny" in values(command(SPEC), "-sandbox")[0]


@pytest.mark.parametrize(
    ("wanted", "version", "accel"),
    [
        ("auto", (10, 0, 99), "tcg,thread=single"),
        ("auto", (10, 1, 0), "tcg,thread=multi"),
        ("multi", (7, 2, 0), "tcg,thread=multi"),
        ("single", (11, 0, 0), "tcg,thread=single"),
    ],
)
def test_emulation_has_a_thread_a_cpu_where_that_is_safe(wanted, version, accel):
    args = command(SPEC, Settings(tcg_threads=wanted), version=version)
    assert values(args, "-accel") == [accel]
    assert values(command(SPEC, Settings("q", "kvm"), version=version), "-accel") == ["kvm"]


def test_commas_do_not_make_options():
    args = command(replace(SPEC, name="a,debug-threads=off"), home="x,process=y")
    [name] = values(args, "-name")
    assert name == "guest=x,,process=y,process=lodom-a,,debug-threads=off,debug-threads=on"
    assert any("logfile=/log/c,,1," in v for v in values(args, "-chardev"))


def test_crypto_devices_stay_behind_in_a_migration():
    """They cannot move; each sits on a root port, so that it can be unplugged."""
    spec = replace(SPEC, crypto=2)
    assert devices(command(spec))["crypto1-dev"]["bus"] == "crypto-port1"
    names = {name for name in devices(command(spec, incoming=True)) if "crypto" in name}
    assert names == {"crypto-port0", "crypto-port1"}


def test_a_target_without_free_units_has_the_ports_of_the_source():
    """Else the two machines would differ, and the stream would be refused."""

    def addresses(spec):
        made = devices(command(spec, incoming=True))
        return {d["addr"] for name, d in made.items() if name.startswith("crypto")}

    here = replace(SPEC, crypto=2, crypto_ports=2)
    there = replace(SPEC, crypto=1, crypto_ports=2)
    assert addresses(here) == addresses(there)
    names = {name for name in devices(command(there)) if name.startswith("crypto")}
    assert names == {"crypto-port0", "crypto-idle1", "crypto0-dev"}


def test_only_configured_firmware():
    spec = replace(SPEC, firmware="uefi")
    with pytest.raises(NotSupported, match="firmware uefi"):
        command(spec)
    own = command(replace(SPEC, firmware="own"), Settings(firmware={"own": "/own.fd"}))
    assert values(own, "-bios") == ["/own.fd"]


def test_uefi_is_shared_code_and_variables_of_ones_own():
    """Pages of the flash travel with the memory; its place is a function of the specification."""
    settings = Settings(firmware={"uefi": "/code.fd"})
    args = command(replace(SPEC, firmware="uefi"), settings, variables="/state/u.fd")
    assert values(args, "-machine")[0].endswith(",pflash0=firmware,pflash1=variables")
    nodes = {n["node-name"]: n for n in map(json.loads, values(args, "-blockdev"))}
    assert (nodes["firmware"]["file"]["filename"], nodes["firmware"]["read-only"]) == (
        "/code.fd", True,
    )  # fmt: skip
    assert (nodes["variables"]["file"]["filename"], nodes["variables"]["read-only"]) == (
        "/state/u.fd", False,
    )  # fmt: skip
    assert "-bios" not in args


def test_a_cd_is_a_drive_in_the_place_of_its_disk():
    disk = GuestDisk("cd", 3, "/x.iso", read_only=True, cdrom=True, boot=1)
    made = devices(command(replace(SPEC, disks=(disk,))))
    assert made["disk3-scsi"]["bus"] == "disk-port3"
    assert (made["disk3-dev"]["driver"], made["disk3-dev"]["bus"], made["disk3-dev"]["bootindex"]) \
        == ("scsi-cd", "disk3-scsi.0", 1)  # fmt: skip


def test_a_boot_rom_only_where_the_firmware_needs_it():
    """Its size is fixed: a guest that moves may meet another build."""
    nic = replace(NICS[0], boot=2)
    made = devices(command(replace(SPEC, nics=(nic,))))["nic3-dev"]
    assert (made["romfile"], made["romsize"], made["bootindex"]) == ("pxe-virtio.rom", 0x40000, 2)
    settings = Settings(firmware={"uefi": "/code.fd"})
    made = devices(command(replace(SPEC, nics=(nic,), firmware="uefi"), settings))["nic3-dev"]
    assert (made["romfile"], made["bootindex"]) == ("", 2)
    assert "bootindex" not in devices(command(replace(SPEC, nics=NICS)))["nic3-dev"]


def test_direct_boot():
    args = command(replace(SPEC, kernel="/k", initrd="/i", kernel_args="quiet"))
    assert [values(args, o) for o in ("-kernel", "-initrd", "-append")] == [
        ["/k"], ["/i"], ["quiet"],
    ]  # fmt: skip
