"""Looking at the host for the rules: back ends, boot files, what the guest says of itself."""

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lodom.core.errors import LodomError
from lodom.core.model.domain import Domain, State
from lodom.core.model.inventory import Inventory
from lodom.core.rules.case import AgentFacts, BackendFacts, DomainFacts, FileFacts
from lodom.drivers.qemu.driver import QemuDriver
from lodom.host import disks

BOOT_FILES = (("kernel", "boot-kernel"), ("initrd", "boot-initrd"))


async def backends(inventory: Inventory, domain: Domain) -> dict[str, BackendFacts]:
    """The back ends of the domain's disks as this machine sees them, by ``volume@service``."""
    wanted = {f"{d.volume}@{d.server}": (d.server, d.volume) for d in domain.constraints.vdisks}
    return await _probed(inventory, wanted)


async def exported(
    inventory: Inventory, facts: DomainFacts, same: Iterable[str]
) -> dict[str, BackendFacts]:
    """The volumes of this machine that *facts* names, by ``volume@service``.

    *same*: those whose lock handshake proved that they are the source's storage.
    """
    wanted = {f"{d.volume}@{d.service}": (d.service, d.volume) for d in facts.disks}
    found = await _probed(inventory, wanted)
    return {name: replace(b, handshake=name in same) for name, b in found.items()}


def files(inventory: Inventory, uuid: str) -> dict[str, str]:
    """Back ends of the domain's disks that are paths of this host, by ``volume@service``."""
    disks_of = inventory.domains[uuid].constraints.vdisks
    return paths(inventory, [f"{d.volume}@{d.server}" for d in disks_of])


def paths(inventory: Inventory, volumes: Iterable[str]) -> dict[str, str]:
    """The back ends of volumes, given as ``volume@service``; those that are no path left out."""
    found = {}
    for name in volumes:
        volume, _, service = name.partition("@")
        server = inventory.vds.get(service)
        row = server.volume(volume) if server else None
        if row and row.backend.startswith("/"):
            found[name] = row.backend
    return found


async def _probed(
    inventory: Inventory, wanted: dict[str, tuple[str, str]]
) -> dict[str, BackendFacts]:
    found = {}
    for name, (service, volume) in wanted.items():
        server = inventory.vds.get(service)
        row = server.volume(volume) if server else None
        if row:
            found[name] = await asyncio.to_thread(_backend, row.backend)
    return found


def _backend(path: str) -> BackendFacts:
    try:
        seen = disks.probe(path)
    except LodomError as error:
        return BackendFacts(problem=str(error))
    return BackendFacts(
        kind=seen.kind,
        size=seen.size,
        ids=seen.ids,
        file_system=seen.filesystem,
        direct=seen.direct,
    )


async def boot_files(domain: Domain) -> tuple[FileFacts, ...]:
    """Kernel and initrd that the domain boots from directly, with their digests."""
    paths = [(what, domain.constraints.variable(name)) for what, name in BOOT_FILES]
    return await digests((what, path) for what, path in paths if path)


async def same_files(facts: DomainFacts) -> tuple[FileFacts, ...]:
    """The files of the same paths on this machine."""
    return await digests((f.what, f.path) for f in facts.files)


async def digests(files: Iterable[tuple[str, str]]) -> tuple[FileFacts, ...]:
    """(what, path) pairs with the SHA-256 of each file; empty where there is none."""
    return tuple(
        [FileFacts(what, path, await asyncio.to_thread(_digest, path)) for what, path in files]
    )


def _digest(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


async def agent(driver: QemuDriver, domain: Domain) -> AgentFacts:
    """What the guest says about giving up all its CPUs but the first."""
    if domain.state is not State.ACTIVE or not domain.agent:
        return AgentFacts()
    going = frozenset(v.vid for v in domain.bound.vcpus[1:])
    blockers = await driver.removal_blockers(domain.uuid, going) if going else ()
    if blockers is None:
        return AgentFacts(answers=True, cpu_dr=True)
    sets = tuple(words for _, words in blockers if "processor set" in words)
    bound = tuple(
        (vid, 2 if words.endswith("threads") else 1)
        for vid, words in blockers
        if "processor set" not in words
    )
    return AgentFacts(True, True, True, bound, sets)
