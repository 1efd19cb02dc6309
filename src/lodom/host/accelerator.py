"""Whether KVM works here: found out by really booting a tiny guest, once for each boot of the host.

``/dev/kvm`` proves nothing.  Seen on a paravirtual nested host: it is there, makes a VM, even
boots a sector (40 times slower than emulation), and still no kernel ever comes up.  So the guest
does what a kernel does first (``sector.s``: page tables, long mode, timer interrupts), with the
host's CPU model, and KVM must not be far slower at it than emulation.
"""

import asyncio
import json
import os
import shutil
import signal
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from lodom.core.errors import NotSupported
from lodom.host import boot
from lodom.host.probe import kvm_device

QEMU = "qemu-system-x86_64"
TCG_DEADLINE = 30.0
KVM_DEADLINE = 2.0
"""Seconds; the boot takes 0.2 where KVM works."""
SLOWER = 10
"""… or this many times what emulation just took, on a host that is busy."""

_MARK = b"LODOM"

# sector.s, assembled; a test assembles it again and compares.
_SECTOR = bytes.fromhex(
    "fa31c08ed88ec08ed0bc007cbf0010b90018fcf3abc70600100320c70600200330bf003066b8830000006689"
    "0583c70866050000200081ff004075eee4920c02e69266b8001000000f22d866b8200000000f22e066b98000"
    "00c00f32660d000100000f30660f0116287d0f20c0660d010000800f22c0ea7b7c0800b8100000008ed88ec0"
    "8ed0bc007c0000b8fe7c0000bf0052000066890766c74702080066c74704008ec1e81066894706c747080000"
    "0000c7470c000000000f011c252e7d0000b011e620b020e621b004e621b001e621b0fee621b034e643b0a9e6"
    "40b004e64031dbfbf4fa83fb0a72f8be087d000066baf803b906000000f36ef4ebfdffc350b020e6205848cf"
    "4c4f444f4d0a6690000000000000000000000000009a200000000000009200001700107d00000f0200500000"
    "00000000"
)


@dataclass(frozen=True)
class Verdict:
    """``kvm`` or ``tcg``, and why; both shown by ``ldm -V``."""

    accelerator: str
    reason: str


@dataclass(frozen=True)
class Run:
    """How one boot of the guest ended: the seconds to its word, or what happened instead."""

    seconds: float | None
    failure: str = ""


async def verdict(state: Path, wanted: str = "auto", *, qemu: str = QEMU) -> Verdict:
    """The accelerator to use; *wanted* is the value of machine.toml.

    Kept in ``accelerator.json`` in the directory *state*, for this boot of the host and this QEMU.

    Raises:
        NotSupported: there is no QEMU, or it cannot run a guest at all.
    """
    program = shutil.which(qemu)
    if not program:
        raise NotSupported(what="Running domains", why=f"{qemu} is not installed")
    if wanted != "auto":
        return Verdict(wanted, "set in machine.toml")
    file = state / "accelerator.json"
    key = [boot.boot_id(), program, Path(program).stat().st_mtime_ns]
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(file.read_text())
        if kept["key"] == key:
            return Verdict(**kept["verdict"])
    found = await judge(program)
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps({"key": key, "verdict": asdict(found)}))
    draft.replace(file)
    return found


async def judge(program: str) -> Verdict:
    """Boot the guest under emulation, then under KVM, and compare.  Takes seconds.

    Raises:
        NotSupported: the guest does not come up under emulation either.
    """
    if missing := kvm_device():
        return Verdict("tcg", missing)
    emulated = await boot_guest(program, "tcg", TCG_DEADLINE)
    if emulated.seconds is None:
        raise NotSupported(what="Running domains", why=f"{program}: {emulated.failure}")
    deadline = max(KVM_DEADLINE, SLOWER * emulated.seconds)
    run = await boot_guest(program, "kvm", deadline, "-cpu", "host")
    if run.seconds is None:
        return Verdict("tcg", f"KVM does not run the probe guest: {run.failure}")
    return Verdict("kvm", f"the probe guest came up under KVM in {run.seconds:.2f} s")


async def boot_guest(program: str, accelerator: str, deadline: float, *more: str) -> Run:
    """Boot the probe guest and wait for its word, at most *deadline* seconds; nothing is left."""
    with tempfile.NamedTemporaryFile(prefix="lodom-probe-") as image:
        image.write(_SECTOR.ljust(510, b"\0") + b"\x55\xaa")
        image.truncate(1 << 20)  # firmware reads no disk of one sector
        image.flush()
        process = await asyncio.create_subprocess_exec(
            program, "-accel", accelerator, *more, "-machine", "q35", "-m", "64", "-nodefaults",
            "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
            "-drive", f"file={image.name},format=raw,if=none,id=disk,read-only=on",
            "-device", "virtio-blk-pci,drive=disk",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            return await _wait(process, deadline)
        finally:
            # process.kill() would reap one that has just ended by itself, behind asyncio's back.
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            await process.wait()


async def _wait(process: asyncio.subprocess.Process, deadline: float) -> Run:
    assert process.stdout
    assert process.stderr
    begin = boot.boottime()
    try:
        async with asyncio.timeout(deadline):
            if _MARK in await process.stdout.readline():
                return Run(boot.boottime() - begin)
            words = (await process.stderr.read()).decode("utf-8", "replace").strip()
    except TimeoutError:
        return Run(None, f"no sign of life in {deadline:.1f} s")
    return Run(None, words.splitlines()[-1] if words else "it ended without a word")
