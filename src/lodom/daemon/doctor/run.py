"""The command ``ldmd --doctor [--json] [--peer HOST]``."""

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from lodom.client.http import Refused, Unreachable, call
from lodom.core.errors import LodomError
from lodom.daemon import config
from lodom.daemon.config import Config
from lodom.daemon.doctor import decide, form, local
from lodom.daemon.doctor.form import Check
from lodom.daemon.doctor.peer import PeerFacts
from lodom.peer.identity import fingerprint
from lodom.peer.trust import address, read_certificate


async def doctor(path: Path, *, as_json: bool, peer: str) -> int:
    """Show what this host, and *peer* if given, has and lacks; an exit code of ``form.EXITS``.

    Raises:
        LodomError: machine.toml or the name of the peer cannot be used.
    """
    settings = config.load(path)
    settings.machine("doctor")  # a fault of machine.toml is told before the checks
    address(peer, settings.migration.port)
    checks = await local.examine(settings)
    if peer:
        checks += await _peer(settings, peer)
    machine = settings.name
    said = form.document(checks, machine=machine, peer=peer) if as_json else form.text(checks)
    try:
        print(said, flush=True)
    except BrokenPipeError:  # the reader has seen enough; Python would complain again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return form.exit_code(checks)


async def _peer(settings: Config, peer: str) -> list[Check]:
    """By the ldmd of this host, which the other one may know; without it, a connection only."""
    own = settings.migration.port
    host, port = address(peer, own)
    found, why = None, ""
    try:
        asked = {"host": peer}
        answer = await asyncio.to_thread(call, "examine-peer", asked, path=str(settings.socket))
        found = msgspec.convert(answer, PeerFacts)
    except (Unreachable, Refused) as error:
        why = str(error)
    return decide.peer(found or await _connection(host, port, why), port, own)


async def _connection(host: str, port: int, why: str) -> PeerFacts:
    try:
        shown = fingerprint(await read_certificate(host, port))
    except LodomError as error:
        return PeerFacts(host, reach=str(error))
    remedy = "start ldmd here as root, and ask again"
    return PeerFacts(
        host, fingerprint=shown, unasked=f"no ldmd answers here ({why})", remedy=remedy
    )
