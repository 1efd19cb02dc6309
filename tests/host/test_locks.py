"""Locks seen without disturbing, against real QEMU tools where they are needed."""

import fcntl
import os
import struct
import subprocess

import pytest

from lodom.host import locks
from lodom.host.locks import ImageLock


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    return str(path)


def test_the_handshake_is_seen_while_held_and_gone_after(image):
    assert not locks.see_handshake(image, "m1")
    fd = locks.take_handshake(image, "m1")
    assert locks.see_handshake(image, "m1")
    assert not locks.see_handshake(image, "m2")
    os.close(fd)
    assert not locks.see_handshake(image, "m1")


def test_the_handshake_is_not_seen_on_other_storage(image, tmp_path):
    other = tmp_path / "other.img"
    other.write_bytes(bytes(1 << 20))
    fd = locks.take_handshake(image, "m1")
    assert not locks.see_handshake(str(other), "m1")
    os.close(fd)


def test_the_handshake_is_far_beyond_the_image_and_no_image_lock(image):
    assert (1 << 60) <= locks.handshake_byte("m1") < (1 << 63) - 1
    fd = locks.take_handshake(image, "m1")
    other = os.open(image, os.O_RDONLY)
    assert locks.image_lock(other) == ImageLock()
    assert os.stat(image).st_size == 1 << 20
    os.close(fd)
    os.close(other)


def test_a_read_only_image_can_be_locked(image):
    os.chmod(image, 0o400)
    fd = locks.take_handshake(image, "m1")
    assert locks.see_handshake(image, "m1")
    os.close(fd)


@pytest.mark.parametrize(
    ("byte", "seen"),
    [
        (100, ImageLock(held=True)),
        (101, ImageLock(held=True, written=True)),
        (103, ImageLock(held=True, written=True)),
        (201, ImageLock(held=True, exclusive=True)),
        (99, ImageLock()),
        (204, ImageLock()),
    ],
)
def test_each_lock_byte_has_its_meaning(image, byte, seen):
    with open(image, "rb") as holder, open(image, "rb") as looker:
        lock = struct.pack("hh4xqqi4x", fcntl.F_RDLCK, 0, byte, 1, 0)
        fcntl.fcntl(holder, fcntl.F_OFD_SETLK, lock)
        assert locks.image_lock(looker.fileno()) == seen


QEMU = ["qemu-system-x86_64", "-S", "-accel", "tcg", "-nodefaults", "-display", "none"]


@pytest.mark.live
@pytest.mark.parametrize(
    ("option", "seen"),
    [
        ("read-only=on,force-share=off", ImageLock(held=True, exclusive=True)),
        ("read-only=off", ImageLock(held=True, written=True, exclusive=True)),
        ("read-only=off,file.locking=off", ImageLock()),
    ],
)
def test_the_locks_of_a_real_hypervisor_are_read_and_not_disturbed(image, option, seen):
    """It answers its first command when the images are open."""
    drive = f"file={image},format=raw,if=none,id=d,{option}"
    argv = [*QEMU, "-drive", drive, "-device", "virtio-blk-pci,drive=d", "-qmp", "stdio"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        user.stdin.write('{"execute":"qmp_capabilities"}')
        user.stdin.flush()
        assert "QMP" in user.stdout.readline()
        assert "return" in user.stdout.readline()
        with open(image, "rb") as looker:
            found = locks.image_lock(looker.fileno())
            assert found == locks.image_lock(looker.fileno())
        user.communicate('{"execute":"quit"}')
    assert user.returncode == 0
    assert found == seen
