"""One change, exactly that finding: virtual networks."""

from dataclasses import replace

from lodom.core.rules.case import NetworkFacts, SwitchFacts
from rules import clean
from rules.clean import brief, ids, nic, target


def test_r31_specification_example():
    """R32: vnet0 on switch-y, the target has no switch-y."""
    case = nic(switch="switch-y")
    assert brief(case) == [
        ("R31", "blocker", "Virtual switch switch-y, used by vnet0, does not exist on beta")
    ]
    assert ids(target(case, switches=(SwitchFacts("switch-y"),))) == []
    assert ids(clean.domain(case, state="inactive")) == []


def test_r33_uplink_on_one_side():
    assert brief(nic(uplink=True)) == [
        (
            "R33",
            "warning",
            "Switch primary-vsw0 of vnet0 has an uplink on alpha and none on beta",
        )
    ]


def test_r34_automatic_address_in_use():
    taken = {"00:14:4f:f8:00:02": "vnet vnet1 of LDom ldg7"}
    assert brief(target(macs=taken)) == [
        (
            "R34",
            "blocker",
            "MAC address 00:14:4f:f8:00:02 of vnet0 of LDom ldg-src is in use on beta by "
            "vnet vnet1 of LDom ldg7",
        )
    ]
    assert ids(target(nic(mac="0:14:4F:F8:0:2"), macs=taken)) == ["R34"]
    assert ids(target(macs={"00:14:4f:f8:00:01": "LDom ldg7"})) == ["R34"]


def test_l20_manual_address_in_use():
    """R34 leaves addresses outside the automatic range alone; they get a warning."""
    case = target(nic(mac="80:00:33:55:22:66"), macs={"80:00:33:55:22:66": "LDom ldg7"})
    assert [(r, s) for r, s, _ in brief(case)] == [("L20", "warning")]


def test_r42_hybrid_is_a_note():
    assert brief(nic(mode="hybrid")) == [
        ("R42", "note", "mode=hybrid of vnet0 is kept and not fulfilled on beta")
    ]


def test_l18_vlans():
    assert brief(nic(vids=(20,))) == [
        ("L18", "blocker", "vnet0 uses VLANs, which beta cannot filter")
    ]
    assert ids(nic(pvid=5)) == ["L18"]
    assert ids(clean.target_machine(nic(vids=(20,)), vlans=True)) == []


def test_l19_mtu():
    assert brief(nic(mtu=9000)) == [
        ("L19", "warning", "vnet0 has MTU 9000, switch primary-vsw0 on beta 1500")
    ]


def test_l19_mtu_of_the_bridge_as_it_is():
    assert brief(clean.target(networks={"primary-vsw0": NetworkFacts(mtu=1400)})) == [
        ("L19", "warning", "vnet0 has MTU 1500, switch primary-vsw0 on beta 1400")
    ]
    assert ids(clean.target(networks={"primary-vsw0": NetworkFacts(mtu=9000)})) == []


def test_a_domain_without_networks_is_fine():
    assert ids(replace(clean.domain(nics=()))) == []
