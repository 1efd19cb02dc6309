"""The only source of identifiers, secrets and chance in ldmd; core receives them in events."""

import secrets
import time
import uuid
from typing import Any

from lodom.core.alloc.mac import AUTOMATIC, form

CANDIDATES = 32
"""MAC addresses that an order may choose from; core takes those that nobody has."""


def new_uuid() -> str:
    """A fresh random UUID."""
    return str(uuid.uuid4())


def new_id() -> str:
    """128 random bits in hexadecimal: instances, migrations, requests."""
    return secrets.token_hex(16)


def new_key() -> str:
    """A pre-shared key for one migration's streams, hexadecimal."""
    return secrets.token_hex(32)


def fresh(count: int = 1) -> dict[str, Any]:
    """The random material of one order that may create *count* things."""
    macs = [form(AUTOMATIC[secrets.randbelow(len(AUTOMATIC))]) for _ in range(CANDIDATES * count)]
    return {"uuids": [new_uuid() for _ in range(count)], "macs": macs, "migration": new_id()}


def now() -> int:
    """The wall clock in seconds; for people to read, never for deadlines."""
    return int(time.time())
