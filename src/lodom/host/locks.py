"""Byte locks on a back end: who has it open, and the lock handshake of two machines.

OFD locks belong to an open file, not to a process: looking through a descriptor of our own
disturbs nobody, QEMU included.  Source: fcntl_locking(2); QEMU block/file-posix.c.
"""

import fcntl
import hashlib
import os
import struct
from dataclasses import dataclass

_FLOCK = struct.Struct("hh4xqqi4x")  # type, whence, start, length, pid (0 for OFD)

# QEMU takes a shared lock on 100 + n for each permission n that it uses, and on 200 + n for each
# that it does not share: 0 consistent read, 1 write, 2 write unchanged, 3 resize.
_USED = 100
_UNSHARED = 200
_WRITE, _RESIZE = 1, 3

_FAR = 1 << 60
"""Where the handshake's bytes begin: no image reaches there, and every file system can lock it."""


@dataclass(frozen=True)
class ImageLock:
    """What QEMU's locks say of an image."""

    held: bool = False
    """Some process has it open with image locking."""
    written: bool = False
    """… and may write or resize it."""
    exclusive: bool = False
    """… and lets no other process write."""


def image_lock(fd: int) -> ImageLock:
    """What other open files hold on the image that *fd* is open on.

    Raises:
        OSError: the file system has no locks.
    """
    used = [locked(fd, _USED + n) for n in range(4)]
    unshared = [locked(fd, _UNSHARED + n) for n in range(4)]
    return ImageLock(
        held=any(used) or any(unshared),
        written=used[_WRITE] or used[_RESIZE],
        exclusive=unshared[_WRITE],
    )


def locked(fd: int, start: int, length: int = 1) -> bool:
    """Another open file has a lock in these bytes."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def handshake_byte(migration: str) -> int:
    """The byte that both machines lock and look at in the handshake of that migration."""
    digest = hashlib.sha256(migration.encode()).digest()
    return _FAR + int.from_bytes(digest[:7])


def take_handshake(path: str, migration: str) -> int:
    """Lock the migration's byte of *path*; held until ``os.close`` of the descriptor returned.

    A shared lock, so that a read-only volume can be locked too.

    Raises:
        OSError: it cannot be opened, or the file system has no locks.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        asked = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, handshake_byte(migration), 1, 0)
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, asked)
    except OSError:
        os.close(fd)
        raise
    return fd


def see_handshake(path: str, migration: str) -> bool:
    """The other machine's lock is seen.  Only seen-then-gone proves the same storage.

    Raises:
        OSError: it cannot be opened, or the file system has no locks.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return locked(fd, handshake_byte(migration))
    finally:
        os.close(fd)
