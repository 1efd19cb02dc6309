"""``add-vsw``, ``set-vsw``, ``remove-vsw`` on a machine with NICs: its network is as before."""

import json
import subprocess
from collections.abc import Iterator

import pytest
from machines import Machine, eventually

pytestmark = pytest.mark.live

NICS = ("bare0", "bare1", "busy0")


def ip(m: Machine, *words: str) -> str:
    done = subprocess.run(
        ["ip", "-n", m.placed.namespace, *words], capture_output=True, text=True, check=True
    )
    return done.stdout


def settled(m: Machine) -> list[object]:
    """Addresses, links and routes of both families, without what ages."""
    rows = []
    for words in (["addr"], ["route", "show", "table", "all"], ["-6", "route"]):
        rows += json.loads(ip(m, "-j", *words))
    for row in rows:
        for address in row.get("addr_info", ()):
            address.pop("valid_life_time"), address.pop("preferred_life_time")
        row.pop("expires", None)
    return sorted(rows, key=json.dumps)


@pytest.fixture
def machine(world) -> Iterator[Machine]:
    """A machine with two NICs without an address and one with."""
    m = world.a
    for name in NICS:
        ip(m, "link", "add", name, "type", "veth", "peer", "name", f"{name}-far")
        for end in (name, f"{name}-far"):
            ip(m, "link", "set", end, "addrgenmode", "none", "up")
    ip(m, "addr", "add", "192.0.2.7/24", "dev", "busy0")
    eventually(lambda: "tentative" not in ip(m, "addr"), "the kernel has tried its addresses")
    eventually(lambda: "UP" in ip(m, "-br", "link", "show", "busy0"), "the wires are up")
    yield m
    for name in NICS:
        ip(m, "link", "del", name)


def test_a_switch_comes_and_goes_through_a_crash_of_ldmd(machine):
    before = settled(machine)
    machine.ldm("add-vsw", "net-dev=bare0", "wired", "primary")
    assert "master" in ip(machine, "link", "show", "bare0")
    machine.kill_ldmd()
    machine.start_ldmd()
    machine.ldm("set-vsw", "net-dev=bare1", "wired")
    assert "master" not in ip(machine, "link", "show", "bare0")
    assert "master" in ip(machine, "link", "show", "bare1")
    machine.ldm("remove-vsw", "wired")
    assert settled(machine) == before


def test_the_host_s_own_nic_is_refused_with_the_ways_out(machine):
    before = settled(machine)
    said = machine.tried("add-vsw", "net-dev=busy0", "wired", "primary")
    assert said.code != 0
    assert "the address 192.0.2.7/24 of this host" in said.err
    for words in ("networkctl reload", "bridge_ports busy0", "nmcli connection up br0-busy0"):
        assert words in said.err
    assert "wired" not in machine.ldm("list-services")
    assert settled(machine) == before


def test_a_firewall_that_would_drop_guests_is_named_when_the_switch_is_made(machine):
    chain = "chain forward {\ntype filter hook forward priority 0; policy drop;\n}\n"
    nft = ["ip", "netns", "exec", machine.placed.namespace, "nft", "-f", "-"]
    subprocess.run(nft, input=f"table ip trap {{\n{chain}}}\n", text=True, check=True)
    try:
        said = machine.tried("add-vsw", "net-dev=bare0", "wired", "primary")
    finally:
        machine.ldm("remove-vsw", "wired")
        subprocess.run(nft, input="delete table ip trap\n", text=True, check=True)
    assert said.code == 0
    assert said.err.startswith("Warning: nftables ip trap forward drops")
    assert "sysctl net.bridge.bridge-nf-call-iptables=0" in said.err
