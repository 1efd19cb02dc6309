"""Messages of ``core.messages`` as JSON objects: ``{"type": class name, **fields}``."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from lodom.core.messages import Message


class Malformed(ValueError):
    """The object is no message of ours; the text says what is wrong with it."""


def encode(message: Message) -> dict[str, Any]:
    """The message as a JSON object.  No field of a message may be called ``type``."""
    plain: dict[str, Any] = msgspec.to_builtins(message, str_keys=True)
    assert "type" not in plain, message
    return {"type": type(message).__name__, **plain}


def decode(plain: Mapping[str, Any]) -> Message:
    """The message that ``encode`` made *plain* of.

    Fields that this release does not know are left out; fields with a default may be missing.

    Raises:
        Malformed: unknown type, or a field is missing or of the wrong type.
    """
    name = plain.get("type")
    kind = next((k for k in _kinds(Message) if k.__name__ == name), None)
    if kind is None:
        raise Malformed(f"unknown message type {name!r}")
    try:
        return msgspec.convert(dict(plain), kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise Malformed(f"{name}: {error}") from error


def _kinds(base: type[Message]) -> Iterator[type[Message]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)
