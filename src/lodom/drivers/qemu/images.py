"""How a disk's back end is to be opened.

A raw image is never probed: a guest could write a qcow2 header into it and have any file of the
host opened by its next start.  So an image is qcow2 only if its *name* says so, which the guest
cannot change, and its header agrees.
"""

import asyncio
import json
import os
import re
import stat
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lodom.core.errors import NotSupported, StepFailed
from lodom.core.model.guest import GuestDisk
from lodom.drivers.qemu.argv import Image

_ANSWER_S = 10.0
_QCOW2 = b"QFI\xfb"


def inspect(disk: GuestDisk) -> Image:
    """How the back end of *disk* is opened: protocol, format, whether past the host's cache.

    Raises:
        NotSupported: a URL of an unknown kind.
        StepFailed: the file cannot be opened, or is named qcow2 and is none.
    """
    if re.match(r"[a-z][a-z0-9+]*:", disk.backend):
        return Image(_network(disk.backend), direct=True)
    path = Path(disk.backend)
    try:
        mode = path.stat().st_mode
        wanted = disk.backend.endswith(".qcow2")
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
    if url.startswith("rbd:"):
        return _rbd(url)
    try:
        parts = urlsplit(url)
        port = parts.port or 10809
    except ValueError as e:
        why = f"its form is nbd://HOST[:PORT]/EXPORT ({e})"
        raise NotSupported(what=f"back end {url}", why=why) from e
    export = unquote(parts.path.lstrip("/"))
    if parts.scheme == "nbd" and parts.hostname:
        server = {"type": "inet", "host": parts.hostname, "port": str(port)}
    elif parts.scheme == "nbd+unix" and parts.query.startswith("socket="):
        server = {"type": "unix", "path": unquote(parts.query.removeprefix("socket="))}
    else:
        why = "only files, block devices, nbd:// and rbd: are"
        raise NotSupported(what=f"back end {url}", why=why)
    return {"driver": "nbd", "server": server, "export": export}


def _rbd(text: str) -> dict[str, Any]:
    """The protocol node of ``rbd:POOL/IMAGE[@SNAPSHOT][:id=USER][:conf=FILE]``."""
    where, *options = text.removeprefix("rbd:").split(":")
    pool, _, image = where.partition("/")
    image, _, snapshot = image.partition("@")
    known = {"id": "user", "conf": "conf"}
    pairs = [option.partition("=") for option in options]
    if not pool or not image or any(key not in known or not value for key, _, value in pairs):
        why = "its form is rbd:POOL/IMAGE[@SNAPSHOT][:id=USER][:conf=FILE]"
        raise NotSupported(what=f"back end {text}", why=why)
    node = {"driver": "rbd", "pool": pool, "image": image}
    node |= {"snapshot": snapshot} if snapshot else {}
    return node | {known[key]: value for key, _, value in pairs}


async def network_size(url: str) -> int:
    """The size of a back end that the hypervisor opens by itself; it is opened once to see.

    Raises:
        NotSupported: a URL of an unknown kind.
        StepFailed: it cannot be opened, or does not answer.
    """
    what = f"Opening {url}"
    order = ["qemu-img", "info", "--output=json", "-U", f"json:{json.dumps(_network(url))}"]
    try:
        process = await asyncio.create_subprocess_exec(
            *order, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as e:
        raise StepFailed(what=what, reason=f"qemu-img: {e.strerror}") from e
    try:
        async with asyncio.timeout(_ANSWER_S):
            said, complaint = await process.communicate()
    except TimeoutError as e:
        process.kill()
        await process.wait()
        raise StepFailed(what=what, reason=f"no answer in {_ANSWER_S:g} s") from e
    if process.returncode:
        words = complaint.decode(errors="replace").strip().rpartition("': ")[2]
        missing = "; install the package qemu-block-extra" if "Unknown driver" in words else ""
        raise StepFailed(what=what, reason=words + missing)
    return int(json.loads(said)["virtual-size"])
