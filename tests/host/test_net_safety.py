"""A switch never cuts the host off, and its removal leaves the host's network as it was.

What is compared before and after: ``ip -j`` of addresses, links and routes of both families, and
every sysctl of the network, in a namespace of the test's own.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from spaces import inside, spaces

from lodom.core.errors import InUse, InvalidValue, StepFailed
from lodom.host import firewall, links, net
from lodom.host.firewall import Chain, Firewall
from lodom.host.uplink import RECIPES, Address, Device, notes, usable_as_is

NIC = Device("eth0", mac="52:54:00:12:34:56")
STATIC = replace(NIC, addresses=(Address("192.0.2.7/24"),), gateways=("192.0.2.1",))


# -- decisions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "as_is"),
    [
        (NIC, False),
        (replace(NIC, master="lb-own"), False),
        (replace(STATIC, master="lb-own"), False),
        (replace(NIC, kind="bridge"), True),
        (replace(STATIC, kind="bridge", mtu=9000), True),
        (replace(NIC, kind="bridge", mtu=1400), True),
        (replace(NIC, kind="bond"), False),
    ],
)
def test_what_may_be_an_uplink(device, as_is):
    assert usable_as_is(device, 1500, "lb-own") is as_is


@pytest.mark.parametrize(
    ("device", "mtu", "error", "words"),
    [
        (replace(NIC, loopback=True), 1500, InvalidValue, "has no wire"),
        (replace(NIC, wireless=True), 1500, InvalidValue, "a wireless device cannot be"),
        (replace(NIC, ethernet=False), 1500, InvalidValue, "not Ethernet cannot be"),
        (replace(NIC, master="bond0"), 1500, InUse, "bond0"),
        (replace(NIC, kind="bridge", alias="lodom m1 vsw1 eth9 up"), 1500, InUse, "switch vsw1"),
        (NIC, 9000, InvalidValue, "ip link set eth0 mtu 9000"),
        (replace(NIC, kind="bridge"), 9000, InvalidValue, "ip link set eth0 mtu 9000"),
        (STATIC, 1500, InvalidValue, "the address 192.0.2.7/24 and the default route of this"),
        (replace(NIC, addresses=(Address("2001:db8::7/64"),)), 1500, InvalidValue, "2001:db8::7"),
        (replace(NIC, gateways=("",)), 1500, InvalidValue, "it has the default route of"),
        (replace(NIC, routes=("10.0.0.0/8",)), 1500, InvalidValue, "the route to 10.0.0.0/8"),
    ],
)
def test_what_may_not_and_why(device, mtu, error, words):
    with pytest.raises(error) as refused:
        usable_as_is(device, mtu, "lb-own")
    assert words in str(refused.value)


@pytest.mark.parametrize("manager", RECIPES)
def test_each_way_out_is_there_the_host_s_own_first(manager):
    with pytest.raises(InvalidValue) as refused:
        usable_as_is(replace(STATIC, manager=manager, spare="br3"), 1500, "lb-own")
    text = str(refused.value)
    first = min(RECIPES, key=lambda name: text.index(f"  {name}"))
    assert first == manager
    assert f"{manager} (it manages eth0 here):" in text
    assert all(f"  {name}" in text for name in RECIPES)
    assert "nothing was changed" in text
    assert text.endswith("then net-dev=br3. Carry over name servers by hand.")


def test_the_ways_out_carry_the_real_names_and_addresses():
    both = replace(
        STATIC,
        addresses=(Address("192.0.2.7/24"), Address("2001:db8::7/64")),
        gateways=("192.0.2.1", "2001:db8::1"),
    )
    networkd = RECIPES["systemd-networkd"](both)
    assert networkd[1] == (
        r"printf '[Match]\nName=eth0\n[Network]\nBridge=br0\n' "
        ">/etc/systemd/network/05-eth0.network"
    )
    for words in ("Address=192.0.2.7/24", "Gateway=192.0.2.1", "Gateway=2001:db8::1"):
        assert words in networkd[2]
    ifupdown = [line.strip() for line in RECIPES["ifupdown"](both)]
    for line in ("iface br0 inet static", "bridge_ports eth0", "gateway 2001:db8::1", "ifup br0"):
        assert line in ifupdown
    assert RECIPES["NetworkManager"](both)[0] == (
        "nmcli connection add type bridge con-name br0 ifname br0 bridge.stp no "
        "bridge.mac-address 52:54:00:12:34:56 "
        "ipv4.method manual ipv4.addresses 192.0.2.7/24 ipv4.gateway 192.0.2.1 "
        "ipv6.method manual ipv6.addresses 2001:db8::7/64 ipv6.gateway 2001:db8::1"
    )


def test_an_address_by_dhcp_stays_one():
    leased = replace(STATIC, addresses=(Address("192.0.2.7/24", dynamic=True),))
    assert "DHCP=yes" in RECIPES["systemd-networkd"](leased)[2]
    assert "192.0.2" not in "".join(RECIPES["systemd-networkd"](leased))
    assert "  iface br0 inet dhcp" in RECIPES["ifupdown"](leased)
    assert "ipv4" not in "".join(RECIPES["NetworkManager"](leased))


def test_a_bridge_that_is_too_small_for_guests_is_named():
    (note,) = notes(replace(NIC, kind="bridge", mtu=1400))
    assert note.startswith("eth0 has MTU 1400 and guests expect 1500: ip link set eth0 mtu 1500")
    assert notes(replace(NIC, kind="bridge")) == ()


def test_a_bridge_whose_address_is_its_guests_is_named():
    (note,) = notes(replace(NIC, kind="bridge", steady=False))
    assert note.startswith("the MAC of eth0 changes as guests come and go")
    assert note.endswith(": ip link set eth0 address 52:54:00:12:34:56")


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("run/NetworkManager/devices/7", "[device]\nmanaged=true\n", "NetworkManager"),
        ("run/NetworkManager/devices/7", "[device]\nmanaged=false\n", ""),
        ("run/systemd/netif/links/7", "ADMIN_STATE=configured\n", "systemd-networkd"),
        ("run/systemd/netif/links/7", "ADMIN_STATE=unmanaged\n", ""),
        ("etc/network/interfaces", "auto eth0\niface eth0 inet dhcp\n", "ifupdown"),
        ("etc/network/interfaces", "iface eth0.7 inet dhcp\n", ""),
        ("etc/network/interfaces.d/wire", "iface eth0 inet dhcp\n", "ifupdown"),
    ],
)
def test_who_manages_a_device(tmp_path, file, text, found):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text)
    assert links.manager("eth0", 7, tmp_path) == found


BOTH = frozenset({"ip", "ip6"})
FORWARD = Chain("ip", "nftables ip filter FORWARD")


@pytest.mark.parametrize(
    ("fire", "found"),
    [
        (Firewall(BOTH), []),
        (Firewall(chains=(FORWARD,)), []),
        (Firewall(frozenset({"ip6"}), (FORWARD,)), []),
        (Firewall(BOTH, (FORWARD,)), ["bridge-nf-call-iptables)"]),
        (Firewall(BOTH, (Chain("inet", "x"),)), ["iptables and bridge-nf-call-ip6tables)"]),
        (Firewall(chains=(Chain("bridge", "x"),)), ["x drops bridged frames"]),
    ],
)
def test_which_firewall_is_a_trap(fire, found):
    traps = firewall.traps(fire)
    assert len(traps) == len(found)
    assert all(words in trap.found for words, trap in zip(found, traps, strict=True))
    assert all(trap.remedy for trap in traps)


def test_the_way_out_of_docker_s_trap_is_docker_s_own_chain():
    (trap,) = firewall.traps(Firewall(BOTH, (FORWARD,), docker=True))
    assert "sysctl net.bridge.bridge-nf-call-iptables=0" in trap.remedy
    assert "iptables -I DOCKER-USER -m physdev --physdev-is-bridged -j ACCEPT" in trap.remedy


def test_what_iptables_legacy_says():
    text = "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n-N DOCKER-USER\n"
    assert firewall.legacy_chains("ip", "iptables-legacy", text) == (
        (Chain("ip", "iptables-legacy FORWARD"),),
        True,
    )
    assert firewall.legacy_chains("ip", "iptables-legacy", "-P FORWARD ACCEPT\n") == ((), False)


HERE, FAR = "lodom-test-here", "lodom-test-far"


# -- in a namespace -----------------------------------------------------------------------------


@pytest.fixture
def namespace():
    """A namespace that the test's thread lives in until its end, and one for far ends of wires."""
    with spaces(HERE, FAR), inside(HERE):
        Path("/proc/sys/net/ipv6/conf/default/dad_transmits").write_text("0")
        yield


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def seen() -> dict[str, object]:
    """The host's network, without what counts and ages by itself."""
    found: dict[str, object] = {}
    for words in (["addr"], ["-d", "link"], ["route", "show", "table", "all"], ["-6", "route"]):
        done = subprocess.run(["ip", "-j", *words], check=True, capture_output=True)
        rows = json.loads(done.stdout)
        found[" ".join(words)] = sorted(json.dumps(settled(row), sort_keys=True) for row in rows)
    for path in sorted(Path("/proc/sys/net").rglob("*")):
        if path.is_file() and os.access(path, os.R_OK) and path.name not in CHANGING:
            try:
                found[str(path)] = path.read_text()
            except OSError as error:  # stable_secret has no value
                found[str(path)] = str(error.errno)
    return found


CHANGING = {"nf_conntrack_count", "urandom_min_reseed_secs", "uuid"}


def settled(value):
    """*value* without life times, counters and timers."""
    if isinstance(value, dict):
        timed = ("_timer", "_life_time", "gc_timer", "stats", "stats64", "expires")
        return {k: settled(v) for k, v in value.items() if not k.endswith(timed)}
    return [settled(v) for v in value] if isinstance(value, list) else value


def bare(name: str = "nic0", *, up: bool) -> str:
    ip("link", "add", name, "type", "veth", "peer", "name", name, "netns", FAR)
    ip("-n", FAR, "link", "set", name, "up")
    ip("link", "set", name, "up")  # every NIC was up once: it has its queue
    settle()
    if not up:
        ip("link", "set", name, "down")
        settle()
    return name


def settle() -> None:
    """Wait until the kernel has tried all its own addresses and noticed what is down."""
    with subprocess.Popen(
        ["ip", "-o", "monitor", "address", "link"], stdout=subprocess.PIPE
    ) as monitor:
        while unsettled():
            monitor.stdout.readline()
        monitor.kill()


def unsettled() -> list[str]:
    rows = json.loads(subprocess.check_output(["ip", "-j", "addr"]))
    return [
        row["ifname"]
        for row in rows
        if any(a.get("tentative") for a in row["addr_info"])
        or ("LOWER_UP" in row["flags"]) != (row["operstate"] in ("UP", "UNKNOWN"))
    ]


def wired(kind: str) -> str:
    """A device of one of the three kinds."""
    if kind.startswith("bare"):
        return bare(up=kind == "bare, up")
    bare(up=True)
    if kind == "bridge":
        ip("link", "add", "br0", "type", "bridge")
        ip("link", "set", "nic0", "master", "br0")
        ip("link", "set", "br0", "up")
    name = "br0" if kind == "bridge" else "nic0"
    ip("addr", "add", "192.0.2.7/24", "dev", name)
    ip("route", "add", "default", "via", "192.0.2.1", "dev", name)
    settle()
    return name


KINDS = ["bridge", "bare, up", "bare, down"]


def add(**fields) -> net.Switched:
    fields = {"mac": "00:14:4f:fb:00:01", "vlans": False, **fields}
    return asyncio.run(net.make_switch("m1", "vsw0", **fields))


def remove() -> None:
    asyncio.run(net.remove_switch("m1", "vsw0"))


@pytest.mark.live
@pytest.mark.parametrize("kind", KINDS)
def test_a_removed_switch_leaves_the_network_as_it_was(namespace, kind):
    device = wired(kind)
    before = seen()
    made = add(net_dev=device)
    tap = asyncio.run(net.make_tap("m1", "u", 0, bridge=made.bridge))
    assert seen() != before
    os.close(tap.fd)
    add(net_dev=device)
    remove()
    settle()
    assert seen() == before


@pytest.mark.live
def test_a_nic_with_the_host_s_address_is_refused_and_nothing_is_changed(namespace):
    device = wired("address")
    before = seen()
    with pytest.raises(InvalidValue, match=r"the address 192\.0\.2\.7/24 and the default route"):
        add(net_dev=device)
    settle()
    assert seen() == before


@pytest.mark.live
@pytest.mark.parametrize(("kind", "steady"), [("1", False), ("3", True), ("", True)])
def test_a_bridge_without_a_card_keeps_its_address_only_if_it_was_set(
    namespace, tmp_path, kind, steady
):
    """What the kernel says of the address; a bridge with a card has that of the card."""

    async def look() -> Device:
        async with links.netlink("looking") as netlink:
            return await links.device(netlink, "br0", tmp_path)

    folder = tmp_path / "sys/class/net/br0"
    folder.mkdir(parents=True)
    (folder / "addr_assign_type").write_text(f"{kind}\n")
    ip("link", "add", "br0", "type", "bridge")
    assert asyncio.run(look()).steady is steady
    ip("link", "set", bare(up=True), "master", "br0")
    assert asyncio.run(look()).steady


@pytest.mark.live
def test_one_hop_of_several_to_the_default_is_the_host_s_too(namespace):
    bare(up=True)
    ip("route", "add", "default", "nexthop", "dev", "nic0", "nexthop", "dev", bare("nic1", up=True))
    with pytest.raises(InvalidValue, match="the default route"):
        add(net_dev="nic0")


MAKE = """
import asyncio, sys
from lodom.host import net
asyncio.run(net.make_switch("m1", "vsw0", net_dev=sys.argv[1], vlans=False))
print("made", flush=True)
sys.stdin.read()
"""


@pytest.mark.live
@pytest.mark.parametrize("kind", KINDS)
def test_another_process_restores_what_a_killed_one_changed(namespace, kind):
    device = wired(kind)
    before = seen()
    with subprocess.Popen(
        [sys.executable, "-c", MAKE, device], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as maker:
        assert maker.stdout.readline() == b"made\n"
        maker.send_signal(signal.SIGKILL)
    add(net_dev=device)  # the next ldmd makes its switches again
    remove()
    settle()
    assert seen() == before


@pytest.mark.live
@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_add_leaves_the_network_as_it_was(namespace, kind):
    device = wired(kind)
    before = seen()
    with pytest.raises((StepFailed, InvalidValue)):
        # A kernel refuses a bridge with a group address for its own.
        add(net_dev=device, mtu=9000 if kind == "bridge" else 1500, mac="01:00:5e:00:00:01")
    settle()
    assert seen() == before


@pytest.mark.live
def test_another_uplink_lets_the_old_one_go(namespace):
    bare(up=False)
    bare("nic1", up=False)
    before = seen()
    name = add(net_dev="nic0").bridge
    assert master("nic0") == name
    add(net_dev="nic1")
    assert (master("nic0"), master("nic1")) == ("", name)
    add()
    assert master("nic1") == ""
    remove()
    settle()
    assert seen() == before


@pytest.mark.live
def test_an_uplink_that_the_kernel_refuses_leaves_the_old_one(namespace):
    bare(up=False)
    # A device with a macvlan on it cannot be in a bridge; only the kernel knows.
    bare("nic1", up=False)
    made = subprocess.run(["ip", "link", "add", "mv0", "link", "nic1", "type", "macvlan"])
    if made.returncode:
        pytest.skip("this kernel has no macvlan")
    bridge = add(net_dev="nic0").bridge
    settle()
    before = seen()
    with pytest.raises(StepFailed):
        add(net_dev="nic1", mac="00:14:4f:fb:00:02")
    settle()
    assert seen() == before
    assert master("nic0") == bridge


@pytest.mark.live
def test_a_switch_goes_from_a_bridge_of_its_own_to_the_host_s_and_back(namespace):
    bare(up=True)
    ip("link", "add", "br7", "type", "bridge")
    before = seen()
    own = add(net_dev="nic0").bridge
    assert add(net_dev="br7").bridge == "br7"
    settle()
    assert seen() == before
    assert add(net_dev="nic0").bridge == own
    remove()
    settle()
    assert seen() == before


@pytest.mark.live
def test_a_tap_does_not_change_the_mtu_of_the_host_s_bridge(namespace):
    ip("link", "add", "br0", "type", "bridge")
    ip("link", "set", bare(up=True), "mtu", "9000", "master", "br0")
    ip("link", "set", "br0", "up")
    settle()
    before = seen()
    tap = asyncio.run(net.make_tap("m1", "u", 0, bridge=add(net_dev="br0").bridge))
    found = json.loads(subprocess.check_output(["ip", "-j", "link", "show", "br0"]))
    os.close(tap.fd)
    assert found[0]["mtu"] == 9000
    settle()
    assert seen() == before


def master(name: str) -> str:
    return json.loads(subprocess.check_output(["ip", "-j", "link", "show", name]))[0].get(
        "master", ""
    )


@pytest.mark.live
@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ("type filter hook forward priority 0; policy drop;", ["drops"]),
        ("type filter hook forward priority 0; policy accept; counter reject", ["rejects"]),
        ("type filter hook forward priority 0; policy accept; ct state new drop", []),
        ("type filter hook input priority 0; policy drop;", []),
    ],
)
def test_a_forward_policy_is_read_from_nftables(namespace, rules, found):
    table = f"table ip x {{\nchain y {{\n{rules}\n}}\n}}\n"
    subprocess.run(["nft", "-f", "-"], input=table, check=True, text=True)
    for key in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables"):
        path = Path("/proc/sys/net/bridge") / key
        if not path.exists():
            pytest.skip("this kernel has no br_netfilter")
        path.write_text("1")
    fire = asyncio.run(firewall.read())
    assert fire.calls == BOTH
    assert [chain.how for chain in fire.chains] == found
    assert len(firewall.traps(fire)) == len(found)
