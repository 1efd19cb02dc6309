"""Messages survive the wire."""

import typing
from dataclasses import dataclass, fields

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lodom.core import messages
from lodom.core.messages import Cede, Message, Reserve
from lodom.core.model.domain import Block, Platform
from lodom.peer.codec import Malformed, decode, encode


@dataclass(frozen=True)
class Nested(Message):
    """All shapes that a message may have."""

    blocks: tuple[Block, ...]
    pairs: tuple[tuple[int, str], ...]
    platform: Platform | None
    names: dict[str, int]
    flag: bool = False


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
DOCUMENT = st.dictionaries(st.text(), JSON, max_size=4)
KINDS = [Nested, *(k for k in Message.__subclasses__() if k.__module__ == messages.__name__)]


def built(kind):
    """Any message of the kind."""
    documents = {f.name: DOCUMENT for f in fields(kind) if f.type == dict[str, typing.Any]}
    return st.builds(kind, **documents)


@given(st.sampled_from(KINDS).flatmap(built))
def test_what_was_encoded_is_decoded(message):
    """For every message, through real JSON text."""
    assert decode(msgspec.json.decode(msgspec.json.encode(encode(message)))) == message


def test_every_message_can_be_told_by_its_name():
    """No field hides the type; no two messages share a name."""
    assert len({k.__name__ for k in KINDS}) == len(KINDS)
    assert not [k for k in KINDS for f in fields(k) if f.name == "type"]


def test_a_newer_release_may_say_more():
    """Unknown fields are left out, missing ones with a default take it."""
    assert decode({"type": "Cede", "epoch": 3, "mood": "good"}) == Cede(epoch=3)
    plain = encode(Nested(blocks=(), pairs=(), platform=None, names={}))
    del plain["flag"]
    assert decode(plain) == Nested(blocks=(), pairs=(), platform=None, names={})


@pytest.mark.parametrize(
    ("plain", "why"),
    [
        ({}, "unknown message type None"),
        ({"type": "Message"}, "unknown message type"),
        ({"type": "Nonsense"}, "unknown message type 'Nonsense'"),
        ({"type": "Cede"}, "epoch"),
        ({"type": "Cede", "epoch": "3"}, "Expected `int`"),
        ({"type": "Cede", "epoch": True}, "Expected `int`"),
    ],
)
def test_nonsense_is_named(plain, why):
    """The error says what is wrong."""
    with pytest.raises(Malformed, match=why):
        decode(plain)


def test_reserve_is_among_the_messages():
    """The table is not empty by accident."""
    assert Reserve in KINDS
