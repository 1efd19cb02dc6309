"""Facts built from two inventories judge clean, travel as JSON, and know old copies."""

from dataclasses import replace

import msgspec
import pytest

from lodom.core.model.devices import (
    BoundConsole,
    Concentrator,
    DiskServer,
    Switch,
    Vdisk,
    Vnet,
    Volume,
)
from lodom.core.model.domain import (
    Bindings,
    Block,
    Constraints,
    Domain,
    Platform,
    Runtime,
    State,
    Vcpu,
)
from lodom.core.model.host import Bus, CryptoUnit, Machine, PciDevice, Region, Strand
from lodom.core.model.inventory import Freed, Inventory, Ownership
from lodom.core.model.saved import Configuration, Mark
from lodom.core.rules.case import (
    AgentFacts,
    Case,
    CoreFacts,
    DomainFacts,
    LanFacts,
    NetworkFacts,
    SourceFacts,
    TargetFacts,
    UseFacts,
)
from lodom.core.rules.catalogue import judge
from lodom.core.rules.facts import domain_facts, machine_facts, source_facts, target_facts
from lodom.core.units import GIB, MIB
from rules.clean import CLEAN, HYPERVISOR, LUN, VMLINUZ

BACKENDS = {"vol0@primary-vds0": LUN}
AGENT = AgentFacts(answers=True, cpu_dr=True, bindings_known=True)


def machine(name):
    return Machine(
        name,
        f"i-{name}",
        "UltraSPARC-T2",
        1165_000_000,
        tuple(Strand(n, n // 4, n) for n in range(16)),
        (Region(0x100000000, 8 * GIB),),
        2 * MIB,
        crypto=tuple(CryptoUnit(c, c) for c in range(4)),
        hypervisor=HYPERVISOR,
    )


PRIMARY = Domain(
    "u-0",
    "primary",
    "00:14:4f:f8:00:00",
    State.ACTIVE,
    bindings=Bindings(
        vcpus=(Vcpu(0, 0),), blocks=(Block(0x8000000, 0x100000000, GIB),), crypto=(0,)
    ),
)


def inventory(name):
    return Inventory(
        machine(name),
        domains={"u-0": PRIMARY},
        vds={"primary-vds0": DiskServer("primary-vds0", "primary", (Volume("vol0", "/dev/sda"),))},
        vsw={"primary-vsw0": Switch("primary-vsw0", "primary", "00:14:4f:f8:00:0a", "eth0")},
        vcc={"primary-vcc0": Concentrator("primary-vcc0", "primary", 5000, 5001)},
    )


LDG = Domain(
    "u-1",
    "ldg1",
    "00:14:4f:f8:00:01",
    State.ACTIVE,
    Constraints(
        vcpu=1,
        memory=2 * GIB,
        vdisks=(Vdisk("vdisk0", "vol0", "primary-vds0", 0),),
        vnets=(Vnet("vnet0", "primary-vsw0", "00:14:4f:f8:00:02", 0, pvid=1),),
    ),
    Bindings(
        vcpus=(Vcpu(0, 8),),
        blocks=(Block(0x8000000, 0x180000000, 2 * GIB),),
        console=BoundConsole("primary-vcc0", "ldg1", 5000),
        platform=Platform("pc-q35-10.0", "qemu64", 4),
    ),
    Runtime(42, 1, "home", 1, (0,)),
    agent=True,
)
HOME = inventory("alpha").with_domain(LDG).put("ownership", "u-1", Ownership("u-1", 3, "i-alpha"))


def case(target, **changes):
    """The case of ldg1 going from HOME to *target*."""
    moving = domain_facts(HOME, LDG, backends=BACKENDS, files=(VMLINUZ,), agent=AGENT, **changes)
    ours = machine_facts(HOME, protocols=(1,))
    theirs = machine_facts(target, protocols=(1,))
    return Case(
        moving,
        source_facts(HOME, LDG, ours),
        target_facts(target, moving, theirs, backends=BACKENDS, files=(VMLINUZ,)),
    )


def ids(target, **changes):
    return [f.rule for f in judge(case(target, **changes))]


def test_two_machines_without_faults_judge_clean():
    assert ids(inventory("beta")) == []


def test_the_domain_as_its_source_knows_it():
    facts = case(inventory("beta"), target_name="new").domain
    assert (facts.name, facts.target_name, facts.state) == ("ldg1", "new", "active")
    assert (facts.strands, facts.boot_vcpus, facts.plugged) == (1, 1, (0,))
    (disk,) = facts.disks
    assert (disk.service, disk.volume, disk.boot, disk.backend) == (
        "primary-vds0",
        "vol0",
        True,
        LUN,
    )
    (nic,) = facts.nics
    assert (nic.pvid, nic.mtu, nic.uplink) == (0, 1500, True)


def test_the_target_as_it_stands():
    beta = inventory("beta").put("dirty", "d", Freed(Region(0x140000000, GIB)))
    facts = case(beta).target
    assert facts.free == (Region(0x180000000, 6 * GIB),)
    assert facts.used == (
        UseFacts(Region(0x100000000, GIB), "primary"),
        UseFacts(Region(0x140000000, GIB), "", "dirty"),
    )
    assert facts.cores[0] == CoreFacts(0, (0, 1, 2, 3), (1, 2, 3))
    assert facts.crypto_free == 1, "the domain gets strands on one core"
    assert facts.machine.primary_crypto == 1
    assert facts.console.free == 2
    assert facts.names == ("primary",)


def test_an_old_configuration_of_the_same_domain_is_no_clash():
    """HANDOVER, check: a UUID defined without ownership; its constraints are replaced."""
    old = replace(LDG, state=State.INACTIVE, bindings=None, runtime=None, agent=False)
    assert ids(inventory("beta").with_domain(old)) == []
    assert "L05" in ids(inventory("beta").with_domain(LDG))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "ldg1", "uuid": "u-2", "mac": ""}, ["R26", "R34", "R39", "L04"]),
        ({"name": "ldg2", "uuid": "u-2", "mac": ""}, ["R26", "R34", "R39"]),
    ],
)
def test_another_domain_clashes(change, expected):
    """It has the volume, the MAC and the console group of the one that comes."""
    assert ids(inventory("beta").with_domain(replace(LDG, **change))) == expected


def test_ports_outside_the_range_do_not_count():
    console = BoundConsole("primary-vcc0", "x", 9000)
    other = Domain("u-3", "x", "", State.BOUND, bindings=Bindings(console=console))
    assert case(inventory("beta").with_domain(other)).target.console.free == 2


def test_no_concentrator():
    assert ids(replace(inventory("beta"), vcc={})) == ["R35"]


def test_guests_are_no_witnesses_of_a_network():
    """A guest of the machine itself, its MAC set by hand or not, is left out of what is known."""
    vnet = Vnet("vnet1", "primary-vsw0", "0:1:2:3:4:5", 1)
    home = HOME.with_domain(replace(LDG, constraints=replace(LDG.constraints, vnets=(vnet,))))
    known = {"10.1.0.1": "52:54:00:00:00:01", "10.1.0.7": "00:01:02:03:04:05"}
    networks = {"primary-vsw0": NetworkFacts(lans=(LanFacts(0, ("10.1.0.5/24",), known),))}
    mine = machine_facts(home, protocols=(1,))
    expected = LanFacts(0, ("10.1.0.5/24",), {"10.1.0.1": "52:54:00:00:00:01"})
    for facts in (
        source_facts(home, LDG, mine, networks=networks),
        target_facts(home, domain_facts(HOME, LDG), mine, networks=networks),
    ):
        assert facts.networks["primary-vsw0"].lans == (expected,)


def test_a_peer_that_says_nothing_of_networks():
    """The release before sends no such field: nothing is known."""
    sent = msgspec.to_builtins(case(inventory("beta")).source)
    del sent["networks"]
    assert msgspec.convert(sent, SourceFacts).networks == {}


def test_control_domain_names_its_services():
    facts = domain_facts(HOME, PRIMARY)
    assert facts.control
    assert facts.services == ("primary-vcc0", "primary-vds0", "primary-vsw0")


def test_a_domain_with_a_bus_of_the_host_reaches_its_devices():
    """No command gives one away; a journal of another release may say so (R23)."""
    disk = PciDevice("0000:00:1f.2", "storage", "8086:2922", "ahci")
    buses = (Bus("pci@0", "bus_a", "sysfs", (disk,)), Bus("pci@1", "bus_b"))
    here = replace(HOME, machine=replace(HOME.machine, buses=buses))

    def direct(domain, *names):
        given = replace(domain, bindings=replace(domain.bindings, io=names))
        return domain_facts(here, given).direct

    assert direct(LDG, "pci@0", "pci@1") == ("0000:00:1f.2",)
    assert direct(LDG, "pci@1") == ()
    assert direct(PRIMARY, "pci@0") == ()


def test_a_held_domain_says_by_what():
    facts = domain_facts(HOME, replace(LDG, migration="77"))
    assert facts.locked_by == "migration 77"


def test_bare_domain():
    """No services, no devices, no bindings: facts all the same."""
    bare = Domain("u-9", "bare", "", constraints=Constraints(vcpu=2))
    lost = replace(
        bare,
        constraints=replace(
            LDG.constraints, variables=(("boot-device", "nowhere vdisk0"),), vcpu=2
        ),
    )
    assert domain_facts(HOME, bare).strands == 2
    (disk,) = domain_facts(replace(HOME, vds={}, vsw={}), lost).disks
    assert disk.boot
    assert disk.options == ()


@pytest.mark.parametrize("made", [CLEAN, case(inventory("beta"))], ids=["plain", "built"])
def test_facts_travel_as_json(made):
    for facts, kind in (
        (made.domain, DomainFacts),
        (made.source, SourceFacts),
        (made.target, TargetFacts),
    ):
        assert msgspec.json.decode(msgspec.json.encode(facts), type=kind) == facts


def test_a_selected_configuration_is_a_fact_for_who_is_not_in_it():
    stranger = Domain("u-2", "ldg2", "00:14:4f:f8:00:02")
    here = Inventory(machine("beta")).put("domains", "u-2", stranger)
    here = here.put("configs", "early", Configuration("early", (stranger,)))
    for selected, uuid, said in (
        ("", "u-1", ""),
        ("early", "u-2", ""),
        ("early", "u-1", "early"),
        ("factory-default", "u-2", "factory-default"),
    ):
        chosen = here.put("marks", "next", Mark(selected)) if selected else here
        facts = replace(CLEAN.domain, uuid=uuid)
        there = machine_facts(chosen, protocols=(1,))
        assert target_facts(chosen, facts, there).boots_without == said
