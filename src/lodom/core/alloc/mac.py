"""MAC addresses: the automatic range, the manual one, and what is in use.

Source: ldm-cli 3.6; rule R34.
"""

from collections.abc import Collection, Iterable
from typing import Final

from lodom.core.model.domain import Domain
from lodom.core.model.inventory import Inventory

AUTOMATIC: Final = range(0x00144FF80000, 0x00144FFC0000)
"""00:14:4f:f8:00:00 to 00:14:4f:fb:ff:ff: given out by Lodom, never by hand."""

MANUAL: Final = range(0x00144FFC0000, 0x001450000000)
"""00:14:4f:fc:00:00 to 00:14:4f:ff:ff:ff: meant for addresses set by hand."""


def parse(text: str) -> int:
    """The number of ``0:14:4f:fa:e:55``: six octets, colons, leading zeros optional.

    Raises:
        ValueError: anything else.
    """
    octets = text.split(":")
    if len(octets) != 6 or not all(1 <= len(o) <= 2 and o.isalnum() for o in octets):
        raise ValueError(text)
    return int("".join(o.rjust(2, "0") for o in octets), 16)


def form(address: int) -> str:
    """``00:14:4f:fa:0e:55``."""
    return address.to_bytes(6, "big").hex(":")


def automatic(mac: str) -> bool:
    """Whether *mac* lies in the automatic range."""
    return parse(mac) in AUTOMATIC


def refusal(mac: str) -> str:
    """Why *mac* cannot be set by hand; empty if it can."""
    try:
        address = parse(mac)
    except ValueError:
        return "not six hexadecimal octets separated by colons"
    if address in AUTOMATIC:
        return f"the range {form(AUTOMATIC[0])} to {form(AUTOMATIC[-1])} is allocated automatically"
    if address >> 40 & 1:
        return "a group address"
    return "" if address else "the null address"


def choose(candidates: Iterable[str], used: Collection[str]) -> str | None:
    """The first of *candidates* in the automatic range that is not in *used*, in normal form."""
    gone = {parse(mac) for mac in used}
    found = (parse(mac) for mac in candidates)
    return next((form(a) for a in found if a in AUTOMATIC and a not in gone), None)


def in_use(inventory: Inventory) -> dict[str, str]:
    """Every MAC address of this machine, in normal form, and who has it."""
    owners = {form(parse(s.mac)): f"vsw {s.name}" for s in inventory.vsw.values() if s.mac}
    for domain in inventory.domains.values():
        owners |= of(domain)
    return owners


def of(domain: Domain) -> dict[str, str]:
    """The MAC addresses of *domain*, in normal form, and what has each."""
    own = {form(parse(domain.mac)): f"LDom {domain.name}"} if domain.mac else {}
    nets = {v.mac: f"vnet {v.name} of LDom {domain.name}" for v in domain.constraints.vnets}
    return own | {form(parse(address)): whose for address, whose in nets.items() if address}


def taken_along(inventory: Inventory) -> set[str]:
    """The addresses of domains that have left: they are theirs wherever they are (R34)."""
    return {address for record in inventory.ownership.values() for address in record.macs}


def hostid(mac: str) -> int:
    """The host id of a domain with this MAC: 0x84 and the low 24 bits."""
    return 0x84 << 24 | parse(mac) & 0xFFFFFF
