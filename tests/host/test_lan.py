"""What the kernel knows of a switch's network: two machines as network namespaces of the test."""

import asyncio
import json
import select
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest
from spaces import inside, spaces

from lodom.core.rules import lan as judge
from lodom.core.rules.case import LanFacts
from lodom.host import lan
from lodom.host.lan import Entry, Seen
from lodom.host.links import Link

R1, R2 = "00:11:22:33:44:01", "00:11:22:33:44:02"


def eventually(done, what):
    """Ask until *done*: the kernel works frames off behind the sender's back."""
    deadline = monotonic() + 5
    while not done():
        assert monotonic() < deadline, what
        select.select([], [], [], 0.01)


class Box:
    """A machine: a namespace with a bridge ``sw``."""

    def __init__(self, name):
        self.name = name
        # Silent until the test says something.
        self.ipv6("default", on=False)
        self.ip("link", "add", "sw", "type", "bridge")

    def inside(self, do):
        """What *do* returns, done in the namespace."""
        with inside(self.name):
            return do()

    def ipv6(self, device, on):
        path = f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6"
        self.inside(lambda: Path(path).write_text("0" if on else "1"))

    def say(self, to):
        """One datagram to an address of the network; nobody needs to be there."""
        with self.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as mouth:
            mouth.sendto(b"", (to, 9))

    def ip(self, *words):
        done = subprocess.run(
            ["ip", "-n", self.name, *words], check=True, capture_output=True, text=True
        )
        return done.stdout

    def mac(self, device="sw"):
        return json.loads(self.ip("-j", "link", "show", device))[0]["address"]

    def known(self):
        return self.inside(lambda: asyncio.run(lan.networks({"vsw0": "sw", "lost": "x"})))["vsw0"]


@pytest.fixture
def boxes():
    """Two machines whose switches are on one wire."""
    names = ("lodom-test-a", "lodom-test-b")
    with spaces(*names):
        a, b = map(Box, names)
        a.ip("link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", b.name)
        for box in (a, b):
            box.ip("link", "set", "up0", "master", "sw", "up")
            box.ip("link", "set", "sw", "up")
        yield a, b


@pytest.mark.live
def test_a_machine_that_speaks_is_heard(boxes):
    """Other prefixes on one wire: taken for two networks until the target has heard the source."""
    a, b = boxes
    a.ip("addr", "add", "10.1.0.5/24", "dev", "sw")
    b.ip("addr", "add", "10.2.0.6/24", "dev", "sw")
    assert b.known().heard == ()
    found = judge.conflict(a.known(), b.known())
    assert found == judge.Conflict("10.1.0.0/24", "10.2.0.0/24")
    assert not judge.same(a.known(), b.known(), "")
    a.say("10.1.0.9")
    eventually(lambda: b.known().heard == (a.mac(),), "the other bridge learns")
    assert judge.same(a.known(), b.known(), "")
    assert judge.same(b.known(), a.known(), "")


@pytest.mark.live
def test_two_machines_meet_and_then_do_not(boxes):
    """A station both know; its entry is changed behind the back of one of them."""
    a, b = boxes
    for box, address in zip(boxes, ("10.1.0.5/24", "10.1.0.6/24"), strict=True):
        box.ip("addr", "add", address, "dev", "sw")
        box.ip("neigh", "replace", "10.1.0.1", "lladdr", R1, "dev", "sw", "nud", "stale")
    assert judge.conflict(a.known(), b.known()) is None
    b.ip("neigh", "replace", "10.1.0.1", "lladdr", R2, "dev", "sw", "nud", "reachable")
    found = judge.conflict(a.known(), b.known())
    assert found == judge.Conflict(f"10.1.0.1 is {R1}", f"10.1.0.1 is {R2}")
    a.say("10.1.0.6")
    eventually(lambda: a.known().lans[0].neighbours.get("10.1.0.6") == b.mac(), "an answer")
    assert judge.same(a.known(), b.known(), "")


@pytest.mark.live
def test_what_says_where_it_is_counts(boxes):
    """Global addresses of both versions; learned neighbours, with their MAC, of this switch."""
    a, _ = boxes
    assert a.known().lans == ()
    a.ip("link", "set", "sw", "address", "02:00:00:00:00:05")
    a.ipv6("sw", on=True)
    a.ip("addr", "add", "fd00::5/64", "dev", "sw", "nodad")
    a.ip("addr", "add", "10.1.0.5/24", "dev", "sw")
    a.ip("addr", "add", "10.3.0.5/24", "dev", "sw", "scope", "host")
    a.ip("addr", "add", "169.254.1.5/16", "dev", "sw")
    a.ip("link", "add", "other", "type", "bridge")
    a.ip("addr", "add", "10.9.0.5/24", "dev", "other")
    a.ip("link", "set", "other", "up")
    known = {"10.1.0.1": "reachable", "10.1.0.2": "stale", "10.1.0.3": "delay"}
    for ip, state in {**known, "10.1.0.7": "permanent", "10.1.0.8": "noarp"}.items():
        a.ip("neigh", "replace", ip, "lladdr", R1, "dev", "sw", "nud", state)
    a.ip("neigh", "replace", "fd00::1", "lladdr", R2, "dev", "sw", "nud", "stale")
    a.ip("neigh", "replace", "fe80::1", "lladdr", R2, "dev", "sw", "nud", "stale")
    a.ip("neigh", "replace", "10.9.0.1", "lladdr", R2, "dev", "other", "nud", "stale")
    expected = LanFacts(
        0, ("10.1.0.5/24", "fd00::5/64"), {**dict.fromkeys(known, R1), "fd00::1": R2}
    )
    assert a.known().lans == (expected,)
    assert a.known().macs == (a.mac(), a.mac("up0"))


def link(index, name, **fields):
    plain = Link(
        index, name, kind="", master=0, alias="", loopback=False, ethernet=True, up=True, mtu=1500,
        mac=f"02:00:00:00:00:{index:02x}", filters=False, base=0, vlan=0,
    )  # fmt: skip
    return replace(plain, **fields)


BRIDGE = link(1, "br0", kind="bridge")
LINKS = [
    BRIDGE,
    link(2, "eth0.20", kind="vlan", base=9, vlan=20, master=1),
    link(3, "lt-1", kind="tun", master=1),
    link(4, "br0.30", kind="vlan", base=1, vlan=30),
    link(5, "eth1.40", kind="vlan", base=8, vlan=40),
]


def test_vlans_of_the_wire_and_of_the_switch():
    """An uplink with a tag; a VLAN on top of the bridge; one of another device."""
    addresses = [Entry(i, f"10.{i}.0.5/24") for i in range(1, 6)]
    seen = Seen(LINKS, addresses, [Entry(4, "10.4.0.1", R1)], [Entry(1, "", R2), Entry(7, "", R1)])
    found = lan.of_bridge(seen, BRIDGE)
    assert found.tags == (20,)
    assert found.macs == (BRIDGE.mac, LINKS[1].mac)
    assert found.heard == (R2,)
    assert found.lans == (
        LanFacts(0, ("10.1.0.5/24", "10.2.0.5/24")),
        LanFacts(30, ("10.4.0.5/24",), {"10.4.0.1": R1}),
    )


def test_large_tables_are_cut_to_the_same_part():
    many = [Entry(1, f"10.1.{n >> 8}.{n & 255}", R1) for n in range(5000)]
    heard = [Entry(1, "", f"02:00:00:01:{n >> 8:02x}:{n & 255:02x}") for n in range(5000)]
    found = lan.of_bridge(Seen(LINKS, [], many[::-1], heard), BRIDGE)
    (known,) = found.lans
    assert list(known.neighbours) == [f"10.1.0.{n}" for n in range(lan.NEIGHBOURS)]
    assert len(found.heard) == lan.HEARD
