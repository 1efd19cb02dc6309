"""Copies of a running guest, QEMU to QEMU: both ends.

Which migration a QEMU is busy with is written in QEMU itself: the id of the TLS credentials that
it was told to use.  So the answer survives a restart of ldmd.
Source: QMP reference, ``migrate`` and its capabilities; HANDOVER, "The ordinary way".
"""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

from lodom.core import events as ev
from lodom.core.effects import Incoming, StartCopy
from lodom.core.errors import StepFailed
from lodom.drivers.qemu import crypto, instep, translate
from lodom.drivers.qemu.guest import Guest
from lodom.drivers.qemu.qmp import NoAnswer, Refused

_PROGRESS_S = 0.2
_FAREWELL_S = 3.0
"""How long QEMU may take to end a copy in an orderly way."""
_BUSY_S = 1.0
"""Its connections are not shut before: see ``held``, which way QEMU can be made to hang."""
_GREETING_S = 5.0
"""How long a guest may stand still because its target does not answer the greeting."""
_SETTLE_S = 5.0
_MAX_BANDWIDTH = 1 << 37
_USERNAME = "lodom"
_KEY_FILE = "keys.psk"

# Target only waits and source pauses before the last bytes; both want all the rest.
_BOTH = ("return-path", "events", "multifd", "late-block-activate")
_SOURCE = ("pause-before-switchover", "auto-converge")

# A TLS-PSK session would choose ChaCha20, 15 times slower than AES with AES instructions.
_AES_FIRST = "NORMAL:-CHACHA20-POLY1305"


def credentials_id(migration: str) -> str:
    """The id of the credentials object of *migration*."""
    return f"psk-{migration}"


async def current(guest: Guest) -> str:
    """The migration that the process was last told of, empty if none.

    Raises:
        Refused, NoAnswer: QEMU did not say.
    """
    name = (await guest.execute("query-migrate-parameters")).get("tls-creds", "")
    return str(name).removeprefix("psk-") if str(name).startswith("psk-") else ""


# -- keys ---------------------------------------------------------------------------------------


def _key_path(guest: Guest) -> Path:
    return guest.folder / "keys" / _KEY_FILE


def forget_key(guest: Guest) -> None:
    """Remove the key file, if it is there."""
    _key_path(guest).unlink(missing_ok=True)


@contextmanager
def _key_file(guest: Guest, secret: str) -> Iterator[str]:
    """The folder of the key as the process can name it; removed again if the body fails.

    The process got a descriptor of the folder at its start: its user may not walk there.
    """
    number = guest.process.descriptor_of(guest.folder / "keys")
    if number is None:
        raise StepFailed(what="Handing over the key", reason="the process has no key folder")
    forget_key(guest)
    path = _key_path(guest)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        user = guest.process.user()
        os.fchown(fd, user, user)
        os.write(fd, f"{_USERNAME}:{secret}\n".encode())
        os.close(fd)
        yield f"/proc/self/fd/{number}"
    except BaseException:
        forget_key(guest)
        raise


async def _load_credentials(guest: Guest, migration: str, folder: str, endpoint: str) -> None:
    order = {"qom-type": "tls-creds-psk", "id": credentials_id(migration), "dir": folder,
             "endpoint": endpoint}  # fmt: skip
    if endpoint == "client":
        order["username"] = _USERNAME
    if guest.settings.aes:
        order["priority"] = _AES_FIRST
    await _drop_credentials(guest, migration)
    await guest.execute("object-add", order)


async def _drop_credentials(guest: Guest, migration: str) -> None:
    with suppress(Refused):  # there are none
        await guest.execute("object-del", {"id": credentials_id(migration)})


async def _configure(guest: Guest, migration: str, streams: int, *, source: bool) -> None:
    names = (*_BOTH, *_SOURCE) if source else _BOTH
    capabilities = [{"capability": name, "state": True} for name in names]
    await guest.execute("migrate-set-capabilities", {"capabilities": capabilities})
    parameters: dict[str, Any] = {
        "multifd-channels": streams,
        "tls-creds": credentials_id(migration),
    }
    if source:
        parameters |= {
            "downtime-limit": translate.pause_ms(0),
            "max-bandwidth": _MAX_BANDWIDTH,
            "max-cpu-throttle": 99,
        }
        if await _version(guest) >= (9, 0):
            # The other way, default of machine types from 9.0 on, leaves old bytes in pages that
            # are zero here.  Blocks are scrubbed all the same; this is the second lock.
            parameters["zero-page-detection"] = "legacy"
    await guest.execute("migrate-set-parameters", parameters)


async def _version(guest: Guest) -> tuple[int, int]:
    version = (await guest.execute("query-version"))["qemu"]
    return version["major"], version["minor"]


def _channels(host: str, port: int, last: int = 0) -> dict[str, Any]:
    """The one channel that both sides name; *last*: the end of a range to listen in."""
    address: dict[str, Any] = {
        "transport": "socket",
        "type": "inet",
        "host": host,
        "port": str(port),
    }
    if last:
        address["to"] = last
    return {"channels": [{"channel-type": "main", "addr": address}]}


# -- target -------------------------------------------------------------------------------------


async def listen(guest: Guest, incoming: Incoming) -> int:
    """Make the process take the copy of *incoming*; the port that it listens on.

    The server reads the key file at each handshake, so it stays until all streams are there.

    Raises:
        StepFailed: no key, or no port.
        Refused, NoAnswer: QEMU said no, or nothing.
    """
    if not incoming.secret:
        raise StepFailed(what="Listening for the copy", reason="no key was given")
    with _key_file(guest, incoming.secret) as folder:
        await _load_credentials(guest, incoming.migration, folder, "server")
        await _configure(guest, incoming.migration, incoming.streams, source=False)
        order = _channels(incoming.address or guest.settings.listen, *guest.settings.ports)
        if await _version(guest) >= (9, 1):
            order["exit-on-error"] = False
        await guest.execute("migrate-incoming", order)
        return await port(guest)


async def port(guest: Guest) -> int:
    """The port that the process listens on for a copy.

    Raises:
        StepFailed: it does not listen.
        Refused, NoAnswer: QEMU said no, or nothing.
    """
    found = _listening(await guest.execute("query-migrate"))
    if not found:
        raise StepFailed(what="Listening for the copy", reason="no port was opened")
    return found


def _listening(answer: Mapping[str, Any]) -> int:
    """The port in the answer of ``query-migrate``, 0 if there is none."""
    addresses = answer.get("socket-address", [])
    return int(addresses[0]["port"]) if addresses else 0


async def await_incoming(guest: Guest, migration: str) -> None:
    """Tell how the incoming copy ends; meanwhile ``CopyProgressed`` whenever bytes came in."""
    received = 0
    while not guest.process.gone:
        try:
            answer = await guest.execute("query-migrate")
            status = answer.get("status", "none")
            state = await guest.run_state()
        except (Refused, NoAnswer):
            await guest.stirred(1.0)
            continue
        if status not in ("none", "setup"):
            forget_key(guest)
        now = guest.held.take(guest.process, _listening(answer))
        if now > received:
            received = now
            guest.post(ev.CopyProgressed(guest.uuid, migration, {"transferred": now}))
        if status == "failed":
            reason = str(answer.get("error-desc", "the stream broke"))
            guest.post(ev.IncomingFailed(guest.uuid, migration, reason))
            return
        # The run state follows the status a moment later.
        if status == "completed" and state != "inmigrate":
            guest.held.release()
            if state == "paused":
                guest.post(ev.IncomingLoaded(guest.uuid, migration))
            else:
                reason = f"the guest is not paused after loading: {state}"
                guest.post(ev.IncomingFailed(guest.uuid, migration, reason))
            return
        await guest.stirred(_PROGRESS_S)


# -- source -------------------------------------------------------------------------------------


async def send(guest: Guest, order: StartCopy) -> None:
    """Begin the copy of *order* and tell how it goes and ends."""
    try:
        await _start(guest, order)
    except (StepFailed, Refused, NoAnswer, OSError) as e:
        guest.post(ev.CopyFailed(guest.uuid, order.migration, str(e)))
    else:
        await follow(guest, order.migration, begins=True)


async def _start(guest: Guest, order: StartCopy) -> None:
    """Begin the copy of *order*; a copy of the same migration already begun goes on.

    Raises:
        StepFailed: no key, or a crypto device stays.
        Refused, NoAnswer: QEMU said no, or nothing.
    """
    status = (await guest.execute("query-migrate")).get("status", "none")
    if await current(guest) == order.migration and status != "none":
        return
    if not order.secret:
        raise StepFailed(what="Starting the copy", reason="no key was given")
    try:
        with _key_file(guest, order.secret) as folder:
            await _load_credentials(guest, order.migration, folder, "client")
    finally:
        forget_key(guest)
    await crypto.unplug(guest)
    await _configure(guest, order.migration, order.streams, source=True)
    await guest.execute("migrate", _channels(order.host, order.port))


async def follow(guest: Guest, migration: str, *, begins: bool = False) -> None:
    """Tell how the copy goes and ends.  ``completed`` counts only with the state postmigrate.

    While it *begins*, QEMU 10 waits for the target's TLS in its main loop, and the guest with it
    (seen): that is not borne for long.
    """
    sent, paused, pause = -1, False, translate.pause_ms(0) if begins else -1
    while True:
        greets = begins and sent <= 0
        try:
            answer = await guest.execute("query-migrate", deadline=_GREETING_S if greets else None)
        except (Refused, NoAnswer):
            if greets:
                reason = f"the target's process did not answer within {_GREETING_S:.0f} s"
                guest.post(ev.CopyFailed(guest.uuid, migration, reason))
                return
            await guest.stirred(1.0)
            continue
        status, numbers = answer.get("status", "none"), translate.numbers(answer)
        if numbers["transferred"] > sent:
            sent = numbers["transferred"]
            guest.post(ev.CopyProgressed(guest.uuid, migration, numbers))
        if status == "active" and pause != (allowed := translate.pause_ms(numbers["round"])):
            with suppress(Refused, NoAnswer):  # then it is tried again
                await guest.execute("migrate-set-parameters", {"downtime-limit": allowed})
                pause = allowed
        if status == "pre-switchover" and not paused:
            paused = True
            guest.post(ev.CopyPaused(guest.uuid, migration))
        if status in translate.ENDED:
            break
        await guest.stirred(_PROGRESS_S)
    if status == "completed" and await _settled(guest) == "postmigrate":
        guest.post(ev.CopyCompleted(guest.uuid, migration, numbers))
        return
    reason = str(answer.get("error-desc", f"the copy ended as {status}"))
    guest.post(ev.CopyFailed(guest.uuid, migration, reason))


async def _settled(guest: Guest) -> str:
    """The run state once the end of the copy has reached it."""
    limit = asyncio.get_running_loop().time() + _SETTLE_S
    while True:
        try:
            state = await guest.run_state()
        except (Refused, NoAnswer):
            state = ""
        if state == "postmigrate" or asyncio.get_running_loop().time() > limit:
            return state
        await guest.stirred(0.05)


async def finish(guest: Guest, migration: str) -> None:
    """From pre-switchover: let the last bytes go.  A refusal shows in ``follow``."""
    if await current(guest) != migration:
        raise StepFailed(what="Finishing the copy", reason="the process knows another migration")
    with suppress(Refused):
        await guest.execute("migrate-continue", {"state": "pre-switchover"})


async def cancel(
    guest: Guest, migration: str, port: int, sending: asyncio.Task[None] | None
) -> None:
    """Give the copy up, however long that takes; ``CopyCancelled`` when none is under way.

    *sending* is ended first, so that no order of its comes after ours.  QEMU 10 waits for a target
    that is silent as long as TCP does: for minutes, or, when it is its turn to speak, for ever
    (seen), with calls that are not taken and TLS that does not begin where its own ``yank`` does
    not reach.  So its connections to *port* are shut, again and again: it may open others.
    """
    if sending is not None:
        sending.cancel()
        await asyncio.wait({sending})
    while not guest.process.gone:
        try:
            await _call_off(guest, port)
            if not await _ended(guest, port, within=_FAREWELL_S):
                continue
            await _drop_credentials(guest, migration)
        except NoAnswer:
            guest.process.shut_connections(port)  # its main loop itself may wait there
            continue
        except Refused:
            await guest.stirred(1.0)
            continue
        guest.post(ev.CopyCancelled(guest.uuid, migration))
        return


async def _call_off(guest: Guest, port: int) -> None:
    """Give the order; a QEMU that may die of it gets it with the threads of the copy in step.

    Raises:
        Refused, NoAnswer: QEMU said no, or nothing.
    """

    async def order() -> None:
        await guest.execute("migrate_cancel", deadline=_FAREWELL_S)

    leader = instep.leader(guest.process)
    if not leader or not (10, 0) <= await _version(guest) < (10, 2):
        await order()
        return
    async with AsyncExitStack() as main_loop:
        async with instep.halted(leader):
            await order()
            await main_loop.enter_async_context(instep.halted(guest.process.pid))
        if not await instep.at_rest(guest.process, _BUSY_S):
            guest.process.shut_connections(port)
            await instep.at_rest(guest.process, _BUSY_S)


async def _ended(guest: Guest, port: int, within: float) -> bool:
    """Whether no copy is under way and the guest is held by none, *within* seconds at the latest.

    Nor may a thread of it be left, which shows as something to yank.  A stream that breaks while
    the copy waits in pre-switchover makes its status ``failed``, and QEMU 10 waits on to be
    continued, its guest stopped and ``cont`` refused: that word it gets.

    Raises:
        Refused, NoAnswer: QEMU did not say.
    """
    began = monotonic()
    while True:
        status = (await guest.execute("query-migrate")).get("status", "none")
        if monotonic() > began + _BUSY_S:  # who still waits, waits for one of them
            guest.process.shut_connections(port)
        if status in translate.ENDED:
            if await guest.run_state() == "finish-migrate":
                with suppress(Refused):  # the status has changed meanwhile
                    await guest.execute("migrate-continue", {"state": status})
            elif not any(i["type"] == "migration" for i in await guest.execute("query-yank")):
                return True
        if monotonic() > began + within:
            return False
        await guest.stirred(_PROGRESS_S)
