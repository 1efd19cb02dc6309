"""A case that no rule finds anything in; tests change one thing at a time."""

from dataclasses import replace

from lodom.core.model.domain import Block, Constraints, Platform, Vcpu
from lodom.core.model.host import Hypervisor, Region
from lodom.core.rules.case import (
    AgentFacts,
    BackendFacts,
    Case,
    ConsoleFacts,
    CoreFacts,
    DiskFacts,
    DomainFacts,
    FileFacts,
    MachineFacts,
    NicFacts,
    SourceFacts,
    SwitchFacts,
    TargetFacts,
    VolumeFacts,
)
from lodom.core.rules.catalogue import judge
from lodom.core.units import GIB, MIB

LUN = BackendFacts("block", 10 * GIB, ("naa.6001",))
VMLINUZ = FileFacts("kernel", "/boot/vmlinuz", "sha256:aa")
HYPERVISOR = Hypervisor(
    version="10.0.2",
    machine_types=("pc-q35-8.2", "pc-q35-10.0"),
    cpu_features=("aes", "sse2"),
    firmware={"bios": "sha256:b1"},
)
SOURCE = MachineFacts(
    name="alpha",
    instance="i-alpha",
    processor="UltraSPARC-T2",
    frequency_hz=1165_000_000,
    page=2 * MIB,
    protocols=(1, 2),
    hypervisor=HYPERVISOR,
    primary_crypto=1,
)
TARGET = replace(SOURCE, name="beta", instance="i-beta")
DOMAIN = DomainFacts(
    uuid="u-1",
    name="ldg-src",
    target_name="ldg-src",
    state="active",
    mac="00:14:4f:f8:00:01",
    constraints=Constraints(vcpu=1, memory=2 * GIB),
    vcpus=(Vcpu(0, 8),),
    boot_vcpus=1,
    plugged=(0,),
    blocks=(Block(0x8000000, 0x208000000, 2 * GIB),),
    platform=Platform("pc-q35-10.0", "qemu64,+aes", 4),
    disks=(DiskFacts("vdisk0", "primary-vds0", "vol0", boot=True, backend=LUN),),
    nics=(NicFacts("vnet0", "primary-vsw0", "00:14:4f:f8:00:02"),),
    files=(VMLINUZ,),
    agent=AgentFacts(answers=True, cpu_dr=True, bindings_known=True),
)
CLEAN = Case(
    DOMAIN,
    SourceFacts(SOURCE, epoch=3, owner="i-alpha"),
    TargetFacts(
        machine=TARGET,
        cores=(CoreFacts(0, (0, 1, 2, 3), ()), CoreFacts(1, (4, 5, 6, 7), (4, 5, 6, 7))),
        regions=(Region(0x108000000, 4 * GIB),),
        free=(Region(0x108000000, 4 * GIB),),
        crypto_free=1,
        disk_servers=("primary-vds0",),
        volumes=(VolumeFacts("primary-vds0", "vol0", backend=LUN),),
        switches=(SwitchFacts("primary-vsw0"),),
        console=ConsoleFacts("primary-vcc0", 5000, 5100, 99),
        groups=("ldg7",),
        macs={"00:14:4f:f8:00:09": "LDom ldg7"},
        names=("ldg7", "primary"),
        files=(VMLINUZ,),
    ),
)


def domain(case=CLEAN, **changes):
    return replace(case, domain=replace(case.domain, **changes))


def target(case=CLEAN, **changes):
    return replace(case, target=replace(case.target, **changes))


def source(case=CLEAN, **changes):
    return replace(case, source=replace(case.source, **changes))


def source_machine(case=CLEAN, **changes):
    return source(case, machine=replace(case.source.machine, **changes))


def target_machine(case=CLEAN, **changes):
    return target(case, machine=replace(case.target.machine, **changes))


def hypervisor(case=CLEAN, **changes):
    return target_machine(case, hypervisor=replace(case.target.machine.hypervisor, **changes))


def disk(case=CLEAN, **changes):
    return domain(case, disks=(replace(case.domain.disks[0], **changes),))


def nic(case=CLEAN, **changes):
    return domain(case, nics=(replace(case.domain.nics[0], **changes),))


def volume(case=CLEAN, **changes):
    return target(case, volumes=(replace(case.target.volumes[0], **changes),))


def agent(case=CLEAN, **changes):
    return domain(case, agent=replace(case.domain.agent, **changes))


def strands(case=CLEAN, count=2):
    return domain(case, vcpus=tuple(Vcpu(v, 8 + v) for v in range(count)))


def brief(case):
    """(rule, severity, text) of every finding."""
    return [(f.rule, f.severity.value, f.text) for f in judge(case)]


def ids(case):
    return [f.rule for f in judge(case)]
