"""Crypto devices: taken out before a copy, put back when the guest runs.

QEMU refuses to migrate a machine with one ("State blocked by non-migratable device").  The root
ports stay, on both sides, and say how many devices the guest is to have.
"""

import asyncio
import re
from contextlib import suppress
from typing import Final

import structlog

from lodom.core.errors import StepFailed
from lodom.drivers.qemu import argv
from lodom.drivers.qemu.guest import Guest
from lodom.drivers.qemu.qmp import NoAnswer, Refused

_log = structlog.get_logger()
_UNPLUG_S = 15.0
_PAUSE_S = 0.5
_PORT: Final = re.compile(r"crypto-port(\d+)$")
_DEVICE: Final = re.compile(r"crypto(\d+)-dev$")


async def _present(guest: Guest, pattern: re.Pattern[str]) -> set[int]:
    """The indexes of the devices whose ids match *pattern*."""
    listed = await guest.execute("qom-list", {"path": "/machine/peripheral"})
    return {int(m[1]) for entry in listed if (m := pattern.match(entry["name"]))}


async def unplug(guest: Guest) -> None:
    """Take all crypto devices out; the guest's system has to let go of each.

    Raises:
        StepFailed: it did not in time; those that are out stay out until ``plug``.
        Refused, NoAnswer: QEMU said no, or nothing.
    """
    for index in sorted(await _present(guest, _DEVICE)):
        await guest.execute("device_del", {"id": f"crypto{index}-dev"})
    try:
        async with asyncio.timeout(_UNPLUG_S):
            while await _present(guest, _DEVICE):
                await guest.stirred(_PAUSE_S)
    except TimeoutError:
        reason = "the guest does not let go of them"
        raise StepFailed(what="Unplugging the cryptographic units", reason=reason) from None


async def plug(guest: Guest) -> None:
    """Put a device into each empty crypto port.  What cannot be done is logged: the guest runs."""
    try:
        missing = await _present(guest, _PORT) - await _present(guest, _DEVICE)
        for index in sorted(missing):
            with suppress(Refused):  # left over from the device before
                await guest.execute("object-add", argv.crypto_backend(index))
            await guest.execute("device_add", argv.crypto_device(index))
    except (Refused, NoAnswer) as e:
        _log.warning("crypto units not plugged", uuid=guest.uuid, reason=str(e))
