"""The witnesses tell silence, a second copy and a lost connection from their absence."""

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from lodom.lab.watch import Arrivals, Counter, Heartbeats, Probe, Status, inside

HOST = "127.0.0.1"


def test_a_gap_counts_its_ends() -> None:
    begin = monotonic()
    arrivals = Arrivals()
    assert arrivals.gap() == 0
    assert arrivals.gap(begin, begin + 3) == pytest.approx(3)
    arrivals.add(7)
    assert arrivals.gap(begin, begin + 60) == pytest.approx(60, abs=1)
    assert arrivals.gap(begin) < 1
    assert (arrivals.last, arrivals.came(begin), arrivals.came(monotonic() + 1)) == (7, 1, 0)


@pytest.mark.parametrize(
    ("numbers", "back", "repeated", "missing"),
    [
        ((1, 2, 9), 0, 0, 6),
        ((1, 2, 2), 1, 1, 0),
        ((5, 4, 6, 1), 2, 0, 1),
        ((1, 2, 3, 2, 3), 1, 2, 0),
    ],
)
def test_going_back_repeating_and_leaving_out_are_counted(
    numbers: tuple[int, ...], back: int, repeated: int, missing: int
) -> None:
    arrivals = Arrivals()
    for number in numbers:
        arrivals.add(number)
    assert (arrivals.backwards, arrivals.repeated, arrivals.missing) == (back, repeated, missing)


def test_waiting_ends_with_the_arrival_or_the_deadline() -> None:
    arrivals = Arrivals()
    begin = monotonic()
    threading.Timer(0.05, arrivals.add, [1]).start()
    arrivals.wait(since=begin, within=10)
    with pytest.raises(TimeoutError, match="1 of 2 arrivals"):
        arrivals.wait(2, since=begin, within=0.05)


@pytest.fixture
def namespace() -> Iterator[str]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    name = f"lodom-watch-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.live
def test_a_socket_stays_in_its_namespace(namespace: str) -> None:
    with inside(namespace, lambda: socket.create_server((HOST, 0))) as server:
        port = server.getsockname()[1]
        with inside(namespace, lambda: socket.create_connection((HOST, port))):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port))
    with pytest.raises(FileNotFoundError):
        inside("lodom-no-such", socket.socket)


@pytest.mark.live
def test_heartbeats_tell_boots_and_copies_apart(namespace: str) -> None:
    with (
        Heartbeats(namespace) as beats,
        inside(namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as guest,
    ):

        def beat(name: str, boot: str, number: int) -> None:
            guest.sendto(f"lodom1 {name} {boot} {number} 0\n".encode(), (HOST, 7999))

        guest.sendto(b"noise", (HOST, 7999))
        beat("a", "one", 1)
        assert beats.first("a", within=10) == "one"
        beat("a", "one", 2)
        beat("b", "other", 2)
        beat("a", "two", 1)
        assert beats.first("a", unlike="one", within=10) == "two"
        assert (beats.boots("a"), beats.of("a").last) == (["one", "two"], 1)
        assert (beats.repeated("a"), beats.repeated("b")) == (0, 0)
        beat("a", "two", 1)
        beat("a", "three", 1)
        beats.first("a", unlike="two", within=10)
        beat("c", "end", 1)
        beats.first("c", within=10)
        assert beats.repeated("a") == 1
        with pytest.raises(TimeoutError, match="no heartbeat of d"):
            beats.first("d", within=0.05)


@pytest.mark.live
def test_a_counter_sees_its_connection_end(namespace: str) -> None:
    with (
        inside(namespace, lambda: socket.create_server((HOST, 7000))) as server,
        Counter(HOST, namespace) as counter,
    ):
        guest, _ = server.accept()
        begin = monotonic()
        guest.sendall(b"boot 5 0\nboot 6 0\nbo")
        counter.wait(2, since=begin, within=10)
        assert (counter.last, counter.boots, counter.unbroken) == (6, ["boot"], True)
        guest.sendall(b"ot 7 0\n")
        counter.wait(3, since=begin, within=10)
        guest.close()
        counter._thread.join(10)
        assert (counter.unbroken, counter.ended) == (False, "closed by the guest")


@pytest.mark.live
def test_a_probe_is_answered_until_the_link_is_cut(namespace: str) -> None:
    with Probe(HOST, namespace) as probe:
        probe.wait(20, within=10)
        assert probe.backwards == 0
        subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "down"], check=True)
        with pytest.raises(TimeoutError):
            probe.wait(within=0.3)
        silent = monotonic()
        subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "up"], check=True)
        probe.wait(since=silent, within=10)
        assert probe.gap() >= 0.3


@pytest.mark.live
def test_status_is_one_line_each_way(namespace: str) -> None:
    with inside(namespace, lambda: socket.create_server((HOST, 7001))) as server:

        def answer() -> None:
            guest, _ = server.accept()
            with guest, guest.makefile("rw") as lines:
                asked = lines.readline().strip()
                lines.write(json.dumps({"asked": asked}) + "\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert Status(HOST, namespace).read() == {"asked": "status"}
        thread.join()
