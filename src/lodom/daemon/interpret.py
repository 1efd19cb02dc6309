"""From an effect to the adapter that carries it out; what happens comes back as events."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from lodom.console.server import ConsoleServer
from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.errors import LodomError, StepFailed
from lodom.core.fsm import Effect, Event
from lodom.core.migration.orders import CheckTarget
from lodom.core.model.guest import GuestDisk, GuestNic, GuestSpec
from lodom.core.model.host import Machine, Region
from lodom.daemon import backends
from lodom.daemon.peers import Peers
from lodom.drivers.qemu.driver import QemuDriver
from lodom.host import disks, firewall, net
from lodom.host.pool import Pool

_log = structlog.get_logger()
SCRUB_AGAIN_S = 5.0


class Host:
    """What the driver borrows of the host: pool, taps, bridges."""

    def __init__(self, machine: Machine, pool: Pool) -> None:
        self.machine = machine
        self.pool = pool
        self.bridges: dict[str, str] = {}
        """Switch to bridge, of those that are up."""

    def backing(self, pa: int, size: int) -> tuple[str, int]:
        """File and offset of a memory block."""
        path, offset = self.pool.backing(pa, size)
        return str(path), offset

    async def open_tap(self, nic: GuestNic, uuid: str) -> int:
        """A tap for a network device, on its switch's bridge."""
        bridge = self.bridges.get(nic.switch)
        if bridge is None:
            raise StepFailed(what=f"Attaching {nic.name}", reason=f"switch {nic.switch} is down")
        tap = await net.make_tap(
            self.machine.name, uuid, nic.index, bridge=bridge, mtu=nic.mtu, pvid=nic.pvid,
            vids=nic.vids,
        )  # fmt: skip
        return tap.fd

    async def close_taps(self, uuid: str) -> None:
        """Taps go with the process that holds them."""

    async def make_switch(self, name: str, net_dev: str, mtu: int, mac: str) -> tuple[str, ...]:
        """Have the bridge of a switch; what its administrator should know of it."""
        made = await net.make_switch(
            self.machine.name, name, net_dev=net_dev, mtu=mtu, mac=mac, vlans=self.machine.vlans
        )
        self.bridges[name] = made.bridge
        traps = firewall.traps(await firewall.read()) if net_dev else ()
        return (*made.notes, *(f"{trap.found}; {trap.remedy}" for trap in traps))

    async def remove_switch(self, name: str) -> None:
        """Take the bridge away if it is ours."""
        self.bridges.pop(name, None)
        await net.remove_switch(self.machine.name, name)


class Interpreter:
    """One match over all effects."""

    def __init__(
        self,
        *,
        host: Host,
        driver: QemuDriver,
        consoles: ConsoleServer,
        peers: Peers,
        console_path: Callable[[str], tuple[str, str]],
        kept: Callable[[], tuple[Region, ...]],
        post: Callable[[Event], None],
    ) -> None:
        self._host = host
        self._driver = driver
        self._consoles = consoles
        self._peers = peers
        self._console_path = console_path
        self._kept = kept
        self._post = post

    async def perform(self, effect: Effect) -> None:
        """Carry *effect* out."""
        match effect:
            case do.Scrub(region):
                await self._scrub(region)
            case do.MakeSwitch():
                await self._make_switch(effect)
            case do.RemoveSwitch(request, name):
                await self._host.remove_switch(name)
                self._post(ev.SwitchGone(request, name))
            case do.OpenConsole():
                await self._open_console(effect)
            case do.CloseConsole(uuid):
                await self._consoles.close(uuid)
            case do.CheckBackends():
                await self._check_backends(effect)
            case do.Send(migration, message):
                await self._peers.send(migration, message)
            case CheckTarget():
                await self._peers.check(effect)
            case do.LaunchGuest():
                await self._launch(effect)
            case do.PlugDevice(uuid, device):
                if why := await self._unfit(device):
                    self._post(ev.DeviceRefused(uuid, device.place, why, plug=True))
                else:
                    await self._driver.perform(effect)
            case do.StartCopy():
                secret = self._peers.secret(effect.migration)
                await self._driver.perform(replace(effect, secret=secret))
            case _:
                await self._driver.perform(effect)

    async def _launch(self, effect: do.LaunchGuest) -> None:
        if effect.incoming:
            secret = self._peers.secret(effect.incoming.migration)
            effect = replace(effect, incoming=replace(effect.incoming, secret=secret))
        elif why := await self._taken(effect.spec):
            self._post(ev.GuestLaunchFailed(effect.spec.uuid, effect.home, why))
            return
        await self._driver.perform(effect)
        await self._consoles.attach(effect.spec.uuid)

    async def _scrub(self, region: Region) -> None:
        """A region that cannot be proved zero stays dirty: it is tried again, never given out."""
        while True:
            try:
                await self._host.pool.keep(self._kept())
                await self._host.pool.scrub(region)
                break
            except (LodomError, OSError) as error:
                _log.error("scrub failed", base=hex(region.base), reason=str(error))
                await asyncio.sleep(SCRUB_AGAIN_S)
        self._post(ev.Scrubbed(region))

    async def _make_switch(self, e: do.MakeSwitch) -> None:
        try:
            notes = await self._host.make_switch(e.name, e.net_dev, e.mtu, e.mac)
        except LodomError as error:
            self._post(ev.SwitchFailed(e.request, e.name, str(error), e.old))
        else:
            self._post(ev.SwitchMade(e.request, e.name, notes))

    async def _open_console(self, e: do.OpenConsole) -> None:
        socket_path, log_path = self._console_path(e.uuid)
        try:
            await self._consoles.open(e.uuid, e.name, e.group, e.port, socket_path, log_path)
        except OSError as error:
            self._post(ev.ConsoleFailed(e.uuid, e.port, error.strerror or str(error)))
        else:
            self._post(ev.ConsoleOpened(e.uuid, e.port))

    async def _check_backends(self, e: do.CheckBackends) -> None:
        problems = []
        for volume, backend, read_only in e.backends:
            if why := await _problem(backend, read_only=read_only):
                problems.append((volume, why))
        self._post(ev.BackendsChecked(e.uuid, tuple(problems)))

    async def _unfit(self, device: GuestDisk | GuestNic) -> str:
        """What a bind would say against the device's back end."""
        if isinstance(device, GuestNic):
            return ""
        return await _problem(device.backend, read_only=device.read_only)

    async def _taken(self, spec: GuestSpec) -> str:
        """Why a disk cannot be used any more, since the domain was bound: mounted, for one.

        QEMU's own lock has the last word on other hypervisors, and knows no names.
        """
        for disk in spec.disks:
            if disks.is_url(disk.backend):
                continue
            try:
                facts = await backends.probe(disk.backend)
            except LodomError as error:
                return str(error)
            if why := await backends.in_use(facts, read_only=disk.read_only):
                return f"{disk.backend} {why}"
        return ""


async def _problem(backend: str, *, read_only: bool) -> str:
    """Why a back end cannot be used; empty if it can."""
    try:
        facts = await backends.probe(backend)
    except LodomError as error:
        return str(error)
    why = await backends.unusable(facts, read_only=read_only)
    return f"{backend} {why}" if why else ""
