"""Headers of qcow2 images, and the chain of images below one.

All numbers are big endian.  Source: QEMU docs/interop/qcow2.
"""

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from lodom.core.errors import InvalidValue

_MAGIC = b"QFI\xfb"
_EXTERNAL_DATA = 1 << 2
_BACKING_FORMAT = 0xE2792ACA
_FIRST_PAGE = 4096
DEEPEST = 16
"""No chain that people make is deeper; one that leads to itself is."""


@dataclass(frozen=True)
class Header:
    """What a qcow2 image says of itself."""

    size: int
    """Bytes that a guest sees."""
    backing: str = ""
    """The image below, as written."""
    backing_format: str = ""
    external: bool = False
    """Its data lie in another file."""


def is_named(path: str) -> bool:
    """An image is opened as qcow2 only if its name says so, which no guest can change."""
    return path.endswith(".qcow2")


def header(fd: int) -> Header | None:
    """The header of the open image; None if it is no qcow2."""
    page = os.pread(fd, _FIRST_PAGE, 0)
    if len(page) < 72 or page[:4] != _MAGIC:
        return None
    version, at, length = struct.unpack_from(">IQI", page, 4)
    (size,) = struct.unpack_from(">Q", page, 24)
    features, end = 0, 72
    if version >= 3 and len(page) >= 104:
        (features,) = struct.unpack_from(">Q", page, 72)
        (end,) = struct.unpack_from(">I", page, 100)
    return Header(
        size=size,
        backing=os.pread(fd, min(length, 1023), at).decode("utf-8", "replace") if at else "",
        backing_format=_extension(page, end, _BACKING_FORMAT).decode("utf-8", "replace"),
        external=bool(features & _EXTERNAL_DATA),
    )


def _extension(page: bytes, at: int, wanted: int) -> bytes:
    """The data of a header extension; empty without it."""
    while at + 8 <= len(page):
        kind, length = struct.unpack_from(">II", page, at)
        if kind in (0, wanted):
            return page[at + 8 : at + 8 + length] if kind else b""
        at += 8 + (length + 7 & ~7)
    return b""


def below(path: str, found: Header) -> tuple[str, bool] | None:
    """The image below *path*, and whether it is qcow2 itself; None if there is none.

    Who made the image chose the name.  It must not lead out of the image's folder: an image from
    elsewhere could have the guest read any file of the host.

    Raises:
        InvalidValue: it is nothing that a guest may be given.
    """
    if found.external:
        raise InvalidValue(what="image", value=path, why="its data lie in another file")
    if not found.backing:
        return None
    what, name = "backing file", found.backing
    if re.match(r"[a-z][a-z0-9+-]*:", name):
        raise InvalidValue(what=what, value=name, why=f"{path} must lie on a file")
    if found.backing_format not in ("raw", "qcow2"):
        why = f"{path} does not say that it is raw or qcow2: qemu-img rebase -u -F FORMAT -b FILE"
        raise InvalidValue(what=what, value=name, why=why)
    # Joined as QEMU does; a link in the folder is the administrator's word.
    folder = Path(path).parent
    lower = folder / name
    if ".." in lower.parts or not lower.is_relative_to(folder):
        why = f"it is not in the folder of {path}; a symbolic link there to it will do"
        raise InvalidValue(what=what, value=name, why=f"{why}, and qemu-img rebase -u -b LINK")
    return str(lower), found.backing_format == "qcow2"


def chain(path: str) -> list[tuple[str, bool]]:
    """The images from *path* down, each with whether it is qcow2.

    Raises:
        InvalidValue: one of them cannot be opened or used, or there is no end.
    """
    found = [(path, is_named(path))]
    while found[-1][1]:
        image = found[-1][0]
        try:
            fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            what = "backing file" if len(found) > 1 else "backend"
            raise InvalidValue(what=what, value=image, why=e.strerror or str(e)) from e
        try:
            seen = header(fd)
        finally:
            os.close(fd)
        if seen is None:
            raise InvalidValue(what="image", value=image, why="it should be qcow2, and is not")
        if (lower := below(image, seen)) is None:
            break
        if len(found) == DEEPEST:
            raise InvalidValue(what="image", value=path, why=f"more than {DEEPEST} images deep")
        found.append(lower)
    return found
