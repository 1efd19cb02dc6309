"""Back ends of volumes: files and devices by ``host.disks``, others by the hypervisor's tools.

Also the watch on their sizes: a volume that has grown grows for the guest that runs on it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import structlog

from lodom.core.errors import LodomError
from lodom.core.model.domain import Domain, State
from lodom.core.model.inventory import Inventory
from lodom.drivers.qemu import images
from lodom.host import disks, qcow2

_log = structlog.get_logger()
EVERY_S = 5.0
"""How soon a running guest sees that a volume has grown."""
ANSWER_S = 5.0
"""Storage that takes longer to say which file a path is need not."""

Grow = Callable[[str, int, int], Awaitable[bool]]


async def probe(backend: str) -> disks.BackendFacts:
    """The facts of a back end.

    Raises:
        LodomError: it cannot be opened.
    """
    if not disks.is_url(backend):
        return await asyncio.to_thread(disks.probe, backend)
    size = await images.network_size(backend)
    return disks.BackendFacts(path=backend, kind="url", size=size, direct=True)


async def unusable(facts: disks.BackendFacts, *, read_only: bool) -> str:
    """Why a back end cannot be used now; empty if it can."""
    if why := await in_use(facts, read_only=read_only):
        return why
    if not facts.writable and not read_only and facts.kind != "url":
        return "is not writable; export it with options=ro"
    return facts.odd


async def in_use(facts: disks.BackendFacts, *, read_only: bool) -> str:
    """Who has the back end, hypervisors of every machine included; empty: nobody in the way."""
    if why := taken(facts):
        return why
    for image, writes in ((facts, not read_only), *((layer, False) for layer in facts.layers)):
        lock = image.lock
        if lock.written if image is not facts else writes and (lock.written or lock.exclusive):
            users = await asyncio.to_thread(disks.openers, image)
            return _of(facts, image, f"is in use by {', '.join(users) or 'another machine'}")
    return ""


async def same(inventory: Inventory, verb: str, arguments: Mapping[str, Any]) -> frozenset[str]:
    """Exported back ends that are the one which *verb*, an order on a volume, is about.

    Storage that does not answer is told by its path alone.
    """
    if verb not in ("add-vdiskserverdevice", "set-vdiskserverdevice"):
        return frozenset()
    server = inventory.vds.get(str(arguments.get("service")))
    volume = server.volume(str(arguments.get("volume"))) if server else None
    backend = str(arguments.get("backend") or (volume.backend if volume else ""))
    exported = {v.backend for s in inventory.vds.values() for v in s.volumes}
    with suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_S):
            return await asyncio.to_thread(disks.same, backend, exported)
    return frozenset()


def taken(facts: disks.BackendFacts) -> str:
    """Who of this host, hypervisors apart, has the back end or an image below; empty: nobody."""
    for image in (facts, *facts.layers):
        if image.users:
            return _of(facts, image, f"is in use by this host: {', '.join(image.users)}")
    return ""


def _of(top: disks.BackendFacts, image: disks.BackendFacts, words: str) -> str:
    return words if image is top else f"lies on {image.path}, which {words}"


def _raw(inventory: Inventory, domain: Domain) -> Iterator[tuple[int, str]]:
    """Index and path of the disks whose size is that of their back end."""
    for disk in domain.constraints.vdisks:
        server = inventory.vds.get(disk.server)
        volume = server.volume(disk.volume) if server else None
        if volume and not disks.is_url(volume.backend) and not qcow2.is_named(volume.backend):
            yield disk.id, volume.backend


class Sizes:
    """Tells running guests when a raw volume of theirs has grown.

    A volume that has shrunk is left alone: what the guest has there is lost, whoever tells it.
    """

    def __init__(self, inventory: Callable[[], Inventory], grow: Grow) -> None:
        self._inventory = inventory
        self._grow = grow
        self._told: dict[tuple[str, int], tuple[str, int]] = {}

    async def run(self) -> None:
        """Look every ``EVERY_S`` until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Compare once; a domain that moves is looked at when it has arrived."""
        inventory = self._inventory()
        told = {}
        for domain in inventory.sorted_domains():
            if domain.control or domain.state is not State.ACTIVE or domain.migration:
                continue
            for index, backend in _raw(inventory, domain):
                size = await asyncio.to_thread(disks.size, backend)
                key, seen = (domain.uuid, index), (backend, size)
                if self._told.get(key) == seen or await self._try(domain.name, key, seen):
                    told[key] = seen
        self._told = told

    async def _try(self, name: str, key: tuple[str, int], seen: tuple[str, int]) -> bool:
        (uuid, index), (backend, size) = key, seen
        try:
            if await self._grow(uuid, index, size):
                _log.info("a volume has grown", domain=name, backend=backend, size=size)
        except LodomError as error:
            _log.warning("a guest cannot be told a size", domain=name, reason=str(error))
            return False
        return True
