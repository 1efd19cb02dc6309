"""Two sides of a live test: a driver each, with a pool, a run folder and a queue of its events."""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.fsm import Event
from lodom.core.model.domain import Block, Platform
from lodom.core.model.guest import GuestNic, GuestSpec
from lodom.drivers.qemu import firmware
from lodom.drivers.qemu.driver import QemuDriver
from lodom.drivers.qemu.settings import Settings

MIB = 1 << 20
POOL = 512 * MIB
UUID = "6d1b0c1e-8a45-4a5f-9a2b-0c6f3f6c7d01"
LIMIT_S = 90.0
E_ = TypeVar("E_", bound=Event)

SPEC = GuestSpec(
    uuid=UUID,
    name="ldg1",
    platform=Platform("pc-q35-8.2", "Westmere-v1", 4),
    boot_vcpus=2,
    plugged=(0, 1),
    strands=((0, (0,)), (1, (1,))),
    blocks=(Block(0x8000000, 16 * MIB, 128 * MIB), Block(0x18000000, 160 * MIB, 64 * MIB)),
)
"""No operating system: SeaBIOS finds nothing to boot and idles."""


class Side:
    """One machine's driver; ``owner`` is what its journal says of the domain."""

    def __init__(self, folder: Path, users: range) -> None:
        folder.mkdir()
        self.folder, self.pool = folder, folder / "pool"
        self.pool.touch(mode=0o600)
        os.truncate(self.pool, POOL)
        self.owner = True
        self.tcg_threads = "auto"
        self.queue: asyncio.Queue[Event] = asyncio.Queue()
        self.seen: list[Event] = []
        self.users = users
        self.taps: Callable[[GuestNic, str], Awaitable[int]] = self._no_tap
        self.driver = self.new_driver()

    async def _no_tap(self, nic: GuestNic, uuid: str) -> int:
        raise OSError(f"no tap for {nic.name} of {uuid}")

    async def _close_taps(self, uuid: str) -> None:
        """Taps of the tests go with their last descriptor."""

    def new_driver(self, answer_s: float = 15.0, agent_s: float = 30.0) -> QemuDriver:
        return QemuDriver(
            run_dir=self.folder / "run",
            log_dir=self.folder / "log",
            backing=lambda pa, size: (str(self.pool), pa),
            open_tap=lambda nic, uuid: self.taps(nic, uuid),
            close_taps=self._close_taps,
            may_run=lambda uuid, epoch: self.owner,
            post=self._post,
            settings=Settings(
                tcg_threads=self.tcg_threads,
                users=self.users,
                service_cpus=lambda: (0,),
                aes=True,
                answer_s=answer_s,
                agent_s=agent_s,
                firmware=firmware.installed(),
                stores=self.folder / "uefi",
            ),
        )

    def _post(self, event: Event) -> None:
        self.seen.append(event)
        self.queue.put_nowait(event)

    async def until(self, kind: type[E_], limit: float = LIMIT_S) -> E_:
        """The next event of *kind*, within *limit* seconds."""
        try:
            async with asyncio.timeout(limit):
                while True:
                    event = await self.queue.get()
                    if isinstance(event, kind):
                        return event
        except TimeoutError:
            raise AssertionError(f"no {kind.__name__}; came: {self.seen[-8:]}") from None

    async def launch(
        self, spec: GuestSpec = SPEC, home: str = "home", incoming: do.Incoming | None = None
    ) -> ev.GuestLaunched:
        await self.driver.perform(do.LaunchGuest(spec, home, incoming))
        event = self.seen[-1]
        assert isinstance(event, ev.GuestLaunched), event
        return event

    async def run(self, spec: GuestSpec = SPEC, *, agent: bool = False) -> ev.GuestLaunched:
        """Launch and set running; with *agent*, wait until it answers."""
        launched = await self.launch(spec)
        await self.driver.perform(do.RunGuest(spec.uuid, 1))
        await self.until(ev.GuestRunning)
        if agent:
            assert (await self.until(ev.AgentChanged)).answers
        return launched

    async def restart(self) -> list[ev.GuestFound]:
        """Another ldmd takes over."""
        await self.driver.close()
        self.driver = self.new_driver()
        return await self.driver.find()

    @asynccontextmanager
    async def typed(self, text: str) -> AsyncIterator[asyncio.StreamReader]:
        """Type a line on the guest's console; yields what comes back.

        The console is open while the body runs: QEMU drops what it has not read yet when the
        caller hangs up.  A line that ends the guest may have no echo, its end is faster.
        """
        reader, writer = await asyncio.open_unix_connection(self.driver.console(UUID))
        try:
            writer.write(f"\n{text}\n".encode())
            await writer.drain()
            async with asyncio.timeout(LIMIT_S):
                yield reader
        finally:
            writer.close()

    async def type(self, text: str, answer: str = "") -> None:
        """Type a line on the guest's console, and wait until *answer*, or its echo, comes back."""
        async with self.typed(text) as reader:
            await reader.readuntil((answer or text).encode())

    def memory(self, spec: GuestSpec) -> bytes:
        """The domain's memory, block behind block, out of the pool."""
        data = self.pool.read_bytes()
        return b"".join(data[b.pa : b.pa + b.size] for b in sorted(spec.blocks))

    async def end(self) -> None:
        for event in self.seen:
            if isinstance(event, ev.GuestLaunched):
                with suppress(ProcessLookupError):
                    os.kill(event.pid, signal.SIGCONT)
                await self.driver.perform(do.DestroyGuest(event.uuid))
        await self.driver.close()


@asynccontextmanager
async def two_sides(folder: Path) -> AsyncIterator[tuple[Side, Side]]:
    a, b = Side(folder / "a", range(64000, 64100)), Side(folder / "b", range(64100, 64200))
    try:
        yield a, b
    finally:
        await a.end()
        await b.end()


class Copy:
    """One migration of the tests: its id, key and the target's view of the domain."""

    def __init__(self, spec: GuestSpec, *, shift: int = 256 * MIB) -> None:
        self.id, self.secret = secrets.token_hex(16), secrets.token_hex(32)
        blocks = tuple(replace(b, pa=b.pa + shift) for b in spec.blocks)
        self.spec = replace(spec, blocks=blocks)

    async def begin(self, a: Side, b: Side) -> int:
        """Launch the target and start the copy; the target's pid."""
        there = await b.launch(self.spec, self.id, do.Incoming(self.id, 2, self.secret))
        order = do.StartCopy(UUID, self.id, "127.0.0.1", there.port, 2, self.secret)
        await a.driver.perform(order)
        return there.pid

    async def through(self, a: Side, b: Side) -> ev.CopyCompleted:
        """All of it, up to both sides' last word."""
        await self.begin(a, b)
        await a.until(ev.CopyPaused)
        await a.driver.perform(do.FinishCopy(UUID, self.id))
        done = await a.until(ev.CopyCompleted)
        await b.until(ev.IncomingLoaded)
        return done
