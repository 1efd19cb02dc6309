"""Logs are bounded while their writer goes on, and systemd hears that ldmd is ready."""

import socket
import subprocess

import pytest

from lodom.host.logs import turn_over
from lodom.host.service import tell


def test_a_log_is_put_aside_and_its_writer_goes_on(tmp_path):
    log = tmp_path / "ldg1.console.log"
    with log.open("ab") as out:  # as QEMU has it open: appending
        writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=out)
        assert writer.stdin
        out.write(b"x" * 200)
        out.flush()
        turn_over(log, most=100)
        assert (log.stat().st_size, (tmp_path / "ldg1.console.log.1").stat().st_size) == (0, 200)
        writer.communicate(b"more", timeout=10)
    assert log.read_bytes() == b"more"


def test_a_small_log_and_a_link_stay(tmp_path):
    small, other = tmp_path / "a.log", tmp_path / "elsewhere"
    small.write_bytes(b"x" * 99)
    other.write_bytes(b"x" * 500)
    (tmp_path / "b.log").symlink_to(other)
    for log in (small, tmp_path / "b.log", tmp_path / "none.log"):
        turn_over(log, most=100)
    assert {p.name for p in tmp_path.iterdir()} == {"a.log", "b.log", "elsewhere"}
    assert other.stat().st_size == 500


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(tmp_path, monkeypatch, abstract):
    path = f"@{tmp_path}/n" if abstract else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + path[1:] if abstract else path)
        sock.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        tell("READY=1")
        assert sock.recv(100) == b"READY=1"


def test_nobody_asked(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    tell("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/socket")
    tell("READY=1")
