"""One machine of the simulated world: the real engine, a journal, workers, a model hypervisor.

It behaves as the real daemon does: what the engine decides is durable before any effect; effects of
one key keep their order and different keys do not wait for each other; a journal that cannot be
written refuses orders and holds up what has happened.  A crash may fall before any effect, between
commit and first effect too, and drops everything but the journal and the processes.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.engine import Batch, Engine
from lodom.core.errors import LodomError, StepFailed
from lodom.core.fsm import Effect, Event, UnexpectedEvent
from lodom.core.lifecycle.claims import strangers
from lodom.core.migration.orders import CheckTarget, ReserveAsked, TargetChecked
from lodom.core.migration.ownership import may_run
from lodom.core.model.host import Machine, Region
from lodom.core.model.inventory import Change, Inventory
from lodom.sim.hypervisor import SimulatedHypervisor
from lodom.sim.safety import Soil, Violated, check_inventory

if TYPE_CHECKING:
    from lodom.sim.world import World

FULL_S = 1.0
"""Pause before a change that could not be written is written again."""
QUICK_S = 0.01


class Conflict(Exception):
    """A write does not fit what the journal holds."""


class Died(Exception):
    """The daemon was killed here."""


@dataclass
class Order:
    """A command that was given, and in which life of the daemon."""

    verb: str
    life: int
    lost: bool = False
    """Its ``ldm`` was killed: nobody waits for the answer."""


@dataclass
class Host:
    """One machine of the world."""

    world: "World"
    facts: Machine
    inventory: Inventory
    """The journal: the inventory as last written."""
    up: bool = True
    full: bool = False
    """The disk of the journal is full."""
    slow: float = 1.0
    """Everything that the hypervisor and the host do takes so many times as long."""
    fragile: float = 0.0
    """Chance that the daemon dies before the next effect."""
    dies_in: int = 0
    """It dies for certain at the so manieth place where it may; 0 for none."""
    refusing: float = 0.0
    """Chance that the host refuses a console port, a back end, a bridge, a launch."""
    restored: bool = False
    """Its journal was brought back from a copy."""
    journals: int = 0
    """How many journals it has lost."""
    answers: dict[str, dict[str, Any] | LodomError] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    timers: dict[str, int] = field(default_factory=dict)
    scrubbed: list[Region] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = Engine(self.inventory)
        self.life = 0
        self.soil = Soil()
        self._queues: dict[str, deque[Effect]] = {}
        self._under_way: dict[int, Callable[[], None]] = {}
        self._busy = ""
        self._backlog: list[Event] | None = None
        self.hypervisor = SimulatedHypervisor(
            post=self.post,
            later=self._hypervisor_later,
            may_run=lambda uuid, epoch: may_run(
                self.inventory.ownership, uuid, epoch, self.facts.instance
            ),
            reach=lambda name: self.world.reach(self.facts.name, name),
            chance=self.world.chance,
        )

    # -- the daemon ------------------------------------------------------------------------------

    def begin(self, changed: tuple[Change, ...]) -> None:
        """The journal as it was before this world began."""
        self._write(changed)
        self.world.written(self, changed, None)

    def soon(self, call: Callable[[], None], seconds: float = 0.0) -> None:
        """Run *call*, if this life of the daemon lasts so long."""
        life = self.life

        def alive() -> None:
            if self.up and self.life == life:
                try:
                    call()
                except Died:
                    self.crash()

        self.world.later(seconds, alive)

    def post(self, event: Event) -> None:
        """Have *event* handled soon; a daemon that is down hears nothing."""
        if self.up:
            self.soon(lambda: self._handle(event))

    def _handle(self, event: Event) -> None:
        if self._backlog is not None:
            self._backlog.append(event)
            return
        self.world.note(self.facts.name, event)
        try:
            batch = self.engine.handle(event)
        except UnexpectedEvent:
            # Two journals that contradict each other may lead there, and nothing else may.
            if not self.world.old_journals:
                raise
            self.engine.undo()
            return
        if self.full and batch.changes:
            if isinstance(event, ev.CommandGiven | TargetChecked | ReserveAsked):
                self.engine.undo()
                self._refused(event)
                return
            self._backlog = []
            self._write_at_last(batch)
            return
        self._enact(batch, event)

    def _refused(self, order: Event) -> None:
        request = getattr(order, "request", "")
        self.answers[request] = StepFailed(what="Writing the journal", reason="disk full")

    def _write_at_last(self, batch: Batch) -> None:
        """What has happened cannot be refused: nothing goes on until it is on disk."""
        if self.full:
            self.soon(lambda: self._write_at_last(batch), FULL_S)
            return
        waiting, self._backlog = self._backlog or [], None
        self._enact(batch, None)
        for event in waiting:
            self.post(event)

    def _enact(self, batch: Batch, event: Event | None) -> None:
        if batch.changes:
            self._write(batch.changes)
            self.world.written(self, batch.changes, event)
            check_inventory(self.inventory, self.engine.inventory, batch.changes)
        self._perhaps_die()
        for effect in batch.effects:
            self._start(effect)

    def _perhaps_die(self) -> None:
        """A place where the daemon may die: after a commit, and before each effect."""
        self.dies_in -= 1
        if self.dies_in == 0:
            raise Died
        if self.fragile and self.world.chance.random() < self.fragile:
            raise Died

    def _write(self, changed: Iterable[Change]) -> None:
        for c in changed:
            if getattr(self.inventory, c.table).get(c.key) != c.before:
                raise Conflict(f"{c.table}/{c.key}")
            if c.table == "domains":
                self.soil.change(c.before, c.after)  # type: ignore[arg-type]
            if c.after is None:
                self.inventory = self.inventory.drop(c.table, c.key)
            else:
                self.inventory = self.inventory.put(c.table, c.key, c.after)

    # -- effects ---------------------------------------------------------------------------------

    def _start(self, e: Effect) -> None:
        self.world.note(self.facts.name, e)
        match e:
            case do.Reply(request, result):
                self.answers[request] = dict(result)
            case do.Fail(request, error):
                self.answers[request] = error
            case do.Report():
                pass
            case do.SetTimer(name, seconds):
                self._set_timer(name, seconds)
            case do.CancelTimer(name):
                self.timers.pop(name, None)
            case _:
                key = _key(e)
                queue = self._queues.setdefault(key, deque())
                queue.append(e)
                if len(queue) == 1:
                    self.soon(lambda: self._work(key))

    def _work(self, key: str) -> None:
        """Carry out the first effect of a queue; it leaves the queue when it is done."""
        self._perhaps_die()
        self._busy = key
        effect = self._queues[key][0]
        self._perform(effect)
        if self._busy:
            self._done(key)
        self._busy = ""

    def _done(self, key: str) -> None:
        queue = self._queues[key]
        queue.popleft()
        if queue:
            self.soon(lambda: self._work(key))

    def _perform(self, e: Effect) -> None:
        no = bool(self.refusing) and self.world.chance.random() < self.refusing
        match e:
            case do.Scrub(region):
                self._take(QUICK_S, lambda: self._scrub(region))
            case do.MakeSwitch(request, name):
                bad = ev.SwitchFailed(request, name, "no such device", e.old)
                self._answer(bad if no else ev.SwitchMade(request, name))
            case do.OpenConsole(uuid, _, _, port):
                taken = ev.ConsoleFailed(uuid, port, "Address already in use")
                self._answer(taken if no else ev.ConsoleOpened(uuid, port))
            case do.CheckBackends(uuid):
                problems = (("vol", "is in use"),) if no else ()
                self._answer(ev.BackendsChecked(uuid, problems))
            case do.RemoveSwitch(request, name):
                self._answer(ev.SwitchGone(request, name))
            case do.CloseConsole():
                pass
            case do.LaunchGuest(spec, home) if no:
                self._answer(ev.GuestLaunchFailed(spec.uuid, home, "cannot allocate memory"))
            case do.SetVcpus(uuid) if no:
                self._answer(ev.VcpusRefused(uuid, ((1, "a thread is bound to it"),)))
            case do.PlugDevice(uuid, device) if no:
                self._answer(ev.DeviceRefused(uuid, device.place, "is in use", plug=True))
            case do.UnplugDevice(uuid, place) if no:
                self._answer(ev.DeviceRefused(uuid, place, "the guest keeps it", plug=False))
            case do.ShutDownGuest(uuid) if no:
                self._answer(ev.GuestRefused(uuid, "shutdown", "no guest agent answers"))
            case do.Send(migration, message):
                self.world.send(self, migration, message)
            case CheckTarget():
                self.world.check(self, e)
            case _:
                self._busy = self._busy if isinstance(e, _LONG) else self._release()
                self.hypervisor.perform(e)

    def _release(self) -> str:
        """The worker goes on at once: what follows is the process's own affair."""
        self._done(self._busy)
        return ""

    def _answer(self, event: Event) -> None:
        self._take(QUICK_S, lambda: self.post(event))

    def _take(self, seconds: float, call: Callable[[], None]) -> None:
        """Keep the worker for so long; a crash ends it, or finds it just done."""
        key, self._busy = self._busy, ""
        number, life = self.world.ticket(), self.life
        self._under_way[number] = call

        def finish() -> None:
            if self._under_way.pop(number, None) and self.life == life:
                call()
                self._done(key)

        self.world.later(seconds * self.slow, finish)

    def _hypervisor_later(self, seconds: float, call: Callable[[], None]) -> None:
        if self._busy:
            self._take(seconds, call)
        else:
            self.world.later(seconds * self.slow, call)

    def _scrub(self, region: Region) -> None:
        self.scrubbed.append(region)
        self.soil.scrub(region)
        self.post(ev.Scrubbed(region))

    def _set_timer(self, name: str, seconds: float) -> None:
        number = self.timers[name] = self.world.ticket()

        def fire() -> None:
            if self.timers.get(name) == number:
                del self.timers[name]
                self.post(ev.TimerFired(name))

        self.soon(fire, seconds)

    # -- its ends --------------------------------------------------------------------------------

    def crash(self) -> None:
        """The daemon dies; processes and journal stay.  What it was just doing is done or not."""
        self.world.note(self.facts.name, "crashes")
        self.up, self.life = False, self.life + 1
        self.timers.clear()
        self._queues.clear()
        self._busy, self._backlog = "", None
        under_way, self._under_way = self._under_way, {}
        for call in under_way.values():
            if self.world.chance.random() < 0.5:
                call()
        self.world.crashed(self)

    def lose_power(self) -> None:
        """Daemon and guests end at once."""
        self.crash()
        for uuid in list(self.hypervisor.guests):
            self.hypervisor.kill(uuid, quiet=True)

    def journal_lost(self, inventory: Inventory) -> None:
        """It loses its power, and comes back with another journal and clean memory."""
        self.lose_power()
        self.journals += 1
        self.inventory, self.soil = inventory, Soil()

    def restart(self) -> None:
        """The daemon comes back."""
        self.world.note(self.facts.name, "restarts")
        self.up, self.life = True, self.life + 1
        self.engine = Engine(self.inventory)
        found = self.hypervisor.found()
        if wrong := strangers(self.inventory, found):
            raise Violated(f"{self.facts.name} refuses its own journal: {wrong}")
        batch = self.engine.recover(found, self.world.heard(self))
        self._backlog = []
        self.soon(lambda: self._write_at_last(batch))

    # -- the operator ----------------------------------------------------------------------------

    def order(self, verb: str, **arguments: Any) -> str:
        """Give a command; the answer stands in ``answers`` when it has ended."""
        request = f"r{self.world.ticket()}"
        self.orders[request] = Order(verb, self.life)
        count = max(1, len(arguments.get("ldoms") or ()))
        number = self.world.chance.randrange(1 << 16)
        fresh = {
            "uuids": [f"uuid-{self.world.ticket()}" for _ in range(count)],
            "macs": [f"00:14:4f:f8:{number >> 8:02x}:{(number + i) & 255:02x}" for i in range(64)],
        }
        asked = arguments.get("ldom", "") if verb == "recover-domain" else ""
        heard = self.world.owners(self, asked)
        self.post(ev.CommandGiven(request, verb, arguments, fresh, int(self.world.now), heard))
        return request

    def ldm(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Give a command and run the world until it has ended.

        Raises:
            LodomError: it ended with that.
        """
        request = self.order(verb, **arguments)
        self.world.run(until=lambda: request in self.answers)
        answer = self.answers[request]
        if isinstance(answer, LodomError):
            raise answer
        return answer


_LONG = (do.LaunchGuest, do.SetVcpus, do.PlugDevice, do.UnplugDevice)
"""Effects whose worker waits until they are done."""


def _key(effect: Effect) -> str:
    """Effects of the same key keep their order, as in the daemon."""
    match effect:
        case do.Send(migration):
            return f"migration {migration}"
        case do.Scrub():
            return "pool"
        case do.LaunchGuest(spec):
            return f"domain {spec.uuid}"
        case do.OpenConsole(uuid) | do.CloseConsole(uuid):
            return f"console {uuid}"
        case _:
            uuid = getattr(effect, "uuid", "")
            return f"domain {uuid}" if uuid else type(effect).__name__
