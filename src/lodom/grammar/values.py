"""The kinds of values on an ``ldm`` command line: how each looks and what it means.

A converter takes the word and returns what goes into ``Command.arguments``: a plain JSON value for
the key of its option, property or operand, or a dict that is merged into the arguments as it is.
It raises ``ValueError`` with the reason, worded to follow "Invalid WHAT 'WORD': ".
Source: ldm-cli digest 1.4 (names, units, limits).  Empty values clear a property where marked.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from lodom.core.units import parse_size

MAX_NAME = 240
"""A domain's log is a file: NAME.console.log has to fit into the 255 of a file system."""
MAX_CONFIG_NAME = 64
MAX_VIDS = 20
MAX_MASTERS = 4
FIRST_VLAN, LAST_VLAN = 1, 4094
LOW_MTU, HIGH_MTU = 1500, 16000
SECTIONS = (
    "console", "cpu", "crypto", "disk", "domain", "memory", "network", "physio", "serial", "status",
)  # fmt: skip
OPERATIONS = ("migration", "reconf")
DEVICES = ("cpu", "crypto", "mau", "memory", "io")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-_+#.:;~()]*\Z")
_MAC = re.compile(r"[0-9A-Fa-f]{1,2}(:[0-9A-Fa-f]{1,2}){5}\Z")


class Value(NamedTuple):
    """A kind of value: ``word`` in usage lines, its converter, its ``form`` in one phrase.

    ``literal``: the word stands for itself (``mode=sc``), not in angle brackets.
    """

    word: str
    convert: Callable[[str], Any]
    form: str
    literal: bool = False
    choices: tuple[str, ...] = ()
    """Words that completion offers for an operand of this kind."""


# -- converters ---------------------------------------------------------------------------------


def _whole(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("not a whole number")
    if not low <= int(text) <= high:
        raise ValueError(f"not between {low} and {high}")
    return int(text)


def _between(low: int, high: int) -> Callable[[str], int]:
    return lambda text: _whole(text, low, high)


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError:
        raise ValueError("not a size such as 512M or 4G (without a letter: bytes)") from None


def _size_or_none(text: str) -> int:
    return 0 if re.fullmatch(r"0[KkMmGg]?", text) else _size(text)


def _name(text: str) -> str:
    if len(text) > MAX_NAME:
        raise ValueError(f"longer than {MAX_NAME} characters")
    if not _NAME.match(text):
        raise ValueError("a name is a letter or digit, then letters, digits or any of -_+#.:;~()")
    return text


def _config(text: str) -> str:
    if len(text) > MAX_CONFIG_NAME:
        raise ValueError(f"longer than {MAX_CONFIG_NAME} characters")
    return _name(text)


def _printable(text: str) -> str:
    if not text or not text.isprintable() or " " in text:
        raise ValueError("letters, digits and punctuation only")
    return text


def _mac(text: str) -> str:
    if not _MAC.match(text):
        raise ValueError("not six octets such as 00:14:4f:fc:00:01")
    octets = [int(octet, 16) for octet in text.split(":")]
    if octets[0] & 1 or not any(octets):
        raise ValueError("not the address of one device")
    return ":".join(f"{octet:02x}" for octet in octets)


def _hostid(text: str) -> int:
    try:
        number = int(text, 16 if text.lower().startswith("0x") else 10)
    except ValueError:
        raise ValueError("not a number") from None
    if not 0 <= number < 1 << 32:
        raise ValueError("not a number of 32 bits")
    return number


def _ports(text: str) -> dict[str, int]:
    low, dash, high = text.partition("-")
    if not dash:
        raise ValueError("not a range such as 5000-5100")
    ports = {"low": _whole(low, 1, 65535), "high": _whole(high, 1, 65535)}
    if ports["low"] > ports["high"]:
        raise ValueError("the first port is above the last")
    return ports


def _volume(text: str) -> dict[str, str]:
    volume, at, service = text.rpartition("@")
    if not at:
        raise ValueError("not of the form volume-name@service-name")
    return {"volume": _name(volume), "service": _name(service)}


def _target(text: str) -> dict[str, str]:
    """``[user@]host[#port][:ldom]``; an IPv6 address stands in brackets, the port is ours."""
    user, at, rest = text.rpartition("@")
    host = r"(\[[0-9A-Fa-f:.%\w]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)"
    parts = re.match(host + r"(#[0-9]+)?(?::(.*))?\Z", rest)
    if not parts or (at and not user):
        raise ValueError("not of the form [user@]target-host[:target-ldom]")
    host, port, name = parts.groups()
    target = {"host": host.strip("[]") + (port or "")}
    if at:
        target["user"] = _printable(user)
    if name is not None:
        target["target"] = _name(name)
    return target


def _assignment(text: str) -> list[str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError("not of the form var-name=value")
    return [_variable(name), value]


def _variable(text: str) -> str:
    if not (text and text.isprintable() and " " not in text and "=" not in text):
        raise ValueError("not the name of a variable")
    if not (text[0].isalnum() or text[0] == "/"):
        raise ValueError("a variable's name begins with a letter, a digit or /")
    return text


def _list_of(convert: Callable[[str], Any], most: int) -> Callable[[str], list[Any]]:
    def split(text: str) -> list[Any]:
        items = list(dict.fromkeys(convert(item) for item in text.split(","))) if text else []
        if len(items) > most:
            raise ValueError(f"more than {most}")
        return items

    return split


def _one_of(*words: str) -> Callable[[str], str]:
    def choose(text: str) -> str:
        if text not in words:
            raise ValueError("not one of " + ", ".join(word or "nothing" for word in words))
        return text

    return choose


def _abbreviated(words: tuple[str, ...]) -> Callable[[str], str]:
    def choose(text: str) -> str:
        found = [word for word in words if text and word.startswith(text)]
        if text in found or len(found) == 1:
            return text if text in found else found[0]
        raise ValueError(("could be " if found else "not one of ") + ", ".join(found or words))

    return choose


def _device(text: str) -> str:
    found = _abbreviated(DEVICES)(text)
    return "mau" if found == "crypto" else found


def _unset(convert: Callable[[str], Any], cleared: Any = None) -> Callable[[str], Any]:
    return lambda text: convert(text) if text else cleared


# -- the kinds ----------------------------------------------------------------------------------

_VLAN = _between(FIRST_VLAN, LAST_VLAN)

LDOM = Value("ldom", _name, "name of a domain")
ONE_LDOM = Value("ldom", lambda text: {"ldoms": [_name(text)]}, LDOM.form)
NAME = Value("name", _name, "name")
SERVICE = Value("service-name", _name, "name of a service")
COUNT = Value("number", _between(1, 1 << 20), "whole number from 1")
COUNT_OR_NONE = Value("number", _between(0, 1 << 20), "whole number")
SIZE = Value("size", _size, "size with optional unit K, M or G; bytes without")
SIZE_OR_NONE = Value("size", _size_or_none, SIZE.form)
MAC = Value("num", _mac, "six octets, 00:14:4f:fc:00:01")
HOSTID = Value("num", _hostid, "number of 32 bits, decimal or hex with 0x")
ID = Value("id", _between(0, 4095), "device number")
VLAN = Value("vlan-id", _VLAN, f"{FIRST_VLAN} to {LAST_VLAN}")
PVID = Value("port-vlan-id", _unset(_VLAN), f"{VLAN.form}; empty: the default")
VIDS = Value("vlan-id1,vlan-id2,...", _list_of(_VLAN, MAX_VIDS), f"at most {MAX_VIDS}; empty: none")
MTU = Value("size", _unset(_between(LOW_MTU, HIGH_MTU)), f"{LOW_MTU} to {HIGH_MTU}; empty: default")
NET_DEV = Value("device", _unset(_printable, ""), "network device; empty: none")
SC = Value("sc", _one_of("sc", ""), "sc, or empty", literal=True)
HYBRID = Value("hybrid", _one_of("hybrid", ""), "hybrid, or empty", literal=True)
BYPASS = Value("on", _one_of("on"), "on", literal=True)
SECONDS = Value("seconds", _between(0, 1 << 31), "seconds; 0: wait for ever")
BACKEND = Value("backend", _printable, "file, block device or URL")
DISK_OPTIONS = Value(
    "{ro,slice,excl}",
    _list_of(_one_of("ro", "slice", "excl"), 3),
    "any of ro, slice, excl, by commas; empty: none",
    literal=True,
)
MPGROUP = Value("mpgroup", _unset(_name, ""), "name; empty: none")
VOLUME = Value("volume-name@service-name", _volume, "volume of a disk server")
PORT_RANGE = Value("x-y", _ports, "first and last port")
PORT = Value("port-num", _unset(_between(1, 65535)), "TCP port; empty: any free one")
GROUP = Value("group", _unset(_name, ""), "name; empty: the domain's")
VCC = Value("vcc-server", _unset(_name, ""), "name; empty: the first one")
POLICY = Value(
    "ignore|panic|reset|stop",
    _one_of("ignore", "panic", "reset", "stop"),
    "ignore, panic, reset or stop",
    literal=True,
)
MASTERS = Value(
    "master-ldom1,...,master-ldom4",
    _list_of(_name, MAX_MASTERS),
    f"at most {MAX_MASTERS} domains; empty: none",
)
BUS = Value("bus", _printable, "name or pseudonym of an I/O bus")
ASSIGNMENT = Value("var-name=[value]", _assignment, "[name, value]; empty value: unset")
VARIABLE = Value("var-name", _variable, "name of a variable")
CONFIG = Value("config-name", _config, f"name of at most {MAX_CONFIG_NAME} characters")
FILE = Value("file", _printable, "path of a file")
FORMATS = Value(
    "format",
    _list_of(_abbreviated(SECTIONS), len(SECTIONS)),
    "any of " + ", ".join(SECTIONS) + ", by commas, may be abbreviated",
)
DEVICE = Value(
    "cpu|mau|memory|io",
    _device,
    "cpu, mau (or crypto), memory, io",
    choices=("cpu", "mau", "memory", "io"),
)
OPERATION = Value(
    "migration | reconf",
    _abbreviated(OPERATIONS),
    "migration or reconf",
    choices=OPERATIONS,
)
TARGET = Value(
    "[user@]target-host[:target-ldom]",
    _target,
    "where to (a port as host#6482), and its name there",
)
RULE = Value("id", _printable, "id of a rule or an error: R18, L03, LDM-041")
HOST = Value("host", _printable, "name or address of a machine")
FINGERPRINT = Value("fingerprint", _printable, "SHA256: and the digest")
