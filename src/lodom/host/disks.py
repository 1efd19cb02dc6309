"""What a volume's back end is: kind, size, format, identity, users.  Facts only; rules judge.

Nothing here writes to a back end or changes who may use it.
"""

import errno
import fcntl
import mmap
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from lodom.core.errors import InvalidValue
from lodom.host import qcow2
from lodom.host.locks import ImageLock, image_lock

_GETFSUUID = 0x80111500  # FS_IOC_GETFSUUID, Linux 6.9
_SYS = Path("/sys/dev/block")


@dataclass(frozen=True)
class BackendFacts:
    """A back end as this machine sees it.  Empty and None mean "cannot be known"."""

    path: str
    kind: str
    """``file``, ``block``, or ``url`` (opened by the hypervisor itself: nothing else is known)."""
    size: int = 0
    """Bytes that the guest sees."""
    format: str = ""
    """How a guest gets it, ``raw`` or ``qcow2``: by its name, or by what the image above says."""
    odd: str = ""
    """Why its content and that format do not agree."""
    layers: tuple["BackendFacts", ...] = ()
    """The images below a qcow2 image, nearest first."""
    ids: tuple[str, ...] = ()
    """World-wide names, for instance ``naa.5000…``: one in common proves the same storage."""
    filesystem: str = ""
    """UUID of the file system that holds a file.  Differing ones prove other storage; equal ones
    prove nothing, as a copied disk keeps it."""
    volume: str = ""
    """Device-mapper UUID of a logical volume (``LVM-…``); proves as much as ``filesystem``."""
    inode: int = 0
    device: int = 0
    """st_dev of a file, st_rdev of a block device: this machine's own number."""
    lock: ImageLock = field(default_factory=ImageLock)
    users: tuple[str, ...] = ()
    """Who uses it besides a hypervisor: mounts, holders, loop devices."""
    direct: bool = False
    """O_DIRECT works: no host cache between two machines."""
    writable: bool = False


def probe(path: str) -> BackendFacts:
    """The facts of a back end.  Blocks on slow storage: call it off the event loop.

    Raises:
        InvalidValue: it does not exist, cannot be opened, or is neither file nor block device.
    """
    if is_url(path):
        return BackendFacts(path=path, kind="url")
    (_, named), *lower = qcow2.chain(path)
    layers = tuple(_probe(*layer, what="backing file") for layer in lower)
    return replace(_probe(path, named), layers=layers)


def is_url(backend: str) -> bool:
    """The hypervisor opens it by itself; everything else is a path."""
    return bool(re.match(r"[a-z][a-z0-9+]*:", backend))


def _probe(path: str, is_qcow2: bool, what: str = "backend") -> BackendFacts:
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):  # opening others can have effects
            raise InvalidValue(what=what, value=path, why="neither a file nor a block device")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as refused:
        why = getattr(refused, "strerror", None) or str(refused)
        raise InvalidValue(what=what, value=path, why=why) from refused
    try:
        return _with_format(_facts(path, fd, os.fstat(fd)), fd, is_qcow2=is_qcow2)
    except OSError as refused:
        raise InvalidValue(what=what, value=path, why=str(refused.strerror)) from refused
    finally:
        os.close(fd)


def _facts(path: str, fd: int, status: os.stat_result) -> BackendFacts:
    facts = BackendFacts(
        path=path,
        kind="block",
        size=os.lseek(fd, 0, os.SEEK_END),
        inode=status.st_ino,
        lock=_lock(fd),
        direct=_direct(path),
        writable=os.access(path, os.W_OK),
    )
    if stat.S_ISBLK(status.st_mode):
        block = _sys_block(status.st_rdev)
        facts = replace(
            facts,
            device=status.st_rdev,
            ids=tuple(sorted(set(_block_ids(block)))),
            volume=uuid if (uuid := _text(block / "dm/uuid")).startswith("LVM-") else "",
            users=tuple(_block_users(path, status.st_rdev)),
        )
    else:
        facts = replace(
            facts,
            kind="file",
            device=status.st_dev,
            filesystem=_filesystem(fd, status.st_dev),
            users=tuple(_loops(path)),
        )
    return facts


def _with_format(facts: BackendFacts, fd: int, *, is_qcow2: bool) -> BackendFacts:
    seen = qcow2.header(fd)
    if is_qcow2 and seen:
        return replace(facts, format="qcow2", size=seen.size)
    odd = "holds a qcow2 image; name it .qcow2, or convert it to raw" if seen else ""
    return replace(facts, format="raw", odd=odd)


def size(path: str) -> int:
    """Bytes of a raw back end, looked up without opening it; 0 if it cannot be known."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return 0
    if not stat.S_ISBLK(status.st_mode):
        return status.st_size
    sectors = _text(_sys_block(status.st_rdev) / "size")
    return int(sectors) * 512 if sectors.isdigit() else 0


def same(path: str, others: Iterable[str]) -> frozenset[str]:
    """Those of *others* that lead to the same file or device as *path*; looked up, not opened."""
    wanted = _number(path)
    return frozenset(other for other in others if wanted and _number(other) == wanted)


def _number(path: str) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ()
    return (status.st_rdev,) if stat.S_ISBLK(status.st_mode) else (status.st_dev, status.st_ino)


# -- identity -----------------------------------------------------------------------------------


def _sys_block(device: int) -> Path:
    return _SYS / f"{os.major(device)}:{os.minor(device)}"


def _block_ids(block: Path) -> Iterator[str]:
    """The world-wide names of a device, in one form however this host sees it.

    ``naa.…`` and ``eui.…`` of SCSI, ``eui.…`` (NGUID too) and ``uuid.…`` of NVMe.  Names that the
    kernel or a vendor makes of model and serial are left out: emulated disks repeat them.  A
    partition has its disk's names and its own number.
    """
    suffix = ""
    if number := _text(block / "partition"):
        block, suffix = block.resolve().parent, f"-part{number}"
    found = {_text(block / name) for name in ("wwid", "device/wwid")}
    found.update(designators(_bytes(block / "device/vpd_pg83")))
    for name, kind in (("nguid", "eui"), ("eui", "eui"), ("uuid", "uuid")):
        found.add(f"{kind}.{_text(block / name)}")
    if match := re.fullmatch(r"mpath-3([0-9a-f]+)", _text(block / "dm/uuid")):
        found.add(f"naa.{match[1]}")
    for text in found:
        kind, _, name = text.lower().replace(" ", "").replace("-", "").partition(".")
        if kind in ("naa", "eui", "uuid") and name.strip("0"):
            yield f"{kind}.{name}{suffix}"


def designators(page: bytes) -> Iterator[str]:
    """The NAA and EUI-64 names of the logical unit in a VPD page 0x83 (SPC-4, 7.8.6)."""
    at = 4
    while at + 4 <= len(page):
        kind, association, length = page[at + 1] & 0x0F, page[at + 1] >> 4 & 0x03, page[at + 3]
        if association == 0 and kind in (2, 3):
            yield f"{'eui' if kind == 2 else 'naa'}.{page[at + 4 : at + 4 + length].hex()}"
        at += 4 + length


def _filesystem(fd: int, device: int) -> str:
    """The UUID that the file system keeps on its storage, from the kernel or from udev's links."""
    answer = bytearray(17)
    with suppress(OSError):
        fcntl.ioctl(fd, _GETFSUUID, answer)
        if any(answer[1 : 1 + answer[0]]):
            return answer[1 : 1 + answer[0]].hex()
    with suppress(OSError):
        for entry in Path("/dev/disk/by-uuid").iterdir():
            if entry.stat().st_rdev == device:
                return entry.name.replace("-", "").lower()
    return ""


# -- users --------------------------------------------------------------------------------------


def _lock(fd: int) -> ImageLock:
    try:
        return image_lock(fd)
    except OSError:  # a file system without locks says nothing of users
        return ImageLock()


def _block_users(path: str, device: int) -> Iterator[str]:
    """Mounts, holders (LVM, RAID, crypt, multipath) and swap, of the device and its partitions."""
    block = _sys_block(device)
    parts = [block, *(p.parent for p in block.resolve().glob("*/partition"))]
    numbers = {_text(p / "dev") for p in parts}
    found = [*_mounts(numbers), *_swaps(numbers)]
    found += [f"held by {_holder(h)}" for p in parts for h in sorted((p / "holders").glob("*"))]
    if not found:
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as refused:
            if refused.errno == errno.EBUSY:
                found.append("claimed by the kernel")
    yield from found


def _holder(holder: Path) -> str:
    """``md0``; of device-mapper what it is: ``LVM volume vg-data (dm-3)``."""
    kind = _text(holder / "dm/uuid").partition("-")[0]
    known = {"LVM": "LVM volume", "mpath": "multipath device", "CRYPT": "encrypted device"}
    if not (name := _text(holder / "dm/name")):
        return holder.name
    return f"{known.get(kind, 'device')} {name} ({holder.name})"


def openers(facts: BackendFacts) -> list[str]:
    """Processes of this machine that have the back end open: ``lodom-ldg1 (process 77)``."""
    found = []
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda p: int(p.name)):
        with suppress(OSError):
            if any(_is(fd, facts) for fd in (folder / "fd").iterdir()):
                found.append(f"{_text(folder / 'comm')} (process {folder.name})")
    return found


def has_open(pid: int, path: str) -> bool | None:
    """Whether the process has the file or device at *path* open; None if it cannot be known."""
    try:
        status = os.stat(path)
        opened = list(Path(f"/proc/{pid}/fd").iterdir())
    except (OSError, ValueError):
        return None
    block = stat.S_ISBLK(status.st_mode)
    number = status.st_rdev if block else status.st_dev
    facts = BackendFacts(path, "block" if block else "file", inode=status.st_ino, device=number)
    return any(_is(fd, facts) for fd in opened)


def _is(fd: Path, facts: BackendFacts) -> bool:
    try:
        status = fd.stat()
    except OSError:
        return False
    if facts.kind == "block":
        return stat.S_ISBLK(status.st_mode) and status.st_rdev == facts.device
    return (status.st_dev, status.st_ino) == (facts.device, facts.inode)


def _mounts(numbers: set[str]) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] in numbers:
            yield f"mounted at {fields[4]}"


def _swaps(numbers: set[str]) -> Iterator[str]:
    for line in Path("/proc/swaps").read_text().splitlines()[1:]:
        with suppress(OSError):
            status = os.stat(line.split()[0])
            if f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" in numbers:
                yield "used as swap"


def _loops(path: str) -> Iterator[str]:
    for loop in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        with suppress(OSError):
            if os.path.samefile(_text(loop), path):
                yield f"held by {loop.parent.parent.name}"


# -- reading ------------------------------------------------------------------------------------


def _direct(path: str) -> bool:
    """Some file systems take the flag and refuse the read, so a block is really read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        with mmap.mmap(-1, mmap.PAGESIZE) as aligned:
            os.preadv(fd, [aligned], 0)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def _text(path: Path) -> str:
    return _bytes(path).decode("utf-8", "replace").strip()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
