"""R33: what two machines know of a switch's network, one piece of evidence at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lodom.core.rules.case import LanFacts, NetworkFacts, SwitchFacts
from rules import clean
from rules.clean import brief, ids, nic, target

A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
GUEST = "00:14:4f:f8:00:02"
R1, R2 = "00:11:22:33:44:01", "00:11:22:33:44:02"


def net(*addresses, mac=A, vlan=0, heard=(), tags=(), **neighbours):
    """``n1=R1``: 10.1.0.1 is R1."""
    known = {f"10.1.0.{ip[1:]}": where for ip, where in neighbours.items()}
    return NetworkFacts((mac,), heard, tags, (LanFacts(vlan, addresses, known),))


def ours(*words, **fields):
    return net(*(words or ("10.1.0.5/24",)), **fields)


def theirs(*words, **fields):
    return net(*(words or ("10.1.0.6/24",)), mac=B, **fields)


def case(here, there, base=clean.CLEAN):
    networks = {"primary-vsw0": here}, {"primary-vsw0": there}
    return target(clean.source(base, networks=networks[0]), networks=networks[1])


def said(here, there, base=clean.CLEAN):
    return [text for rule, _, text in brief(case(here, there, base)) if rule == "R33"]


STATION = "10.1.0.1 is 00:11:22:33:44:01 on alpha, 10.1.0.1 is 00:11:22:33:44:02 on beta"
PREFIX = "10.1.0.0/24 on alpha, 10.2.0.0/24 on beta"


@pytest.mark.parametrize(
    ("here", "there", "evidence"),
    [
        (ours(), theirs("10.2.0.6/24"), PREFIX),
        (ours("10.1.0.5/24", "fd00::5/64"), theirs("10.2.0.6/24"), PREFIX),
        (ours("fd01::5/64"), theirs("fd02::5/64"), "fd01::/64 on alpha, fd02::/64 on beta"),
        (ours(n1=R1), theirs(n1=R2), STATION),
        (ours("10.1.0.5/16", n1=R1), theirs(n1=R2), STATION),
        (ours(n1=R1), theirs(n1=R2.upper().replace("00", "0", 1)), STATION),
        (ours(n9=R1, n10=R1), theirs(n9=R2, n10=R2), STATION.replace("0.1 ", "0.9 ")),
        (
            ours("10.1.0.1/24"),
            theirs(n1=R2),
            f"10.1.0.1 is {A} on alpha, 10.1.0.1 is {R2} on beta",
        ),
        (net(tags=(20,)), net(mac=B, tags=(30, 31)), "VLAN 20 on alpha, VLAN 30, VLAN 31 on beta"),
    ],
)
def test_r33_contradiction(here, there, evidence):
    text = f"Switch primary-vsw0 of vnet0 seems to be on different networks: {evidence}"
    assert brief(case(here, there)) == [("R33", "warning", text)]


@pytest.mark.parametrize(
    ("here", "there"),
    [
        pytest.param(NetworkFacts(), NetworkFacts(), id="nothing known"),
        pytest.param(ours(n1=R1), NetworkFacts((B,)), id="nothing known there"),
        pytest.param(ours(), theirs(), id="a common prefix"),
        pytest.param(ours("10.1.0.5/16"), theirs(), id="prefixes overlap"),
        pytest.param(ours("10.1.0.5/32"), theirs("10.2.0.6/32"), id="no networks at all"),
        pytest.param(ours(), theirs("fd00::6/64"), id="other versions"),
        pytest.param(ours(n1=R1), theirs(n1=R1), id="the same gateway"),
        pytest.param(ours(n1=R1, n2=R1), theirs(n1=R2, n2=R1), id="old entry beside a true one"),
        pytest.param(ours(n1=R1), theirs("10.2.0.6/24", n1=R1), id="two prefixes on one wire"),
        pytest.param(ours(tags=(20,), n1=R1), theirs(tags=(30,), n1=R1), id="VLANs translated"),
        pytest.param(ours(tags=(20,)), theirs(), id="tagged against untagged"),
        pytest.param(ours(n1="00:00:5e:00:01:07"), theirs(n1=R1), id="VRRP"),
        pytest.param(ours(n1="00:07:b4:00:00:01"), theirs(n1="00:07:b4:00:00:02"), id="GLBP"),
        pytest.param(ours(n7=GUEST), theirs(n7=R1), id="a guest"),
        pytest.param(ours(), theirs("10.2.0.6/24", heard=(A,)), id="the source is heard"),
        pytest.param(ours(heard=(B,)), theirs("10.2.0.6/24"), id="the target is heard"),
        pytest.param(ours(), theirs("10.2.0.6/24", n5=A), id="the source is a neighbour"),
        pytest.param(ours(), theirs("10.2.0.6/24", heard=(GUEST,)), id="the guest is heard"),
        pytest.param(ours(n300="x", n1="?"), theirs(n1=R1), id="what no machine says"),
        pytest.param(ours("10.1.0.5/99"), theirs("10.2.0.6/24"), id="no prefix"),
    ],
)
def test_nothing_is_said(here, there):
    assert ids(case(here, there)) == []


def test_evidence_is_of_the_device_s_own_vlans():
    here, there = ours(vlan=20), theirs("10.2.0.6/24", vlan=20)
    assert said(here, there) == []
    for used in ({"pvid": 20}, {"vids": (7, 20)}):
        text = (
            f"Switch primary-vsw0 of vnet0 seems to be on different networks in VLAN 20: {PREFIX}"
        )
        assert said(here, there, nic(**used)) == [text]


def test_a_shared_guest_address_is_no_proof():
    """The target has a guest with the MAC that it has heard: it may be that one."""
    taken = target(macs={GUEST: "vnet vnet1 of LDom ldg7"})
    assert len(said(ours(), theirs("10.2.0.6/24", heard=(GUEST,)), taken)) == 1


def test_a_guest_that_moved_is_no_witness():
    """It has the same addresses on both sides, wherever it is."""
    here, there = ours(n7=GUEST, n1=R1), theirs(n7=GUEST, n1=R2)
    assert len(said(here, there)) == 1


def test_an_uplink_on_one_side_is_said_alone():
    base = nic(uplink=True)
    (text,) = said(ours(), theirs("10.2.0.6/24"), base)
    assert text == "Switch primary-vsw0 of vnet0 has an uplink on alpha and none on beta"
    base = target(base, switches=(SwitchFacts("primary-vsw0", uplink=True),))
    assert PREFIX in said(ours(), theirs("10.2.0.6/24"), base)[0]


def test_another_switch_is_none_of_the_device_s_business():
    there = target(case(ours(), ours()), networks={"other": theirs("10.2.0.6/24")})
    assert ids(there) == []


HOSTS = st.sets(st.integers(10, 30))
PREFIXES = st.sampled_from(["10.1.0.{}/24", "10.1.0.{}/16", "10.2.0.{}/24", "fd01::{}/64"])
TABLES = st.tuples(HOSTS, HOSTS, PREFIXES, PREFIXES)


def tables(known, wire, prefix, own, address):
    """A machine's own address and what it knows of the stations of a wire."""
    stations = {f"n{n}": f"02:00:00:{wire:02x}:00:{n:02x}" for n in known}
    return net(prefix.format(own), mac=address, **stations)


@given(TABLES)
def test_one_network_is_never_taken_for_two(drawn):
    """Both know some of the stations of one wire, and live in one prefix."""
    here, there, prefix, _ = drawn
    pair = tables(here, 1, prefix, 5, A), tables(there, 1, prefix, 6, B)
    assert said(*pair) == []


@given(TABLES)
def test_two_networks_are_told_where_something_speaks_against_one(drawn):
    """Stations of two wires, where no MAC is on both: told as far as the tables meet."""
    here, there, first, other = drawn
    pair = tables(here, 1, first, 5, A), tables(there, 2, other, 6, B)
    apart = {p[:5] for p in (first, other)} == {"10.1.", "10.2."}
    met = here & there and {p[:5] for p in (first, other)} == {"10.1."}
    assert len(said(*pair)) == len(said(*reversed(pair))) == bool(apart or met)
