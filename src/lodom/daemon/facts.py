"""Looking at the host for the rules: back ends, boot files, networks, what the guest says."""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lodom.core.errors import LodomError
from lodom.core.model.domain import Domain, State
from lodom.core.model.inventory import Inventory
from lodom.core.rules.case import AgentFacts, BackendFacts, DomainFacts, FileFacts, NetworkFacts
from lodom.daemon.backends import probe, taken
from lodom.drivers.qemu.driver import QemuDriver
from lodom.host import disks, lan, qcow2

BOOT_FILES = (("kernel", "boot-kernel"), ("initrd", "boot-initrd"))


async def backends(inventory: Inventory, domain: Domain) -> dict[str, BackendFacts]:
    """The back ends of the domain's disks as this machine sees them, by ``volume@service``."""
    wanted = {f"{d.volume}@{d.server}": (d.server, d.volume) for d in domain.constraints.vdisks}
    found = await _probed(inventory, wanted)
    if domain.state is not State.ACTIVE or domain.runtime is None:
        return found
    for name, (service, volume) in wanted.items():
        row = inventory.vds[service].volume(volume) if name in found else None
        if row is None or disks.is_url(row.backend):
            continue
        if await asyncio.to_thread(disks.has_open, domain.runtime.pid, row.backend) is False:
            why = f"LDom {domain.name} has another file open, which {row.backend} replaced"
            found[name] = replace(found[name], replaced=why)
    return found


async def exported(
    inventory: Inventory, facts: DomainFacts, same: Iterable[str]
) -> dict[str, BackendFacts]:
    """The volumes of this machine that *facts* names, by ``volume@service``.

    *same*: those whose lock handshake proved that they are the source's storage.
    """
    found = await volumes(inventory, (f"{d.volume}@{d.service}" for d in facts.disks))
    proved = set(same)
    return {name: shaken(name, b, proved) for name, b in found.items()}


async def volumes(inventory: Inventory, names: Iterable[str]) -> dict[str, BackendFacts]:
    """The volumes of this machine that *names*, as ``volume@service``, has."""
    split = {name: name.partition("@") for name in names}
    wanted = {name: (service, volume) for name, (volume, _, service) in split.items()}
    return await _probed(inventory, wanted)


def shaken(name: str, seen: BackendFacts, same: set[str]) -> BackendFacts:
    """*seen* with the handshakes of its images."""
    layers = (
        replace(layer, handshake=_layer(name, n) in same) for n, layer in enumerate(seen.layers, 1)
    )
    return replace(seen, handshake=name in same, layers=tuple(layers))


def _layer(name: str, number: int) -> str:
    """What two machines call an image below a volume; no name of theirs has a slash."""
    return f"{name}/{number}" if number else name


async def files(inventory: Inventory, uuid: str) -> dict[str, str]:
    """Files and devices behind the domain's disks, by ``volume@service`` and number of image."""
    disks_of = inventory.domains[uuid].constraints.vdisks
    return await paths(inventory, [f"{d.volume}@{d.server}" for d in disks_of])


async def paths(inventory: Inventory, names: Iterable[str]) -> dict[str, str]:
    """Files and devices behind volumes, each with all images below, by their names.

    *names* is what ``files`` named on another machine; what is no file here is left out.
    """
    found = {}
    for whole in {name.partition("/")[0] for name in names}:
        volume, _, service = whole.partition("@")
        server = inventory.vds.get(service)
        row = server.volume(volume) if server else None
        if row and not disks.is_url(row.backend):
            with suppress(LodomError):
                chain = await asyncio.to_thread(qcow2.chain, row.backend)
                found.update({_layer(whole, n): path for n, (path, _) in enumerate(chain)})
    return found


async def _probed(
    inventory: Inventory, wanted: dict[str, tuple[str, str]]
) -> dict[str, BackendFacts]:
    found = {}
    for name, (service, volume) in wanted.items():
        server = inventory.vds.get(service)
        row = server.volume(volume) if server else None
        if row:
            found[name] = await _backend(row.backend)
    return found


async def _backend(path: str) -> BackendFacts:
    try:
        seen = await probe(path)
    except LodomError as error:
        return BackendFacts(problem=str(error))
    if why := taken(seen):
        return BackendFacts(problem=f"{path} {why}")
    return _fact(seen)


def _fact(seen: disks.BackendFacts) -> BackendFacts:
    return BackendFacts(
        kind=seen.kind,
        size=seen.size,
        ids=seen.ids,
        file_system=seen.filesystem or seen.volume,
        direct=seen.direct,
        layers=tuple(_fact(layer) for layer in seen.layers),
    )


async def networks(bridges: Mapping[str, str], facts: DomainFacts) -> dict[str, NetworkFacts]:
    """What this host knows of the networks of the domain's switches; what it cannot say is missing.

    *bridges* are this machine's, by switch.
    """
    wanted = {nic.switch: bridges[nic.switch] for nic in facts.nics if nic.switch in bridges}
    with suppress(LodomError):
        return await lan.networks(wanted)
    return {}


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
    sets = tuple(words.rpartition(" ")[2] for _, words in blockers if "processor set" in words)
    bound = tuple(
        (vid, 2 if words.endswith("threads") else 1)
        for vid, words in blockers
        if "processor set" not in words
    )
    return AgentFacts(True, True, True, bound, sets)
