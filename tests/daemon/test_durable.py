"""The daemon's loop on a real journal file: nothing leaves before what it follows from is durable.

At each effect and each answer the file is copied as a crash would leave it and read back: it must
hold just what the engine believes.  An order that cannot be written leaves no trace; what has
happened already waits, and everything behind it, until it can be written.
"""

import asyncio
import shutil
from contextlib import asynccontextmanager

import pytest
from every_command import EVERY

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.engine import Engine
from lodom.core.errors import LodomError, PeerUnreachable, StepFailed
from lodom.core.migration.orders import CheckFailed, CheckTarget
from lodom.core.model.inventory import Inventory, changes
from lodom.daemon import loop as daemon_loop
from lodom.daemon.loop import Loop
from lodom.drivers.model import ModelHypervisor
from lodom.sim.chaos import estate
from lodom.store.sqlite import Store


class Machine:
    """A loop with the model's processes; other adapters say yes at once."""

    def __init__(self, path):
        self.path, self.copies, self.done = path, 0, []
        self.first = estate()[0]
        self.store = Store.open(path / "journal.db", fresh_instance="i")
        self.store.write(changes(Inventory(self.first.machine), self.first))
        self.loop = Loop(Engine(self.first), self.store, self.perform, self.tidy)
        self.model = ModelHypervisor(
            post=self.loop.post,
            later=lambda _, call: call(),
            may_run=lambda *_: True,
            reach=lambda _: None,
        )
        self.orders = 0
        self.other = asyncio.Event()
        """Set while the other machine answers."""
        self.other.set()

    def on_disk(self):
        """The journal as a crash would leave it here."""
        self.copies += 1
        there = self.path / f"crash{self.copies}"
        there.mkdir()
        for file in self.path.glob("journal.db*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, there)
        copy = Store.open(there / "journal.db", fresh_instance="other")
        try:
            return copy.load(self.first.machine)
        finally:
            copy.close()
            shutil.rmtree(there)

    def looked_at(self):
        assert self.on_disk() == self.loop.engine.inventory

    async def tidy(self):
        pass

    async def perform(self, e):
        self.looked_at()
        self.done.append(e)
        match e:
            case do.Scrub(region):
                self.loop.post(ev.Scrubbed(region))
            case do.MakeSwitch(request, name):
                self.loop.post(ev.SwitchMade(request, name))
            case do.OpenConsole(uuid, _, _, port):
                self.loop.post(ev.ConsoleOpened(uuid, port))
            case do.CheckBackends(uuid):
                self.loop.post(ev.BackendsChecked(uuid, ()))
            case CheckTarget(request):
                await self.other.wait()
                self.loop.post(CheckFailed(request, PeerUnreachable(host="b", reason="refused")))
            case do.RemoveSwitch(request, name):
                self.loop.post(ev.SwitchGone(request, name))
            case do.CloseConsole():
                pass
            case _:
                self.model.perform(e)

    async def ldm(self, verb, **arguments):
        self.orders += 1
        request = f"r{self.orders}"
        macs = [f"00:14:4f:f8:99:{i:02x}" for i in range(9)]
        fresh = {"uuids": [f"u{self.orders}"], "macs": macs}
        order = ev.CommandGiven(request, verb, arguments, fresh, 0)
        async for _ in self.loop.request(request, order):
            self.looked_at()

    def unwritable(self, yes):
        self.store._db.execute(f"PRAGMA query_only = {int(yes)}")


@asynccontextmanager
async def running(path):
    machine = Machine(path)
    task = asyncio.create_task(machine.loop.run({}, {}))
    try:
        await machine.loop.recovered.wait()
        uuid = machine.first.named("ldg0").uuid
        await _until(lambda: machine.loop.engine.inventory.domains[uuid].agent)
        await _quiet(machine)
        yield machine
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        machine.store.close()


async def _accepted(path, verb):
    before, arguments = EVERY[verb]
    async with running(path) as machine:
        for first, its in before:
            await machine.ldm(first, **its)
        await _quiet(machine)
        was, done = machine.loop.engine.inventory, len(machine.done)
        machine.unwritable(True)
        writes = verb not in WRITE_NOTHING
        if writes:
            with pytest.raises(StepFailed, match="Writing the journal"):
                await machine.ldm(verb, **arguments)
            assert machine.loop.engine.inventory == was == machine.on_disk()
            assert machine.done[done:] == []
        machine.unwritable(False)
        if verb == "migrate-domain":
            with pytest.raises(PeerUnreachable):
                await machine.ldm(verb, **arguments)
        else:
            await machine.ldm(verb, **arguments)
        await _quiet(machine)
        machine.looked_at()
        assert (machine.loop.engine.inventory != was) == writes or verb in COMES_BACK


WRITE_NOTHING = ("migrate-domain", "recover-domain")
"""A check changes nothing, and there is nothing to recover."""
COMES_BACK = ("panic-domain",)
"""The domain is then what it was."""


async def _quiet(machine):
    loop = machine.loop
    await _until(lambda: not loop._waiting and loop._events.empty())


async def _until(so):
    """Let the loop go on; all adapters answer at once, so a turn of it is never idle."""
    for _ in range(1000):
        if so():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not come to rest")


@pytest.mark.parametrize("verb", EVERY)
def test_no_effect_of_a_command_leaves_before_it_is_durable(verb, tmp_path):
    try:
        asyncio.run(_accepted(tmp_path, verb))
    except* LodomError as refused:
        raise AssertionError(refused.exceptions) from refused


async def _waits(path):
    async with running(path) as machine:
        uuid = machine.first.named("ldg0").uuid
        was, done = machine.on_disk(), len(machine.done)
        machine.unwritable(True)
        machine.loop.post(ev.GuestGone(uuid))
        behind = asyncio.create_task(machine.ldm("add-domain", ldoms=["new"]))
        for _ in range(5):
            await asyncio.sleep(2 * daemon_loop._FULL_S)
            assert machine.on_disk() == was
            assert machine.done[done:] == []
            assert not behind.done()
        machine.unwritable(False)
        await behind
        await _quiet(machine)
        assert any(isinstance(e, do.LaunchGuest) for e in machine.done[done:])
        machine.looked_at()


def test_what_has_happened_waits_for_the_journal_and_all_behind_it(tmp_path, monkeypatch):
    monkeypatch.setattr(daemon_loop, "_FULL_S", 0.01)
    asyncio.run(_waits(tmp_path))


async def _goes_on(path):
    async with running(path) as machine:
        machine.other.clear()
        asking = asyncio.create_task(machine.ldm("migrate-domain", ldom="ldg0", host="b"))
        await _until(lambda: any(isinstance(e, CheckTarget) for e in machine.done))
        stopping = asyncio.create_task(machine.ldm("stop-domain", ldoms=["ldg0"], force=True))
        await _until(stopping.done)
        assert not asking.done()
        machine.other.set()
        with pytest.raises(PeerUnreachable):
            await asking


def test_a_machine_that_is_slow_to_judge_holds_up_nothing_of_the_domain(tmp_path):
    """A dry run may even be asked for while the domain is on its way to elsewhere."""
    asyncio.run(_goes_on(tmp_path))
