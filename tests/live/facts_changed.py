"""Facts of the world that a migration of ``ldg1`` can fail on, one at a time, and put back.

Each row changes one fact: a bound process, a used port, a hole in a pool.  No value is handed to
a rule.  ``tests/rules_table.py`` reads which rules have a row.
"""

from collections.abc import Iterator
from typing import Final

from facts_means import (
    DISK,
    INITRD,
    VCC,
    VDS,
    A,
    B,
    Pair,
    bound,
    configured,
    exported,
    file_of,
    hidden,
    removed,
    row,
)
from machines import Machine, eventually
from terminal import Console

from lodom.lab.lab import ROOT
from lodom.lab.watch import Heartbeats

NOT_HERE: Final = {
    "R17": "the search for a placement ends in time on any machine that a test can fill",
    "R23": "needs VFIO and a device to hand over, and add-io of a real bus is refused without",
    "R34": "an address of the automatic range is refused by hand, and two machines draw the same "
    "one by chance only; L20 has the same comparison with an address set by hand",
    "L01": "the first message between two ldmds ends the talk before any rule (test_trouble.py)",
    "L14": "needs a pool of 1G pages, which the host would have to set aside",
    "L18": "needs VLANs on the source, and the kernel has them on both machines or on neither",
}
"""Checks that no fact of a lab on one host can bring about, each with the reason."""

ELSEWHERE: Final = {
    "L02": "test_stale.py",
    "L03": "test_stale.py",
    "L05": "test_stale.py",
    "L06": "test_barred.py",
    "L07": "test_barred.py",
    "L22": "test_blockers.py",
}
"""Checks whose facts need a test of their own."""

# -- processors and strands ---------------------------------------------------------------------


@row("R03", f"The processor type differs: {A} has UltraSPARC-T2, {B} has UltraSPARC-T1")
def another_processor(p: Pair) -> Iterator[None]:
    with configured(p.b, '"UltraSPARC-T2"', '"UltraSPARC-T1"'):
        yield


@row("R03", f"The processor frequency differs: {A} has 1200 MHz, {B} has 1415 MHz")
def another_frequency(p: Pair) -> Iterator[None]:
    with configured(p.b, "^frequency = .*", "frequency = 1415000000"):
        yield


@row("R04", f"Not enough free strands on {B}: 2 needed, 1 free")
def strands_are_taken(p: Pair) -> Iterator[None]:
    with bound(p.b, "taker", vcpus=11):
        yield


@row(
    "R05",
    f"Not enough free cores on {B}: 2 strands needed on whole cores, 0 free cores with 0 strands "
    "(2 strands free)",
)
def no_core_is_whole(p: Pair) -> Iterator[None]:
    with bound(p.b, "taker", vcpus=10):
        yield


@row(
    "R09",
    "LDom ldg2 has 2 strands and cannot be shrunk to one: its guest agent is silent",
    ldom="ldg2",
)
def nobody_answers(p: Pair) -> Iterator[None]:
    with bound(p.a, "ldg2", vcpus=2):
        p.a.ldm("start-domain", "ldg2")
        yield


@row("R11", "Removing cpu 1 would fail, reason: cpu has bound thread")
def a_process_is_bound(p: Pair) -> Iterator[None]:
    with Console(p.a, "ldg1") as console:
        pid = console.asked("taskset 2 sleep 999 & echo pid $! end", r"pid (\d+) end")[1]
        try:
            yield
        finally:
            console.asked(f"kill {pid}; wait {pid}; echo g''one", "gone")


@row(
    "R11",
    "Shrinking to one cpu would fail, reason: last online cpu in processor set 1",
)
def a_processor_set(p: Pair) -> Iterator[None]:
    made = (
        "mkdir -p /s; mount -t cgroup2 none /s; echo +cpuset > /s/cgroup.subtree_control; "
        "mkdir /s/x; echo 1 > /s/x/cpuset.cpus; echo root > /s/x/cpuset.cpus.partition; "
        "cat /s/x/cpuset.cpus.partition; echo m''ade"
    )
    with Console(p.a, "ldg1") as console:
        console.asked(made, "made")
        try:
            yield
        finally:
            console.asked("rmdir /s/x; umount /s; echo g''one", "gone")


# -- memory --------------------------------------------------------------------------------------


@row("R12 R16", f"Not enough free memory on {B}: 256M needed, 192M free")
def memory_is_taken(p: Pair) -> Iterator[None]:
    with bound(p.b, "taker", memory="1088M"):
        yield


@row("R16 R18", "Unable to bind 256M memory region at real address 0x8000000")
def the_pool_has_a_hole(p: Pair) -> Iterator[None]:
    with bound(p.b, "low", memory="192M"), bound(p.b, "high", memory="896M"):
        removed(p.b, "low")
        eventually(lambda: len(p.b.free_memory()) == 2, "the hole is scrubbed")
        yield


# -- crypto units, physical I/O -----------------------------------------------------------------


@row(
    "R43 R44",
    "LDom ldg3 has 1 cryptographic units bound and 2 VCPUs; with units bound only one VCPU "
    "can be migrated",
    ldom="ldg3",
)
def a_unit_and_two_strands(p: Pair) -> Iterator[None]:
    made = p.world.domain("ldg3", vcpus=2)
    p.a.ldm("set-mau", "1", "ldg3")
    try:
        with Heartbeats() as beats:
            made.start(beats)
        yield
    finally:
        removed(p.a, "ldg3")


@row(
    "R24",
    "LDom primary is the control domain",
    "LDom primary has 1 cryptographic units bound and 4 VCPUs; with units bound only one VCPU "
    "can be migrated",
    f"A domain named primary exists already on {B}",
    ldom="primary",
)
def it_is_the_control_domain(_: Pair) -> Iterator[None]:
    yield


@row("R24", "LDom ldg2 is an I/O domain: it has bus pci@9", ldom="ldg2")
def it_has_a_bus(p: Pair) -> Iterator[None]:
    with configured(p.a, r"\Z", '[[io.bus]]\nname = "pci@9"\npseudonym = "bus_z"\n'):
        p.a.ldm("add-domain", "ldg2")
        try:
            p.a.ldm("set-vcpu", "1", "ldg2")
            p.a.ldm("set-memory", "8M", "ldg2")
            p.a.ldm("add-io", "pci@9", "ldg2")
            p.a.ldm("bind-domain", "ldg2")
            yield
        finally:
            removed(p.a, "ldg2")


# -- disks ---------------------------------------------------------------------------------------


@row("R25", f"Virtual disk server {VDS}, used by disk vdisk0, does not exist on {B}")
def the_disk_server_is_gone(p: Pair) -> Iterator[None]:
    p.b.ldm("remove-vdsdev", f"ldg1@{VDS}")
    p.b.ldm("remove-vds", VDS)
    try:
        yield
    finally:
        p.b.ldm("add-vds", VDS, "primary")
        p.b.ldm("add-vdsdev", str(p.domain.volume), f"ldg1@{VDS}")


@row("R26", f"Volume ldg1@{VDS} of disk vdisk0 does not exist on {B}")
def the_volume_is_not_exported(p: Pair) -> Iterator[None]:
    p.b.ldm("remove-vdsdev", f"ldg1@{VDS}")
    try:
        yield
    finally:
        p.b.ldm("add-vdsdev", str(p.domain.volume), f"ldg1@{VDS}")


@row("R26", f"Volume ldg1@{VDS} of disk vdisk0 is used by LDom user on {B}")
def the_volume_is_in_use(p: Pair) -> Iterator[None]:
    p.b.ldm("add-domain", "user")
    p.b.ldm("add-vdisk", "vdisk0", f"ldg1@{VDS}", "user")
    try:
        yield
    finally:
        removed(p.b, "user")


@row(
    "R26",
    f"Volume ldg1@{VDS} of disk vdisk0 cannot be used on {B}: Invalid backend '{ROOT}/gone.img': "
    "No such file or directory",
)
def the_file_is_gone(p: Pair) -> Iterator[None]:
    gone = file_of(ROOT / "gone.img", DISK)
    with exported(p.b, gone):
        gone.unlink()
        yield


@row(
    "R27",
    f"ldg1@{VDS} of disk vdisk0 is other storage on {B}: the sizes differ: 16M and 8M",
)
def another_file(p: Pair) -> Iterator[None]:
    with exported(p.b, file_of(p.folder / "other.img", DISK // 2)):
        yield


@row("L17", f'Options of volume ldg1@{VDS} differ: "" on {A}, "ro" on {B}')
def the_volume_is_read_only_there(p: Pair) -> Iterator[None]:
    p.b.ldm("set-vdsdev", "options=ro", f"ldg1@{VDS}")
    try:
        yield
    finally:
        p.b.ldm("set-vdsdev", "options=", f"ldg1@{VDS}")


# -- network and console -------------------------------------------------------------------------


@row("R31 R32", f"Virtual switch switch-y, used by vnet0, does not exist on {B}", ldom="ldg2")
def the_switch_is_not_there(p: Pair) -> Iterator[None]:
    p.a.ldm("add-vsw", "switch-y", "primary")
    try:
        with bound(p.a, "ldg2"):
            p.a.ldm("unbind-domain", "ldg2")
            p.a.ldm("add-vnet", "vnet0", "switch-y", "ldg2")
            p.a.ldm("bind-domain", "ldg2")
            yield
    finally:
        p.a.ldm("remove-vsw", "switch-y")


@row("R35", f"Virtual console concentrator {VCC} of {B} has no free port in 5000-5000")
def no_port_is_free(p: Pair) -> Iterator[None]:
    p.b.ldm("set-vcc", "port-range=5000-5000", VCC)
    try:
        with bound(p.b, "user"):
            yield
    finally:
        p.b.ldm("set-vcc", "port-range=5000-5100", VCC)


@row("R35", f"The control domain of {B} has no virtual console concentrator")
def the_concentrator_is_gone(p: Pair) -> Iterator[None]:
    p.b.ldm("remove-vcc", VCC)
    try:
        yield
    finally:
        p.b.ldm("add-vcc", "port-range=5000-5100", VCC, "primary")


@row("R39", f"Console group ldg1 exists already on {B}")
def the_group_is_taken(p: Pair) -> Iterator[None]:
    with bound(p.b, "user"):
        p.b.ldm("unbind-domain", "user")
        p.b.ldm("set-vcons", "group=ldg1", "user")
        p.b.ldm("bind-domain", "user")
        yield


# -- state ---------------------------------------------------------------------------------------


def delayed(machine: Machine) -> Iterator[None]:
    machine.ldm("set-memory", "192M", "primary")
    try:
        yield
    finally:
        machine.ldm("cancel-operation", "reconf", "primary")


@row("R45", f"A delayed reconfiguration is active on {A}")
def the_source_waits_for_a_boot(p: Pair) -> Iterator[None]:
    yield from delayed(p.a)


@row("R45", f"A delayed reconfiguration is active on {B}")
def the_target_waits_for_a_boot(p: Pair) -> Iterator[None]:
    with bound(p.b, "user"):  # a machine without guests changes at once
        yield from delayed(p.b)


@row("L04", f"A domain named ldg1 exists already on {B}")
def the_name_is_taken(p: Pair) -> Iterator[None]:
    p.b.ldm("add-domain", "ldg1")
    try:
        yield
    finally:
        removed(p.b, "ldg1")


@row("L13", f"initrd {INITRD} of LDom ldg1 is another file on {B}")
def another_initrd(p: Pair) -> Iterator[None]:
    other = p.folder / "initrd"
    other.write_bytes(b"another")
    with hidden(p.b, INITRD, other):
        yield
