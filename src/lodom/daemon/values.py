"""Readers of one value of a TOML file: what it means, or ``ValueError`` with the reason."""

import math
import re
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from lodom.core.units import parse_size
from lodom.host import topology

ADDRESSES = 1 << 64
"""How many there are: what a journal and another machine can be told of."""


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text that is not empty")
    return value


def path(value: Any) -> Path:
    """An absolute path."""
    path = Path(text(value))
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def truth(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def number(low: int, high: float = math.inf) -> Callable[[Any], int]:
    """A whole number from *low* to *high*."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            limit = f"at least {low}" if high == math.inf else f"{low} to {high}"
            raise ValueError(f"must be a whole number, {limit}")
        return value

    return read


def auto(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """None for "auto", else what *read* makes of it."""
    return lambda value: None if value == "auto" else read(value)


def one_of(*words: str) -> Callable[[Any], str]:
    """One of *words*."""

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return str(value)

    return read


def size(value: Any) -> int:
    """Bytes, bare or as ``512M``."""
    try:
        return parse_size(str(value) if type(value) is int else text(value))
    except ValueError:
        raise ValueError('must be bytes, or a text such as "512M" or "4G"') from None


def address(value: Any) -> int:
    """A memory address; TOML itself reads 0x… numbers."""
    if type(value) is str and re.fullmatch(r"0x[0-9a-fA-F]+", value):
        value = int(value, 16)
    if (at := number(0)(value)) >= ADDRESSES:
        raise ValueError("must be below 2^64")
    return at


def hertz(value: Any) -> int:
    """Hz, bare or as ``1200MHz``."""
    if type(value) is int and value > 0:
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MG])Hz", str(value), re.IGNORECASE)
    if not match or not float(match[1]):
        raise ValueError('must be hertz, or a text such as "2.6GHz" or "1200MHz"')
    return round(float(match[1]) * (10**9 if match[2].upper() == "G" else 10**6))


def cpu_list(value: Any) -> tuple[int, ...]:
    """CPU numbers from ``0-3,8``."""
    try:
        found = topology.parse_cpu_list(text(value))
    except ValueError:
        found = ()
    if not found:
        raise ValueError('must be a list such as "0-15" or "0,2,8-11"')
    return found


def ip(value: Any) -> str:
    """An IP address, in normal form."""
    try:
        return str(ip_address(text(value)))
    except ValueError:
        raise ValueError("must be an IP address") from None


def endpoint(value: Any) -> tuple[str, int]:
    """``"127.0.0.1:9482"``, ``"[::1]:9482"``: an address and a port."""
    host, colon, port = text(value).rpartition(":")
    if not (colon and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError('must be an address and a port such as "127.0.0.1:9482"')
    return ip(host.removeprefix("[").removesuffix("]")), int(port)


def names(value: Any) -> tuple[str, ...]:
    """A list of texts."""
    if not isinstance(value, list):
        raise ValueError("must be a list of names")
    return tuple(text(name) for name in value)
