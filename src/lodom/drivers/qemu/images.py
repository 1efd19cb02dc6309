"""How a disk's back end is to be opened.

A raw image is never probed: a guest could write a qcow2 header into it and have any file of the
host opened by its next start.  So an image is qcow2 only if its *name* says so, which the guest
cannot change, and its header agrees.
"""

import os
import stat
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lodom.core.errors import NotSupported, StepFailed
from lodom.core.model.guest import GuestDisk
from lodom.drivers.qemu.argv import Image

_QCOW2 = b"QFI\xfb"


def inspect(disk: GuestDisk) -> Image:
    """How the back end of *disk* is opened: protocol, format, whether past the host's cache.

    Raises:
        NotSupported: a URL of an unknown kind.
        StepFailed: the file cannot be opened, or is named qcow2 and is none.
    """
    if "://" in disk.backend:
        return Image(_network(disk.backend), direct=True)
    path = Path(disk.backend)
    try:
        mode = path.stat().st_mode
        wanted = path.suffix == ".qcow2" and stat.S_ISREG(mode)
        with path.open("rb") as file:
            found = file.read(4) == _QCOW2
    except OSError as e:
        raise StepFailed(what=f"Opening {disk.backend}", reason=e.strerror or str(e)) from e
    if wanted and not found:
        raise StepFailed(what=f"Opening {disk.backend}", reason="its name says qcow2, it is none")
    block = stat.S_ISBLK(mode)
    protocol = {
        "driver": "host_device" if block else "file",
        "filename": str(path),
        "locking": "on",
    }
    return Image(protocol, format="qcow2" if wanted else "raw", direct=_direct(path))


def _direct(path: Path) -> bool:
    """The file system can do I/O past the host's cache."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        return False
    return True


def _network(url: str) -> dict[str, Any]:
    """The protocol node of ``nbd://host:port/export`` or ``nbd+unix:///export?socket=PATH``."""
    parts = urlsplit(url)
    export = unquote(parts.path.lstrip("/"))
    if parts.scheme == "nbd" and parts.hostname:
        server = {"type": "inet", "host": parts.hostname, "port": str(parts.port or 10809)}
    elif parts.scheme == "nbd+unix" and parts.query.startswith("socket="):
        server = {"type": "unix", "path": unquote(parts.query.removeprefix("socket="))}
    else:
        raise NotSupported(what=f"back end {url}", why="only files, block devices and nbd:// are")
    return {"driver": "nbd", "server": server, "export": export}
