"""Where a guest is, said to the network: switches that still send elsewhere are told at once."""

import socket
from collections.abc import Callable, Iterator

import pytest
from machines import Domain, World

from lodom.lab.watch import CLIENT, Heartbeats, inside

pytestmark = pytest.mark.live

RARP = 0x8035
"""The kind of frame that QEMU announces a network device with, from the device's own address."""


@pytest.fixture
def heard(world: World) -> Iterator[socket.socket]:
    """What another host on the guests' network hears of such frames."""

    def listen() -> socket.socket:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(RARP))

    with inside(CLIENT, listen) as sock:
        sock.settimeout(10)
        yield sock


def sender(heard: socket.socket) -> str:
    """Who the next announcement is of."""
    return heard.recv(2048)[6:12].hex(":")


def test_a_guest_is_announced_where_it_runs(
    world: World, domains: Callable[..., Domain], heard: socket.socket
) -> None:
    domain = domains("ldg1", memory="192m")
    known = world.a.ldm("list-constraints", "ldg1")
    with Heartbeats() as beats:
        domain.start(beats)
        # At a start it is ldmd's step; at a move QEMU has five rounds of its own before it.
        senders = {sender(heard) for _ in range(5)}
        world.a.migrate("ldg1", world.b)
        senders |= {sender(heard) for _ in range(6)}
    assert len(senders) == 1
    assert senders.pop() in known
