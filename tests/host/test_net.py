"""Bridges and taps, in a network namespace of the test's own."""

import asyncio
import json
import os
import subprocess

import pytest
from spaces import inside, spaces

from lodom.core.errors import InUse, InvalidValue, NotSupported, StepFailed
from lodom.host import net

UUID = "c2c3d93b-a3f9-60f6-a45e-f35d55c05fb6"


SPACE = "lodom-test-net"


@pytest.fixture
def namespace():
    """A namespace that the test's thread lives in until its end."""
    with spaces(SPACE), inside(SPACE):
        yield SPACE


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def link(name: str) -> dict | None:
    """What ``ip -d link`` knows of a link."""
    done = subprocess.run(["ip", "-d", "-j", "link", "show", name], capture_output=True)
    return json.loads(done.stdout)[0] if done.returncode == 0 else None


def ipv6(name: str, key: str) -> str:
    with open(f"/proc/sys/net/ipv6/conf/{name}/{key}") as file:
        return file.read().strip()


def switch(**fields) -> str:
    fields = {"mac": "00:14:4f:fb:00:01", "vlans": False, **fields}
    return asyncio.run(net.make_switch("m1", "primary-vsw0", **fields)).bridge


def tap(bridge: str, **fields) -> net.Tap:
    return asyncio.run(net.make_tap("m1", UUID, 0, bridge=bridge, **fields))


def test_names_fit_and_two_machines_do_not_meet():
    names = {
        net.bridge_name("m1", "primary-vsw0"),
        net.bridge_name("m2", "primary-vsw0"),
        net.tap_name("m1", UUID, 0),
        net.tap_name("m1", UUID, 1),
        net.tap_name("m2", UUID, 0),
    }
    assert len(names) == 5
    assert all(len(name) == 15 for name in names)
    assert net.tap_name("m1", UUID, 0) == net.tap_name("m1", UUID, 0)


@pytest.mark.live
def test_a_switch_is_a_quiet_bridge_that_can_be_made_twice(namespace):
    name = switch(mtu=9000)
    assert name == switch(mtu=9000)
    found = link(name)
    assert found["linkinfo"]["info_kind"] == "bridge"
    assert found["ifalias"] == "lodom m1 primary-vsw0"
    assert (found["mtu"], found["address"]) == (9000, "00:14:4f:fb:00:01")
    assert "UP" in found["flags"]
    assert (ipv6(name, "accept_ra"), ipv6(name, "autoconf")) == ("0", "0")


@pytest.mark.live
def test_only_our_own_bridges_are_removed(namespace):
    ip("link", "add", "br0", "type", "bridge")
    name, other = switch(), asyncio.run(net.make_switch("m2", "s", vlans=False)).bridge
    asyncio.run(net.remove_switch("m1", "another"))
    assert link(name)
    asyncio.run(net.remove_switch("m1", "primary-vsw0"))
    asyncio.run(net.remove_switch("m1", "primary-vsw0"))
    assert not link(name)
    switch()
    asyncio.run(net.remove_switches("m1", keep={"primary-vsw0"}))
    assert link(name)
    asyncio.run(net.remove_switches("m1", keep={"another"}))
    assert not link(name)
    assert link(other)
    assert link("br0")


@pytest.mark.live
def test_an_existing_bridge_is_used_as_it_is_and_never_deleted(namespace):
    ip("link", "add", "br0", "mtu", "1400", "type", "bridge")
    assert switch(net_dev="br0") == "br0"
    assert link("br0")["mtu"] == 1400
    asyncio.run(net.remove_switches("m1"))
    assert link("br0")


@pytest.mark.live
def test_a_bare_nic_becomes_the_uplink_and_is_let_go(namespace):
    ip("link", "add", "nic0", "type", "veth", "peer", "name", "far0")
    name = switch(net_dev="nic0")
    assert link("nic0")["master"] == name
    assert switch(net_dev="nic0") == name
    asyncio.run(net.remove_switch("m1", "primary-vsw0"))
    assert "master" not in link("nic0")


@pytest.mark.live
def test_the_nic_that_the_host_talks_through_is_refused(namespace):
    ip("link", "add", "nic0", "type", "veth", "peer", "name", "far0")
    ip("addr", "add", "192.0.2.7/24", "dev", "nic0")
    with pytest.raises(InvalidValue, match=r"the address 192\.0\.2\.7/24 of this host"):
        switch(net_dev="nic0")
    assert not link(net.bridge_name("m1", "primary-vsw0"))


@pytest.mark.live
def test_a_nic_with_the_default_route_is_refused(namespace):
    ip("link", "add", "nic0", "type", "veth", "peer", "name", "far0")
    for name in ("nic0", "far0"):
        ip("link", "set", name, "up")
    ip("route", "add", "default", "dev", "nic0")
    with pytest.raises(InvalidValue, match="default route"):
        switch(net_dev="nic0")


@pytest.mark.live
def test_a_nic_of_another_bridge_is_refused(namespace):
    ip("link", "add", "br0", "type", "bridge")
    ip("link", "add", "nic0", "type", "veth", "peer", "name", "far0")
    ip("link", "set", "nic0", "master", "br0")
    with pytest.raises(InUse, match='"nic0" is in use by br0'):
        switch(net_dev="nic0")


@pytest.mark.live
def test_a_nic_with_a_smaller_mtu_is_refused_with_the_way_out(namespace):
    ip("link", "add", "nic0", "type", "veth", "peer", "name", "far0")
    with pytest.raises(InvalidValue, match="nic0 has 1500; first: ip link set nic0 mtu 9000"):
        switch(net_dev="nic0", mtu=9000)
    assert not link(net.bridge_name("m1", "primary-vsw0"))


@pytest.mark.live
@pytest.mark.parametrize("device", ["nowhere0", "lo"])
def test_a_device_that_is_no_nic_is_refused(namespace, device):
    with pytest.raises(InvalidValue, match=device):
        switch(net_dev=device)


@pytest.mark.live
def test_a_bridge_that_the_kernel_refuses_leaves_nothing(namespace):
    with pytest.raises(StepFailed, match="primary-vsw0"):
        switch(mtu=1 << 24)
    assert not link(net.bridge_name("m1", "primary-vsw0"))


@pytest.mark.live
def test_a_tap_lives_as_long_as_its_descriptor(namespace):
    bridge = switch(mtu=9000)
    made = tap(bridge, mtu=9000)
    found = link(made.name)
    assert (found["master"], found["mtu"]) == (bridge, 9000)
    assert found["address"].startswith("fe:")
    assert found["linkinfo"]["info_data"]["vnet_hdr"]
    assert not found["linkinfo"]["info_data"]["persist"]
    assert ipv6(made.name, "disable_ipv6") == "1"
    assert "UP" in found["flags"]
    with pytest.raises(InUse, match=made.name):
        tap(bridge)
    os.close(made.fd)
    assert not link(made.name)


@pytest.mark.live
def test_a_frame_goes_from_tap_to_tap(namespace):
    bridge = switch()
    one = tap(bridge)
    two = asyncio.run(net.make_tap("m1", UUID, 1, bridge=bridge))
    frame = bytes.fromhex("ffffffffffff00144ff9000188b5") + b"lodom".ljust(46, b"\0")
    os.write(one.fd, bytes(10) + frame)
    os.set_blocking(two.fd, True)
    assert os.read(two.fd, 2048)[10:] == frame
    os.close(one.fd)
    os.close(two.fd)


@pytest.mark.live
def test_a_tap_for_no_bridge_leaves_nothing(namespace):
    with pytest.raises(StepFailed, match="no such bridge"):
        tap("lb-nowhere")
    assert not link(net.tap_name("m1", UUID, 0))


@pytest.mark.live
@pytest.mark.parametrize("fields", [{"pvid": 7}, {"vids": (8, 9)}])
def test_a_vlan_is_refused_on_a_bridge_that_cannot_filter(namespace, fields):
    with pytest.raises(NotSupported, match="VLAN"):
        tap(switch(), **fields)
    assert not link(net.tap_name("m1", UUID, 0))


@pytest.mark.live
def test_a_vlan_is_kept_apart(namespace):
    if not asyncio.run(net.can_filter_vlans()):
        pytest.skip("this kernel lacks bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)")
    bridge = switch(vlans=True)
    made = tap(bridge, pvid=7, vids=(8,))
    done = subprocess.run(
        ["bridge", "-j", "vlan", "show", "dev", made.name], check=True, capture_output=True
    )
    vlans = {v["vlan"]: v.get("flags", []) for v in json.loads(done.stdout)[0]["vlans"]}
    os.close(made.fd)
    assert vlans == {7: ["PVID", "Egress Untagged"], 8: []}


@pytest.mark.live
def test_the_probes_leave_nothing(namespace):
    before = sorted(os.listdir("/proc/sys/net/ipv6/conf"))
    assert asyncio.run(net.can_filter_vlans()) in (True, False)
    assert asyncio.run(net.can_tag_vlans()) in (True, False)
    assert sorted(os.listdir("/proc/sys/net/ipv6/conf")) == before
