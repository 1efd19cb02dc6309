"""What the kernel knows of the networks of switches.  Read only: nothing is sent into a network.

In the current network namespace.  Source: rtnetlink(7), ``include/uapi/linux/neighbour.h``.
"""

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import Any, Final

from lodom.core.rules.case import LanFacts, NetworkFacts
from lodom.host.links import Link, links, netlink

NEIGHBOURS: Final = 256
"""At most so many of one VLAN, lowest addresses first: two machines choose the same ones."""
HEARD: Final = 1024
"""At most so many senders of one switch."""

_KNOWN: Final = 0x02 | 0x04 | 0x08 | 0x10  # NUD_REACHABLE, _STALE, _DELAY, _PROBE
_OWN: Final = 0x40 | 0x80  # NUD_NOARP, NUD_PERMANENT: not learned
_GLOBAL: Final = 0  # RT_SCOPE_UNIVERSE


@dataclass(frozen=True)
class Entry:
    """One IP address (or none, of a bridge's table) at the link *index*."""

    index: int
    ip: str
    mac: str = ""


@dataclass(frozen=True)
class Seen:
    """All that the kernel shows at one time."""

    links: list[Link]
    addresses: list[Entry]
    """Own ones, with the length of the prefix."""
    neighbours: list[Entry]
    heard: list[Entry]
    """By bridge."""


async def networks(bridges: Mapping[str, str]) -> dict[str, NetworkFacts]:
    """By switch, what is known of the network of its bridge; *bridges* is switch to bridge.

    Raises:
        StepFailed: the kernel refused.
    """
    if not bridges:
        return {}
    seen = await _look()
    named = {link.name: link for link in seen.links}
    return {s: of_bridge(seen, named[b]) for s, b in bridges.items() if b in named}


async def _look() -> Seen:
    async with netlink("reading what is known of the networks of switches") as ip:
        return Seen(
            links=await links(ip),
            addresses=[
                Entry(a["index"], f"{a.get('local') or a.get('address')}/{a['prefixlen']}")
                async for a in await ip.get_addr()
                if a["scope"] == _GLOBAL
            ],
            neighbours=[
                Entry(n["ifindex"], n.get("dst"), n.get("lladdr"))
                async for n in await ip.get_neighbours()
                if n["state"] & _KNOWN and n.get("dst") and n.get("lladdr")
            ],
            heard=[
                Entry(n.get("master"), "", n.get("lladdr"))
                async for n in await ip.get_neighbours(family=socket.AF_BRIDGE)
                if n.get("master") and n.get("lladdr") and not n["state"] & _OWN
            ],
        )


def of_bridge(seen: Seen, bridge: Link) -> NetworkFacts:
    """What *seen* says of the network of *bridge*."""
    # Taps are guests; what else is in the bridge leads outside.
    ports = [p for p in seen.links if p.master == bridge.index and p.kind != "tun"]
    here = {bridge.index, *(port.index for port in ports)}
    vlans: dict[int, set[int]] = {0: here}
    for link in seen.links:
        if link.kind == "vlan" and link.base in here and link.index not in here:
            vlans.setdefault(link.vlan, set()).add(link.index)
    lans = (_lan(seen, vlan, devices) for vlan, devices in sorted(vlans.items()))
    return NetworkFacts(
        macs=tuple(dict.fromkeys([bridge.mac, *(port.mac for port in ports)])),
        heard=tuple(sorted({e.mac for e in seen.heard if e.index == bridge.index})[:HEARD]),
        tags=tuple(sorted({port.vlan for port in ports if port.kind == "vlan"})),
        lans=tuple(lan for lan in lans if lan.addresses or lan.neighbours),
        mtu=bridge.mtu,
    )


def _lan(seen: Seen, vlan: int, devices: set[int]) -> LanFacts:
    addresses = _ordered(e for e in seen.addresses if e.index in devices and _speaks(e.ip))
    known = _ordered(e for e in seen.neighbours if e.index in devices and _speaks(e.ip))
    return LanFacts(
        vlan,
        tuple(e.ip for e in addresses[:NEIGHBOURS]),
        {e.ip: e.mac for e in known[:NEIGHBOURS]},
    )


def _ordered(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda e: (ip_interface(e.ip).version, ip_interface(e.ip), e.mac))


def _speaks(text: str) -> bool:
    """An address that says where it is: every network has link-local ones and groups."""
    address: Any = ip_address(text.partition("/")[0])
    return not (address.is_link_local or address.is_multicast or address.is_loopback)
