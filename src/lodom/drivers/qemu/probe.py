"""What this machine's QEMU can run: asked of a process without a guest."""

import asyncio
import hashlib
import re
import tempfile
from pathlib import Path
from typing import Any, Final

from lodom.core.errors import StepFailed
from lodom.core.model.host import Hypervisor
from lodom.drivers.qemu import qmp
from lodom.drivers.qemu.process import Process, spawn
from lodom.drivers.qemu.settings import Settings

_MODELS: Final = ("EPYC-v1", "Haswell-v4", "Westmere-v1", "Nehalem-v1", "qemu64-v1")
"""CPU models to choose from, best first; the first that the accelerator has in full is taken."""

_DEFAULT_TYPE: Final = "pc-q35-8.2"
_VERSIONED: Final = re.compile(r"pc-q35-(\d+)\.(\d+)$")
_BIOS: Final = "bios-256k.bin"
_POLL_S = 0.02


async def capabilities(settings: Settings) -> Hypervisor:
    """Version, versioned machine types, CPU model with its features, firmware digests.

    Raises:
        StepFailed: the emulator cannot be started or does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="lodom-probe-") as name:
        folder = Path(name)
        path, log = folder / "qmp.sock", folder / "log"
        accel = "tcg" if settings.accelerator == "tcg" else settings.accelerator
        command = [settings.emulator, "-machine", "q35", "-accel", accel, "-S", "-nodefaults"]
        command += ["-no-user-config", "-display", "none", "-m", "16"]
        command += ["-qmp", f"unix:{path},server=on,wait=off"]
        try:
            process = spawn(command, log=log, pass_fds=())
        except OSError as e:
            raise StepFailed(what=f"Running {settings.emulator}", reason=str(e)) from e
        try:
            return await _ask(process, path, settings)
        except (OSError, TimeoutError, qmp.NoAnswer, qmp.Refused) as e:
            words = log.read_text(errors="replace").strip() or str(e)
            raise StepFailed(what="Asking the hypervisor what it can do", reason=words) from e
        finally:
            process.kill()
            await process.wait_gone()


async def _ask(process: Process, path: Path, settings: Settings) -> Hypervisor:
    async with asyncio.timeout(settings.launch_s):
        while True:
            try:
                sock, _ = qmp.reach(path)
                break
            except OSError:
                if await process.wait_gone(_POLL_S):
                    raise
        session = await qmp.Session.open(sock, answer_s=settings.launch_s)
        try:
            version = (await session.execute("query-version"))["qemu"]
            types = versioned(await session.execute("query-machines"))
            model = choose_model(await session.execute("query-cpu-definitions"))
            order = {"type": "full", "model": {"name": model}}
            expanded = await session.execute("query-cpu-model-expansion", order)
        finally:
            await session.close()
    default = _DEFAULT_TYPE if _DEFAULT_TYPE in types else types[-1]
    return Hypervisor(
        version=f"{version['major']}.{version['minor']}.{version['micro']}",
        accelerator=settings.accelerator,
        accelerator_reason=settings.accelerator_reason,
        machine_types=types,
        default_machine_type=default,
        cpu_model=model,
        cpu_features=features(expanded["model"]["props"]),
        firmware=await _firmware(settings),
    )


def versioned(machines: list[dict[str, Any]]) -> tuple[str, ...]:
    """The versioned q35 machine types that are not deprecated, oldest first."""
    found = [
        (int(m[1]), int(m[2]), machine["name"])
        for machine in machines
        if (m := _VERSIONED.match(machine["name"])) and not machine.get("deprecated")
    ]
    return tuple(name for _, _, name in sorted(found))


def choose_model(definitions: list[dict[str, Any]]) -> str:
    """The best CPU model that the accelerator provides without a gap."""
    full = {d["name"] for d in definitions if d.get("unavailable-features") == []}
    return next((model for model in _MODELS if model in full), _MODELS[-1])


def features(props: dict[str, Any]) -> tuple[str, ...]:
    """The names of all boolean properties that are on, sorted; old spellings are left out."""
    return tuple(sorted(k for k, v in props.items() if v is True and "_" not in k))


async def _firmware(settings: Settings) -> dict[str, str]:
    """Firmware name to digest; ``bios`` is the one in QEMU's own folders unless configured."""
    files = {name: Path(path) for name, path in settings.firmware.items()}
    if "bios" not in files:
        process = await asyncio.create_subprocess_exec(
            settings.emulator, "-L", "help", stdout=asyncio.subprocess.PIPE
        )
        folders = (await process.communicate())[0].decode().split()
        places = [Path(folder) / _BIOS for folder in folders]
        files["bios"] = next((path for path in places if path.is_file()), Path(_BIOS))
    return {name: _digest(path) for name, path in sorted(files.items()) if path.is_file()}


def _digest(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
