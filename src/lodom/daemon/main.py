"""``ldmd``: the daemon of one machine.

Start-up order: configuration, journal, identity, pool, hypervisor, the guests that are there,
engine; then the peers' port and, last, the local socket, so that a command never meets a daemon
that does not know its guests yet.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import structlog

from lodom import __version__
from lodom.api.events import Events
from lodom.api.listener import TcpListener
from lodom.api.server import ApiServer, Submit, metrics_app
from lodom.console.server import ConsoleServer
from lodom.core.engine import Engine
from lodom.core.errors import LodomError
from lodom.core.fsm import Event
from lodom.core.lifecycle.claims import strangers
from lodom.core.lifecycle.factory import first_inventory
from lodom.core.lifecycle.reconf import booted
from lodom.core.migration.ownership import may_run
from lodom.core.model.host import Machine, Region
from lodom.core.model.inventory import Inventory, Ownership, changes
from lodom.daemon import config, ids
from lodom.daemon.backends import Sizes
from lodom.daemon.config import Config
from lodom.daemon.doctor.run import doctor
from lodom.daemon.groups import GuestGroups
from lodom.daemon.interpret import Host, Interpreter
from lodom.daemon.load import Loads
from lodom.daemon.log import set_up_log
from lodom.daemon.loop import Loop, Watch
from lodom.daemon.metrics import Metrics
from lodom.daemon.peers import Peers
from lodom.daemon.recorder import Recorder
from lodom.daemon.service import Service
from lodom.drivers.qemu import firmware
from lodom.drivers.qemu.driver import QemuDriver
from lodom.drivers.qemu.settings import Settings
from lodom.grammar.table import role_of
from lodom.host import logs, net, service, topology
from lodom.host.accelerator import Verdict, verdict
from lodom.host.boot import boot_id
from lodom.host.pool import Pool
from lodom.peer.auth import Authenticator, Backend, Pam, Roles, UsersFile
from lodom.peer.client import PeerClient
from lodom.peer.identity import Identity, open_identity
from lodom.peer.server import PeerServer
from lodom.peer.trust import Trust
from lodom.store.sqlite import JournalUnusable, Store

_log = structlog.get_logger()
GUEST_USERS = range(64000, 64512)
"""User ids of hypervisor processes, one a guest; no account of Debian's has them."""


def main() -> int:
    """Run until SIGTERM.  Guests run on.  Exit code 1 when the machine cannot be served."""
    parser = argparse.ArgumentParser(prog="ldmd", description="The Logical Domains Manager daemon")
    parser.add_argument("--config", type=Path, default=config.PATH, help="machine.toml")
    parser.add_argument("--debug", action="store_true", help="log every event and effect")
    parser.add_argument("--doctor", action="store_true", help="show what the host has and lacks")
    parser.add_argument("--json", action="store_true", help="with --doctor: as JSON")
    parser.add_argument("--peer", metavar="HOST", default="", help="with --doctor: this one too")
    parser.add_argument(
        "--reserve-memory", action="store_true", help="make the memory pool ready, early at boot"
    )
    parser.add_argument(
        "--release-memory", action="store_true", help="give the memory pool back to the host"
    )
    parser.add_argument("--version", action="version", version=f"ldmd {__version__}")
    arguments = parser.parse_args()
    if arguments.doctor:
        return _examine(arguments)
    if arguments.json or arguments.peer:
        parser.error("--json and --peer go with --doctor")
    if sys.flags.optimize:
        parser.error("asserts guard the state machines: ldmd does not run under -O")
    set_up_log(debug=arguments.debug)
    work = _serve
    if arguments.reserve_memory or arguments.release_memory:
        work = _reserve if arguments.reserve_memory else _release
    try:
        settings = config.load(arguments.config)
        set_up_log(debug=arguments.debug, form=settings.log.format)
        asyncio.run(work(settings))
    except Exception as fault:
        known = _known(fault)
        if known is None:
            raise
        sys.stderr.write(f"ldmd: {known}\n")
        return 1
    except asyncio.CancelledError:
        pass
    return 0


def _known(fault: Exception) -> Exception | None:
    """What whoever starts ldmd can mend (a port that is taken), also out of a group of tasks."""
    while isinstance(fault, ExceptionGroup):
        fault = fault.exceptions[0]
    return fault if isinstance(fault, JournalUnusable | LodomError | OSError) else None


def _examine(arguments: argparse.Namespace) -> int:
    try:
        peer, as_json = arguments.peer, arguments.json
        return asyncio.run(doctor(arguments.config, as_json=as_json, peer=peer))
    except LodomError as fault:
        sys.stderr.write(f"ldmd: {fault}\n")
        return 2


def _open(settings: Config, stack: AsyncExitStack) -> Store:
    for folder in (settings.host.state_dir, settings.host.run_dir, settings.host.log_dir):
        folder.mkdir(parents=True, exist_ok=True)
    settings.host.state_dir.chmod(0o700)
    store = Store.open(settings.host.state_dir / "journal.db", fresh_instance=ids.new_id())
    stack.callback(store.close)
    return store


async def _reserve(settings: Config) -> None:
    """The pool as ``_assemble`` opens it, while the host's memory is not fragmented yet."""
    async with AsyncExitStack() as stack:
        store = _open(settings, stack)
        machine = settings.machine(store.instance)
        if known := store.load(machine):
            inventory = _booted(store, known)
            await Pool.open(settings.pool(machine, kept_by_primary(inventory)))


async def _release(settings: Config) -> None:
    """The host has its memory back, as after a boot; the kernel refuses what a guest still uses."""
    async with AsyncExitStack() as stack:
        store = _open(settings, stack)  # an ldmd that runs holds it
        await Pool(settings.pool(settings.machine(store.instance), ())).remove()


async def _serve(settings: Config) -> None:
    async with AsyncExitStack() as stack:
        store = _open(settings, stack)
        daemon = await _assemble(settings, store, stack)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        running = asyncio.create_task(daemon.run())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        for task in (running, stopping):
            task.cancel()
        done = await asyncio.gather(running, stopping, return_exceptions=True)
        failures = [d for d in done if isinstance(d, Exception)]
        if failures:
            raise failures[0]


class _Daemon:
    """All parts, assembled; ``run`` brings them to life in order."""

    def __init__(
        self,
        loop: Loop,
        driver: QemuDriver,
        host: Host,
        peers: Peers,
        peer_server: PeerServer,
        api: ApiServer,
        loads: Loads,
        trust: Trust,
        log_dir: Path,
    ) -> None:
        self._log_dir = log_dir
        self._sizes = Sizes(lambda: loop.engine.inventory, driver.grow)
        self._trust = trust
        self._loop, self._driver, self._host = loop, driver, host
        self._peers, self._peer_server, self._api = peers, peer_server, api
        self._loads = loads

    async def run(self) -> None:
        """Serve until cancelled."""
        for vsw in self._loop.engine.inventory.vsw.values():
            try:
                for note in await self._host.make_switch(vsw.name, vsw.net_dev, vsw.mtu, vsw.mac):
                    _log.warning("switch", switch=vsw.name, note=note)
            except LodomError as error:
                _log.error("switch is down", switch=vsw.name, reason=str(error))
        found = {f.uuid: f for f in await self._driver.find()}
        if wrong := strangers(self._loop.engine.inventory, found):
            raise JournalUnusable(
                "the journal is older than what runs here: " + "; ".join(wrong) + ". Nothing was "
                "changed. Bring back the newer journal, or end these processes"
            )
        # A removed switch whose bridge was still there when ldmd was killed.
        inventory = self._loop.engine.inventory
        await net.remove_switches(inventory.machine.name, keep=inventory.vsw.keys())
        # A copy that is complete may have been handed over, by a newer journal than this one.
        heard = await self._heard({u for u, f in found.items() if f.status != "postmigrate"})
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._loop.run(found, heard))
            tasks.create_task(self._loads.run())
            tasks.create_task(logs.bound(self._log_dir))
            await self._loop.recovered.wait()
            tasks.create_task(self._sizes.run())
            await self._peer_server.start()
            await self._api.start()
            _log.info("ready", machine=self._loop.engine.inventory.machine.name)
            service.tell("READY=1")
            try:
                await asyncio.Event().wait()
            finally:
                await self._api.stop()
                await self._peer_server.stop()

    async def _heard(self, running: set[str]) -> dict[str, Ownership]:
        """What other machines know of the domains that are, or may be, set running here."""
        inventory = self._loop.engine.inventory
        idle = [d.uuid for d in inventory.domains.values() if not d.control]
        idle = [uuid for uuid in idle if uuid not in running]
        return await self._peers.epochs(idle, list(self._trust.peers())) if idle else {}


async def _assemble(settings: Config, store: Store, stack: AsyncExitStack) -> _Daemon:
    machine = settings.machine(store.instance, vlans=await net.can_filter_vlans())
    inventory = _booted(store, store.load(machine) or _configure(store, machine))
    pool = await Pool.open(settings.pool(machine, kept_by_primary(inventory)))
    host = Host(machine, pool)
    groups = GuestGroups(machine.name)
    loop: Loop
    accelerator = await verdict(settings.host.state_dir, settings.host.accelerator)
    driver = QemuDriver(
        run_dir=settings.host.run_dir,
        log_dir=settings.host.log_dir,
        backing=host.backing,
        open_tap=host.open_tap,
        close_taps=host.close_taps,
        may_run=lambda uuid, epoch: may_run(store.ownership(), uuid, epoch, store.instance),
        post=lambda event: loop.post(groups.follow(event)),
        settings=_driver_settings(
            settings, inventory, accelerator, lambda: _service_cpus(loop.engine.inventory)
        ),
    )
    stack.push_async_callback(driver.close)
    inventory = replace(inventory, machine=replace(machine, hypervisor=await driver.capabilities()))
    identity = open_identity(settings.host.state_dir, store.instance, machine.name)
    trust = Trust(settings.host.state_dir / "peers.json")
    client = PeerClient(identity, trust, release=__version__)
    stack.push_async_callback(client.close)
    peers = Peers(
        client=client,
        driver=driver,
        inventory=lambda: loop.engine.inventory,
        post=lambda event: loop.post(event),
        default_port=settings.migration.port,
        bridges=host.bridges,
    )
    consoles = ConsoleServer(settings.consoles.listen)
    stack.push_async_callback(consoles.stop)
    interpreter = Interpreter(
        host=host,
        driver=driver,
        consoles=consoles,
        peers=peers,
        console_path=lambda uuid: (
            str(driver.console(uuid)),
            str(settings.host.log_dir / f"{loop.engine.inventory.domains[uuid].name}.console"),
        ),
        kept=lambda: kept_by_primary(loop.engine.inventory),
        post=lambda event: loop.post(event),
    )
    loads = Loads(driver.usage, lambda: list(loop.engine.inventory.domains))
    recorder, metrics, events = _watchers(store, inventory, lambda: loop.engine.inventory, loads)
    stack.callback(recorder.flush)
    watch = _watch(recorder, driver, peers)
    loop = Loop(Engine(inventory), store, interpreter.perform, peers.tidy, watch)
    roles = _roles(settings)
    peers.server = _peer_server(settings, roles, identity, trust, peers)
    orders = Service(loop, peers, identity, trust, loads, recorder)
    api = await _api(settings, stack, roles, orders.submit, metrics, events)
    return _Daemon(
        loop, driver, host, peers, peers.server, api, loads, trust, settings.host.log_dir
    )


def _peer_server(
    settings: Config, roles: Roles, identity: Identity, trust: Trust, peers: Peers
) -> PeerServer:
    """Where other machines ask, not started yet."""
    return PeerServer(
        identity,
        (settings.migration.address, settings.migration.port),
        Authenticator(_backend(settings, roles)),
        peers,
        release=__version__,
        knows_key=trust.knows_key,
        trusts_key=trust.knows_key if settings.auth.certificates else lambda _: False,
    )


async def _api(
    settings: Config,
    stack: AsyncExitStack,
    roles: Roles,
    submit: Submit,
    metrics: Metrics,
    events: Events,
) -> ApiServer:
    """The local API, not started yet; beside it the metrics, where they are asked for by TCP."""
    if settings.metrics.listen:
        scraped = TcpListener(metrics_app(metrics.text), *settings.metrics.listen)
        try:
            await scraped.start()
        except OSError as error:
            why = error.strerror or str(error)
            raise settings.source.fault("metrics.listen", why) from error
        stack.push_async_callback(scraped.stop)
    return ApiServer(settings.socket, roles, role_of, submit, metrics=metrics.text, events=events)


def _watchers(
    store: Store, known: Inventory, inventory: Callable[[], Inventory], loads: Loads
) -> tuple[Recorder, Metrics, Events]:
    """Those who only watch; *known*: what stands in the journal at the start."""
    began = time.time()
    metrics = Metrics(inventory, lambda: loads.percent()[0], lambda: store.sequence, began)
    events = Events(store.sequence, int(began * 1000))
    recorder = Recorder(store, metrics, events)
    recorder.start(known)
    return recorder, metrics, events


def _watch(recorder: Recorder, driver: QemuDriver, peers: Peers) -> Watch:
    """The recorder; and guests keep off the strands that the control domain has given up."""

    def seen(event: Event | None, before: Inventory, after: Inventory) -> None:
        recorder.seen(event, before, after)
        peers.seen(event, after)
        if _service_cpus(before) != _service_cpus(after):
            driver.pin()

    return seen


def _driver_settings(
    settings: Config,
    inventory: Inventory,
    found: Verdict,
    service_cpus: Callable[[], tuple[int, ...]],
) -> Settings:
    return Settings(
        accelerator=found.accelerator,
        accelerator_reason=found.reason,
        tcg_threads=settings.host.tcg_threads,
        listen=settings.migration.stream_address or settings.migration.address or "0.0.0.0",  # noqa: S104 - the pre-shared key guards it
        users=GUEST_USERS if os.geteuid() == 0 else None,
        service_cpus=service_cpus,
        aes=topology.has_aes(),
        firmware=firmware.installed(),
        stores=_stores(settings, inventory),
    )


def _configure(store: Store, machine: Machine) -> Inventory:
    """The first start of this machine: the control domain owns everything."""
    fresh = ids.fresh()
    inventory = first_inventory(machine, fresh["uuids"][0], fresh["macs"][0])
    store.write(changes(Inventory(machine), inventory))
    return inventory


def _booted(store: Store, inventory: Inventory) -> Inventory:
    """What waited for a boot of the machine, done before anything relies on the inventory."""
    after = booted(inventory, boot_id())
    store.write(changes(inventory, after))
    return after


def _stores(settings: Config, inventory: Inventory) -> Path:
    """The folder of UEFI variables, without those of domains that went for good."""
    saved = {d.uuid for config in inventory.configs.values() for d in config.domains}
    moving = {row.uuid for row in inventory.incoming.values()}
    folder = settings.host.state_dir / "uefi"
    firmware.sweep(folder, {*inventory.domains, *saved, *moving})
    return folder


def kept_by_primary(inventory: Inventory) -> tuple[Region, ...]:
    """Ranges of the machine's memory that stay with the control domain."""
    return tuple(Region(b.pa, b.size) for b in inventory.primary.bound.blocks)


def _service_cpus(inventory: Inventory) -> tuple[int, ...]:
    """Host CPUs of the control domain's strands."""
    cpu = {s.pid: s.cpu for s in inventory.machine.strands}
    return tuple(sorted({cpu[v.pid] for v in inventory.primary.bound.vcpus if v.pid in cpu}))


def _roles(settings: Config) -> Roles:
    auth = settings.auth
    return Roles(
        read_users=frozenset(auth.read.users),
        read_groups=frozenset(auth.read.groups),
        write_users=frozenset(auth.write.users),
        write_groups=frozenset(auth.write.groups),
    )


def _backend(settings: Config, roles: Roles) -> Backend:
    return UsersFile(settings.auth.users) if settings.auth.backend == "file" else Pam(roles)


if __name__ == "__main__":
    sys.exit(main())
