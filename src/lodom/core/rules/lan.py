"""Whether two machines' switches are on one network, by what both know without asking it.

No evidence is no finding.  Frames of one machine that were seen by the other, or a station known to
both with the same address, prove one network, whatever else differs: an entry of yesterday, two
networks of one wire.  Guests are no witnesses, because they take their addresses along when they
move, nor are routers that share an address (VRRP, HSRP, GLBP).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import Any, Final

from lodom.core.alloc import mac
from lodom.core.rules.case import LanFacts, NetworkFacts

SHARED: Final = (
    "00:00:5e:00:01:",
    "00:00:5e:00:02:",
    "00:00:0c:07:ac:",
    "00:00:0c:9f:f",
    "00:05:73:a0:0",
    "00:07:b4:",
)
"""Beginnings of MAC addresses that stand for a group of routers: VRRP (RFC 9568), HSRP, GLBP."""

_IP = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Conflict:
    """What the two machines know that cannot both be true of one network; in words."""

    ours: str
    theirs: str
    vlan: int = 0


def same(ours: NetworkFacts, theirs: NetworkFacts, guest: str) -> bool:
    """Frames of one of the machines, or of the *guest* on the source, were seen by the other.

    *guest* is a MAC address in normal form that no guest of the target has; empty: none.
    """
    if guest and guest in _forms(theirs.heard):
        return True
    return bool(_forms(ours.macs) & _met(theirs) or _forms(theirs.macs) & _met(ours))


def conflict(
    ours: NetworkFacts, theirs: NetworkFacts, vlans: Iterable[int] = (0,)
) -> Conflict | None:
    """The first contradiction in one of *vlans*: VLAN on the wire, then prefix, then station."""
    pairs = {vlan: (_Known(ours, vlan), _Known(theirs, vlan)) for vlan in vlans}
    open_ones = {vlan: pair for vlan, pair in pairs.items() if not _agree(*pair)}
    tags = set(ours.tags), set(theirs.tags)
    if all(tags) and not tags[0] & tags[1] and len(open_ones) == len(pairs):
        here, there = (", ".join(f"VLAN {n}" for n in sorted(side)) for side in tags)
        return Conflict(here, there)
    found = ((vlan, _compare(*pair)) for vlan, pair in open_ones.items())
    return next((Conflict(*said, vlan) for vlan, said in found if said), None)


def _agree(ours: "_Known", theirs: "_Known") -> bool:
    """A station is known to both machines with the same addresses."""
    return any(theirs.at.get(ip) == address for ip, address in ours.at.items())


def _compare(ours: "_Known", theirs: "_Known") -> tuple[str, str] | None:
    if any(x.overlaps(y) for x in ours.nets for y in theirs.nets if x.version == y.version):
        # Outside of what both call their network, equal addresses mean nothing.
        both = sorted(ours.at.keys() & theirs.at.keys(), key=_order)
        ip = next((ip for ip in both if ours.holds(ip) and theirs.holds(ip)), None)
        return (f"{ip} is {ours.at[ip]}", f"{ip} is {theirs.at[ip]}") if ip else None
    versions = {n.version for n in ours.nets} & {n.version for n in theirs.nets}
    return (_names(ours.nets, versions), _names(theirs.nets, versions)) if versions else None


class _Known:
    """One machine's knowledge of a VLAN: its prefixes, and which station has which IP address.

    What cannot be read (another release may say more than we know) is left out.
    """

    def __init__(self, network: NetworkFacts, vlan: int) -> None:
        lan = next((lan for lan in network.lans if lan.vlan == vlan), LanFacts(vlan))
        own = [i for text in lan.addresses if (i := _parsed(ip_interface, text))]
        self.nets: list[Any] = [i.network for i in own if i.network.num_addresses > 1]
        self.at: dict[_IP, str] = {}
        for text, address in lan.neighbours.items():
            ip, form = _parsed(ip_address, text), _form(address)
            if ip and form and not form.startswith(SHARED) and not mac.automatic(form):
                self.at[ip] = form
        bridge = _form(next(iter(network.macs), ""))
        if bridge:
            self.at.update({i.ip: bridge for i in own})

    def holds(self, ip: _IP) -> bool:
        return any(ip in net for net in self.nets)


def _parsed(parse: Any, text: str) -> Any:
    try:
        return parse(text)
    except ValueError:
        return None


def _form(text: str) -> str:
    """A MAC address in normal form; empty if it is none."""
    number = _parsed(mac.parse, text)
    return "" if number is None else mac.form(number)


def _forms(texts: Iterable[str]) -> set[str]:
    return {_form(text) for text in texts} - {""}


def _met(network: NetworkFacts) -> set[str]:
    """Every station outside that the machine has met on this network."""
    neighbours = (m for lan in network.lans for m in lan.neighbours.values())
    return _forms((*network.heard, *neighbours))


def _order(ip: _IP) -> tuple[int, int]:
    return ip.version, int(ip)


def _names(nets: Iterable[Any], versions: set[int]) -> str:
    return ", ".join(dict.fromkeys(str(n) for n in nets if n.version in versions))
