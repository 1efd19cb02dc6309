"""Firmware that this host has, and each guest's own store of UEFI variables.

The store is a flash image in a file of this machine.  A live copy carries its content: QEMU sends
the flash with the memory and writes it to the target's file before the guest runs there.  Of a
domain that moves without running, ldmd sends the file (docs/decisions/0007-uefi-variables.md).
"""

import re
import zlib
from collections.abc import Collection
from pathlib import Path

from lodom.core.errors import InvalidValue, StepFailed

UEFI = "uefi"
CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
TEMPLATE = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
"""Of the package ovmf (Debian, Ubuntu); without secure boot, which would need SMM."""
MOST = 8 << 20
"""No flash image is larger: q35 has 8 MiB for firmware (QEMU hw/i386/pc_sysfw.c)."""


def installed() -> dict[str, str]:
    """Firmware by name, besides ``bios``, which QEMU brings along."""
    return {UEFI: str(CODE)} if CODE.is_file() and TEMPLATE.is_file() else {}


def store(folder: Path, uuid: str, template: Path) -> Path:
    """The guest's variable store, made from *template* at its first start.

    Raises:
        StepFailed: it cannot be made.
    """
    path = _file(folder, uuid)
    if not path.exists():
        try:
            _write(path, template.read_bytes())
        except OSError as e:
            reason = f"{template}: {e.strerror}"
            raise StepFailed(what="Making the UEFI variable store", reason=reason) from e
    return path


def packed(folder: Path, uuid: str) -> bytes:
    """The guest's store, compressed; empty if it has none."""
    try:
        return zlib.compress(_file(folder, uuid).read_bytes())
    except FileNotFoundError:
        return b""


def unpack(folder: Path, uuid: str, data: bytes) -> None:
    """Keep the store that another machine sent.

    Raises:
        InvalidValue: it is no compressed store, or the domain's id is none.
    """
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(data, MOST)
    except zlib.error as e:
        raise InvalidValue(what="UEFI variable store", value=uuid, why=str(e)) from e
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise InvalidValue(what="UEFI variable store", value=uuid, why="too long, or cut off")
    _write(_file(folder, uuid), content)


def _file(folder: Path, uuid: str) -> Path:
    """An id comes from another machine too: it names a file of this folder, and no other."""
    if not re.fullmatch(r"[0-9A-Za-z-]+", uuid):
        raise InvalidValue(what="id of a domain", value=uuid, why="not a UUID")
    return folder / f"{uuid}.fd"


def sweep(folder: Path, known: Collection[str]) -> None:
    """Remove the stores of domains that this machine does not know any more."""
    for path in folder.glob("*.fd"):
        if path.stem not in known:
            path.unlink()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_bytes(content)
    new.replace(path)
