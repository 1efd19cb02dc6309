"""Network links as the kernel shows them, in the current network namespace."""

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from lodom.core.errors import InvalidValue, StepFailed
from lodom.host.uplink import Address, Device

_ETHERNET = 1  # ARPHRD_ETHER
_UP, _LOOPBACK = 0x1, 0x8  # IFF_UP, IFF_LOOPBACK
_PERMANENT = 0x80  # IFA_F_PERMANENT
_LINK_SCOPE = 253  # RT_SCOPE_LINK
_INET6 = 10  # AF_INET6
_RANDOM = "1"  # NET_ADDR_RANDOM
_UNICAST, _KERNEL = 1, 2  # RTN_UNICAST, RTPROT_KERNEL


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
    ethernet: bool
    up: bool
    mtu: int
    mac: str
    filters: bool
    """A bridge that tells VLANs apart."""
    base: int
    """Of a VLAN's device: the device that it stands on; 0: not one in this namespace."""
    vlan: int
    """Of a VLAN's device: its number."""


@asynccontextmanager
async def netlink(what: str) -> AsyncIterator[Any]:
    """A netlink socket; the kernel's refusals come out as ``StepFailed``."""
    try:
        async with AsyncIPRoute() as ip:
            yield ip
    except NetlinkError as refused:
        reason = os.strerror(refused.code) if refused.code else str(refused)
        raise StepFailed(what=what, reason=reason) from refused


async def links(ip: Any) -> list[Link]:
    """All links."""
    return [
        Link(
            index=raw["index"],
            name=raw.get("ifname"),
            kind=raw.get(("linkinfo", "kind")) or "",
            master=raw.get("master") or 0,
            alias=raw.get("ifalias") or "",
            loopback=bool(raw["flags"] & _LOOPBACK),
            ethernet=raw["ifi_type"] == _ETHERNET,
            up=bool(raw["flags"] & _UP),
            mtu=raw.get("mtu") or 0,
            mac=raw.get("address") or "",
            filters=bool(raw.get(("linkinfo", "data", "br_vlan_filtering"))),
            base=(raw.get("link") or 0) if raw.get("link_netnsid") is None else 0,
            vlan=raw.get(("linkinfo", "data", "vlan_id")) or 0,
        )
        async for raw in await ip.get_links()
    ]


async def find(ip: Any, name: str) -> Link | None:
    """The link of that name."""
    return next((link for link in await links(ip) if link.name == name), None)


async def device(ip: Any, name: str, root: Path = Path("/")) -> Device:
    """All that decides whether *name* may be an uplink.

    Raises:
        InvalidValue: there is no such device.
    """
    there = await links(ip)
    names = {link.index: link.name for link in there}
    link = next((link for link in there if link.name == name), None)
    if link is None:
        raise InvalidValue(what="net-dev", value=name, why="there is no such network device")
    gateways, routes = await _routes(ip, link.index)
    sysfs = root / "sys/class/net" / name
    cards = [one for one in there if one.master == link.index and one.kind != "tun"]
    steady = bool(cards) or _text(sysfs / "addr_assign_type").strip() != _RANDOM
    return Device(
        name=name,
        kind=link.kind,
        up=link.up,
        mtu=link.mtu,
        mac=link.mac,
        master=names.get(link.master, str(link.master)) if link.master else "",
        alias=link.alias,
        loopback=link.loopback,
        ethernet=link.ethernet,
        wireless=(sysfs / "wireless").exists() or (sysfs / "phy80211").exists(),
        addresses=await _addresses(ip, link.index),
        gateways=gateways,
        routes=routes,
        manager=manager(name, link.index, root),
        steady=steady,
        spare=next(f"br{n}" for n in range(1000) if f"br{n}" not in names.values()),
    )


async def _addresses(ip: Any, index: int) -> tuple[Address, ...]:
    return tuple(
        [
            Address(
                f"{a.get('local') or a.get('address')}/{a['prefixlen']}",
                dynamic=not a["flags"] & _PERMANENT,
            )
            async for a in await ip.get_addr(index=index)
            if not (a["family"] == _INET6 and a["scope"] == _LINK_SCOPE)  # the kernel's own
        ]
    )


async def _routes(ip: Any, index: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(gateways of default routes, other networks) behind the device, but for the kernel's own."""
    gateways, networks = [], []
    async for route in await ip.get_routes():
        hops = [route, *(route.get("multipath") or ())]
        through = [hop for hop in hops if (hop.get("oif") or _index(hop)) == index]
        if route["type"] != _UNICAST or route["proto"] == _KERNEL or not through:
            continue
        if route["dst_len"]:
            networks.append(f"{route.get('dst')}/{route['dst_len']}")
        else:
            gateways += [hop.get("gateway") or "" for hop in through]
    return tuple(dict.fromkeys(gateways)), tuple(dict.fromkeys(networks))


def _index(hop: Any) -> int:
    """The device of one hop of several, which is in the header and not in an attribute."""
    try:
        return int(hop["oif"])
    except (KeyError, TypeError):
        return 0


def manager(name: str, index: int, root: Path = Path("/")) -> str:
    """Who manages the device, one of ``uplink.RECIPES``; empty if not known."""
    if "managed=true" in _text(root / f"run/NetworkManager/devices/{index}"):
        return "NetworkManager"
    state = _text(root / f"run/systemd/netif/links/{index}")
    if "ADMIN_STATE=" in state and "ADMIN_STATE=unmanaged" not in state:
        return "systemd-networkd"
    base = root / "etc/network"
    for file in (base / "interfaces", *sorted(base.glob("interfaces.d/*"))):
        if re.search(rf"^\s*iface\s+{re.escape(name)}\s", _text(file), re.MULTILINE):
            return "ifupdown"
    return ""


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(errors="replace")
    return ""
