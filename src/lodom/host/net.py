"""Virtual switches as Linux bridges and the taps of guests, in the current network namespace.

A bridge of ours is known by its alias ``lodom MACHINE SWITCH``: only such a bridge is ever
deleted.  Names are made of machine and switch, so that two machines in one namespace do not meet.
Nothing outside our own links is changed, sysctls included.
"""

import fcntl
import hashlib
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from lodom.core.errors import InUse, InvalidValue, NotSupported, StepFailed

DEFAULT_VLAN = 1
_TUNSETIFF = 0x400454CA
_TAP_FLAGS = 0x0002 | 0x1000 | 0x4000  # IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
_UNTAGGED_PVID = 0x02 | 0x04  # BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED


@dataclass(frozen=True)
class Link:
    """A network link as the kernel shows it."""

    index: int
    name: str
    kind: str
    """``bridge``, ``tun``, ``veth`` …; empty for hardware."""
    master: int
    alias: str
    loopback: bool
    mtu: int
    filters: bool
    """A bridge that tells VLANs apart."""


@dataclass(frozen=True)
class Tap:
    """A tap: it exists as long as someone has its descriptor open.  Close it when handed on."""

    name: str
    fd: int


def bridge_name(machine: str, switch: str) -> str:
    """The name of the bridge that ldmd makes for a vsw: 15 characters, the same for ever."""
    return f"lb-{_digest(machine, switch)}"


def tap_name(machine: str, uuid: str, index: int) -> str:
    """The name of the tap for network device *index* of a domain."""
    return f"lt-{_digest(machine, uuid, str(index))}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


# -- switches -----------------------------------------------------------------------------------


async def make_switch(
    machine: str, switch: str, *, net_dev: str = "", mtu: int = 1500, mac: str = "", vlans: bool
) -> str:
    """The name of the bridge of a vsw; safe to repeat.

    *net_dev* an existing bridge: that one, as it is.  A NIC: a bridge of ours with the NIC in it.
    Empty: a bridge of ours without uplink.  *vlans*: what ``can_filter_vlans`` found.

    Raises:
        InvalidValue: *net_dev* does not exist, carries the host's own traffic, or has a smaller
            MTU.
        InUse: *net_dev* belongs to another bridge or bond.
        StepFailed: the kernel refused; nothing of it is left.
    """
    async with _netlink(f"making the bridge of {switch}") as ip:
        uplink = await _uplink(ip, net_dev) if net_dev else None
        if uplink and uplink.kind == "bridge":
            return uplink.name
        name = bridge_name(machine, switch)
        old = await _find(ip, name)
        if uplink and uplink.master:
            if not old or uplink.master != old.index:
                raise InUse(what="net-dev", name=net_dev, user=await _name(ip, uplink.master))
        elif uplink:
            await _refuse_carrier(ip, uplink)
        if uplink and uplink.mtu < mtu:
            why = f"{net_dev} has {uplink.mtu}; first: ip link set {net_dev} mtu {mtu}"
            raise InvalidValue(what="mtu", value=str(mtu), why=why)
        try:
            await _set_up_bridge(ip, name, f"lodom {machine} {switch}", mtu, mac, vlans)
            if uplink:
                await _enslave(ip, uplink, name, vlans)
        except BaseException:
            if not old:
                await ip.link("del", ifname=name)
            raise
        return name


async def _set_up_bridge(ip: Any, name: str, alias: str, mtu: int, mac: str, vlans: bool) -> None:
    if not await _find(ip, name):
        # A group address learned by a guest on another machine must reach it after it has moved
        # here: no multicast snooping.
        extra = {"br_vlan_filtering": 1, "br_vlan_default_pvid": DEFAULT_VLAN} if vlans else {}
        await ip.link(
            "add", ifname=name, kind="bridge", br_stp_state=0, br_forward_delay=0,
            br_mcast_snooping=0, **extra,
        )  # fmt: skip
    link = await _find(ip, name)
    assert link
    # Set apart: the kernel ignores an alias in the message that makes the link.
    await ip.link("set", index=link.index, ifalias=alias, mtu=mtu, **_given(address=mac))
    _quiet(name, accept_ra=0, autoconf=0, addr_gen_mode=1)
    await ip.link("set", index=link.index, state="up")


async def remove_switch(machine: str, switch: str) -> None:
    """Delete the bridge of a vsw if ldmd made it; its uplink is let go.  Safe to repeat."""
    await _delete(f"lodom {machine} {switch}", exact=True)


async def remove_switches(machine: str) -> None:
    """Delete every bridge that was made for *machine*."""
    await _delete(f"lodom {machine} ", exact=False)


async def _delete(alias: str, *, exact: bool) -> None:
    async with _netlink("removing a bridge") as ip:
        for link in await _links(ip):
            if link.alias == alias if exact else link.alias.startswith(alias):
                await ip.link("del", index=link.index)


async def _uplink(ip: Any, net_dev: str) -> Link:
    link = await _find(ip, net_dev)
    if not link:
        raise InvalidValue(what="net-dev", value=net_dev, why="there is no such network device")
    if link.loopback:
        raise InvalidValue(what="net-dev", value=net_dev, why="a loopback device has no wire")
    return link


async def _refuse_carrier(ip: Any, link: Link) -> None:
    """A NIC in a bridge loses its addresses: never take the one that the host talks through."""
    addresses = [
        a.get("address")
        async for a in await ip.get_addr(index=link.index)
        if not (a["family"] == 10 and a["scope"] == 253)  # a link-local one was not given by hand
    ]
    routes = [r async for r in await ip.get_default_routes() if r.get("oif") == link.index]
    if addresses or routes:
        found = f"has the address {addresses[0]}" if addresses else "has the default route"
        raise InvalidValue(
            what="net-dev",
            value=link.name,
            why=f"it {found} of this host, which a bridge would cut off: "
            "name an existing bridge, or a device without an address, or give no net-dev",
        )


async def _enslave(ip: Any, uplink: Link, bridge: str, vlans: bool) -> None:
    master = await _find(ip, bridge)
    assert master
    if uplink.master != master.index:
        await ip.link("set", index=uplink.index, master=master.index)
    await ip.link("set", index=uplink.index, state="up")
    if vlans:
        # The wire is a trunk: each VLAN tagged but the default one.
        info = {"vid": "2-4094"}
        await ip.vlan_filter("add", index=uplink.index, vlan_info=info)


# -- taps ---------------------------------------------------------------------------------------


async def make_tap(
    machine: str,
    uuid: str,
    index: int,
    *,
    bridge: str,
    mtu: int = 1500,
    pvid: int = DEFAULT_VLAN,
    vids: tuple[int, ...] = (),
) -> Tap:
    """A tap in *bridge* for network device *index* of a domain, with virtio headers.

    It goes when the last holder of its descriptor closes it.

    Raises:
        NotSupported: a VLAN other than the default one where the kernel cannot filter.
        InUse: a process still holds the tap of that device.
        StepFailed: the kernel refused; nothing of it is left.
    """
    name, what = tap_name(machine, uuid, index), f"attaching a tap to {bridge}"
    async with _netlink(what) as ip:
        master = await _find(ip, bridge)
        if not master or master.kind != "bridge":
            raise StepFailed(what=what, reason="there is no such bridge")
        if not master.filters and (pvid != DEFAULT_VLAN or vids):
            why = f"bridge {bridge} does not filter VLANs; the kernel may not be able to"
            raise NotSupported(what="A VLAN other than the default one", why=why)
        fd = _open_tap(name)
        try:
            _quiet(name, disable_ipv6=1)
            link = await _find(ip, name)
            assert link, name
            # fe:… is no address that a guest is given, and never the lowest of the bridge.
            mac = "fe:" + ":".join(name[i : i + 2] for i in range(3, 13, 2))
            await ip.link("set", index=link.index, mtu=mtu, address=mac, master=master.index)
            if master.filters:
                await _tag(ip, link.index, pvid, vids)
            await ip.link("set", index=link.index, state="up")
        except BaseException:
            os.close(fd)
            raise
    return Tap(name, fd)


def _open_tap(name: str) -> int:
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as refused:
        why = f"/dev/net/tun: {refused.strerror}; load the module tun"
        raise NotSupported(what="A network device", why=why) from refused
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP_FLAGS))
    except OSError as refused:
        os.close(fd)
        if refused.errno == 16:  # EBUSY
            raise InUse(what="tap", name=name, user="another process") from refused
        raise StepFailed(what=f"making tap {name}", reason=str(refused.strerror)) from refused
    return fd


async def _tag(ip: Any, index: int, pvid: int, vids: tuple[int, ...]) -> None:
    if pvid != DEFAULT_VLAN:
        await ip.vlan_filter("del", index=index, vlan_info={"vid": DEFAULT_VLAN})
    await ip.vlan_filter("add", index=index, vlan_info={"vid": pvid, "flags": _UNTAGGED_PVID})
    for vid in vids:
        if vid != pvid:
            await ip.vlan_filter("add", index=index, vlan_info={"vid": vid})


# -- what the kernel can ------------------------------------------------------------------------


async def can_filter_vlans() -> bool:
    """A scratch bridge with VLAN filtering can be made."""
    return await _can_make(kind="bridge", br_vlan_filtering=1)


async def can_tag_vlans() -> bool:
    """An 802.1Q device can be made on a scratch bridge."""
    base = f"lq-{os.urandom(6).hex()}"
    async with _netlink("probing 802.1Q") as ip:
        await ip.link("add", ifname=base, kind="bridge")
        link = await _find(ip, base)
        assert link
        try:
            return await _can_make(kind="vlan", link=link.index, vlan_id=2)
        finally:
            await ip.link("del", index=link.index)


async def _can_make(**link: Any) -> bool:
    name = f"lp-{os.urandom(6).hex()}"
    async with _netlink("probing the kernel") as ip:
        try:
            await ip.link("add", ifname=name, **link)
        except NetlinkError as refused:
            if refused.code == 95:  # EOPNOTSUPP
                return False
            raise
        await ip.link("del", ifname=name)
        return True


# -- netlink ------------------------------------------------------------------------------------


@asynccontextmanager
async def _netlink(what: str) -> AsyncIterator[Any]:
    """A netlink socket; the kernel's refusals come out as ``StepFailed``."""
    try:
        async with AsyncIPRoute() as ip:
            yield ip
    except NetlinkError as refused:
        reason = os.strerror(refused.code) if refused.code else str(refused)
        raise StepFailed(what=what, reason=reason) from refused


async def _links(ip: Any) -> list[Link]:
    return [
        Link(
            index=raw["index"],
            name=raw.get("ifname"),
            kind=raw.get(("linkinfo", "kind")) or "",
            master=raw.get("master") or 0,
            alias=raw.get("ifalias") or "",
            loopback=bool(raw["flags"] & 0x8),
            mtu=raw.get("mtu") or 0,
            filters=bool(raw.get(("linkinfo", "data", "br_vlan_filtering"))),
        )
        async for raw in await ip.get_links()
    ]


async def _find(ip: Any, name: str) -> Link | None:
    return next((link for link in await _links(ip) if link.name == name), None)


async def _name(ip: Any, index: int) -> str:
    return next((link.name for link in await _links(ip) if link.index == index), str(index))


def _given(**values: str) -> dict[str, str]:
    return {key: value for key, value in values.items() if value}


def _quiet(name: str, **settings: int) -> None:
    """IPv6 settings of one of our links; a kernel without IPv6 has nothing to be quieted."""
    base = Path("/proc/sys/net/ipv6/conf") / name
    if base.is_dir():
        for key, value in settings.items():
            (base / key).write_text(f"{value}\n")
