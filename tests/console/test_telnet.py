"""The telnet of vntsd, byte by byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lodom.console.telnet import BREAK, GREETING, Telnet, escaped


def test_the_greeting_is_vntsds():
    """Ten triples: character mode, no echo, no options.  Source: ldm-cli digest 3.7."""
    assert GREETING.hex(" ", 3) == (
        "fffe22 fffb03 fffb01 fffe18 fffe20 fffe05 fffe21 fffe06 fffe24 fffe1f"
    )


@pytest.mark.parametrize(
    ("received", "keys"),
    [
        (b"ab", b"ab"),
        (b"a\r\nb", b"a\rb"),
        (b"a\r\0b", b"a\rb"),
        (b"a\rb", b"a\rb"),
        (b"a\nb", b"a\nb"),
        (b"\r\r\n\n", b"\r\r\n"),
        (b"\0", b"\0"),
        (b"\xff\xff", b"\xff"),
        (b"\xff\xf1a", b"a"),
        (b"\xff\xfa\x18\0xterm\xff\xff\xf0z\xff\xf0b", b"b"),
        (b"\xff\xfb\x1fa", b"a"),
    ],
)
def test_keys(received, keys):
    """Enter is CR alone; commands and sub-negotiations are no keys; IAC IAC is a byte."""
    assert bytes(Telnet().keys(received)) == keys


def test_break_is_a_key():
    """It swallows nothing that follows."""
    assert Telnet().keys(b"a\xff\xf3b") == [97, BREAK, 98]


def test_do_and_dont_are_answered_will_once():
    """As vntsd does, but never in a circle; WILL and WONT are not answered."""
    telnet = Telnet()
    telnet.keys(b"\xff\xfd\x01" * 3 + b"\xff\xfe\x18" + b"\xff\xfb\x1f\xff\xfc\x22")
    assert telnet.replies == b"\xff\xfb\x01\xff\xfb\x18"


@given(st.binary(), st.integers(0, 40))
def test_chunks_do_not_matter(received, cut):
    """However the network cuts the stream, the keys and replies are the same."""
    whole, parts = Telnet(), Telnet()
    keys = parts.keys(received[:cut]) + parts.keys(received[cut:])
    assert (keys, parts.replies) == (whole.keys(received), whole.replies)


@given(st.binary())
def test_output_survives_the_way_to_a_client(output):
    """What a guest writes is data to a telnet client, whatever it is (CR apart)."""
    output = output.replace(b"\r", b"")
    assert bytes(Telnet().keys(escaped(output))) == output
