"""Machines that run the real engine on a virtual clock, with model hypervisors and a network.

Each machine's journal keeps encoded records and refuses a write that does not fit what it holds, as
the real one does.  A crash drops everything but the journal and the processes.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core import messages as msg
from lodom.core.engine import Engine, first_inventory
from lodom.core.errors import LodomError, PeerUnreachable
from lodom.core.fsm import Effect, Event
from lodom.core.migration import conduct
from lodom.core.migration.orders import CheckFailed, CheckTarget, ReserveAsked, TargetChecked
from lodom.core.migration.ownership import may_run
from lodom.core.model.host import CryptoUnit, Hypervisor, Machine, Region, Strand
from lodom.core.model.inventory import Inventory, changes
from lodom.core.rules.case import AgentFacts, BackendFacts, DomainFacts, SourceFacts
from lodom.core.rules.facts import domain_facts, source_facts
from lodom.core.units import GIB, MIB
from lodom.drivers.model import ModelHypervisor

DELAY_S = 0.001


def machine(name: str, *, cores: int = 4, threads: int = 4, memory: int = 4 * GIB) -> Machine:
    """A machine of emulated strands with one region of memory."""
    strands = tuple(Strand(i, i // threads, i % 2) for i in range(cores * threads))
    return Machine(
        name=name,
        instance=f"instance-{name}",
        processor="UltraSPARC-T2",
        frequency_hz=1_200_000_000,
        strands=strands,
        regions=(Region(0x8000000, memory),),
        page=2 * MIB,
        crypto=tuple(CryptoUnit(c, c) for c in range(cores)),
        hypervisor=Hypervisor(
            version="10.0",
            machine_types=("pc-q35-8.2",),
            default_machine_type="pc-q35-8.2",
            cpu_model="qemu64-v1",
            firmware={"bios": "sha256:0"},
        ),
        emulated=True,
    )


class Conflict(Exception):
    """A write does not fit what the journal holds."""


@dataclass
class Host:
    """One machine of the world."""

    world: "World"
    facts: Machine
    inventory: Inventory
    """The journal: the inventory as last written."""
    up: bool = True
    answers: dict[str, dict[str, Any] | LodomError] = field(default_factory=dict)
    timers: dict[str, int] = field(default_factory=dict)
    scrubbed: list[Region] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = Engine(self.inventory)
        self.life = 0
        self.hypervisor = ModelHypervisor(
            post=self.post,
            later=self.world.later,
            may_run=lambda uuid, epoch: may_run(
                self.inventory.ownership, uuid, epoch, self.facts.instance
            ),
            reach=lambda name: self.world.reach(self.facts.name, name),
        )

    # -- the daemon ------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Have *event* handled soon; a daemon that is down hears nothing."""
        life = self.life
        if self.up:
            self.world.later(0.0, lambda: self._handle(event) if self.life == life else None)

    def _handle(self, event: Event) -> None:
        self.world.note(self.facts.name, event)
        batch = self.engine.handle(event)
        self._write(batch.changes)
        self._do(batch.effects)

    def _write(self, changed: Any) -> None:
        for c in changed:
            if getattr(self.inventory, c.table).get(c.key) != c.before:
                raise Conflict(f"{c.table}/{c.key}")
            if c.after is None:
                self.inventory = self.inventory.drop(c.table, c.key)
            else:
                self.inventory = self.inventory.put(c.table, c.key, c.after)

    def _do(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            self.world.note(self.facts.name, effect)
            self._perform(effect)

    def _perform(self, e: Effect) -> None:
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
            case do.Scrub(region):
                self.scrubbed.append(region)
                self.world.later(0.01, lambda: self.post(ev.Scrubbed(region)))
            case do.MakeSwitch(request, name):
                self.post(ev.SwitchMade(request, name))
            case do.OpenConsole(uuid, _, _, port):
                self.post(ev.ConsoleOpened(uuid, port))
            case do.CheckBackends(uuid):
                self.post(ev.BackendsChecked(uuid, ()))
            case do.RemoveSwitch() | do.CloseConsole():
                pass
            case do.Send(migration, message):
                self.world.send(self, migration, message)
            case CheckTarget():
                self.world.check(self, e)
            case _:
                self.hypervisor.perform(e)

    def _set_timer(self, name: str, seconds: float) -> None:
        number = self.timers[name] = self.world.ticket()
        life = self.life

        def fire() -> None:
            if self.life == life and self.timers.get(name) == number:
                del self.timers[name]
                self.post(ev.TimerFired(name))

        self.world.later(seconds, fire)

    def crash(self) -> None:
        """The daemon dies; processes and journal stay."""
        self.up, self.life = False, self.life + 1
        self.timers.clear()

    def restart(self) -> None:
        """The daemon comes back."""
        self.up, self.life = True, self.life + 1
        self.engine = Engine(self.inventory)
        batch = self.engine.recover(self.hypervisor.found())
        self._write(batch.changes)
        self._do(batch.effects)

    # -- the operator ----------------------------------------------------------------------------

    def order(self, verb: str, **arguments: Any) -> str:
        """Give a command; the answer stands in ``answers`` when it has ended."""
        request = f"r{self.world.ticket()}"
        count = max(1, len(arguments.get("ldoms") or ()))
        fresh = {
            "uuids": [f"uuid-{self.world.ticket()}" for _ in range(count)],
            "macs": [
                f"00:14:4f:f8:{self.world.chance.randrange(256):02x}:{i:02x}" for i in range(64)
            ],
        }
        self.post(ev.CommandGiven(request, verb, arguments, fresh, int(self.world.now)))
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


class World:
    """Several machines, one clock, one source of chance."""

    def __init__(self, seed: int = 0, machines: tuple[Machine, ...] = ()) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._tickets = 0
        self.log: list[str] = []
        self.cut: set[frozenset[str]] = set()
        """Pairs of machines without a link."""
        self.hosts: dict[str, Host] = {}
        for facts in machines or (machine("a"), machine("b")):
            empty = Inventory(facts)
            configured = first_inventory(facts, f"uuid-{facts.name}", "00:14:4f:f8:ff:01")
            host = Host(self, facts, empty)
            host._write(changes(empty, configured))
            host.engine = Engine(configured)
            self.hosts[facts.name] = host

    # -- time ------------------------------------------------------------------------------------

    def ticket(self) -> int:
        """A number that was never given before."""
        self._tickets += 1
        return self._tickets

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Run *call* after some virtual time."""
        heapq.heappush(self._queue, (self.now + seconds, self.ticket(), call))

    def run(
        self,
        seconds: float = 600.0,
        until: Callable[[], bool] = lambda: False,
        steps: int = 200_000,
    ) -> None:
        """Let the world go on for *seconds*, or until something is so.

        Raises:
            TimeoutError: *until* was given and did not come true.
        """
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end and steps:
            if until():
                return
            self.now, _, call = heapq.heappop(self._queue)
            call()
            self.watch()
            steps -= 1
        if not until() and until.__name__ != "<lambda>":
            raise TimeoutError("the world went on without it")
        self.now = max(self.now, end) if not self._queue else self.now

    def watch(self) -> None:
        """Safety, after every step.

        Raises:
            AssertionError: two copies of a domain run.
        """
        running = [u for h in self.hosts.values() for u in h.hypervisor.running()]
        assert len(running) == len(set(running)), f"two copies run: {running}"

    def note(self, name: str, thing: object) -> None:
        """One line of the trace."""
        self.log.append(f"{self.now:9.3f} {name} {thing!r}")

    # -- the network -----------------------------------------------------------------------------

    def linked(self, a: str, b: str) -> bool:
        """The two machines reach each other."""
        return a == b or frozenset((a, b)) not in self.cut

    def reach(self, here: str, there: str) -> ModelHypervisor | None:
        """The hypervisor of a machine, if the link to it stands."""
        host = self.hosts.get(there)
        return host.hypervisor if host and self.linked(here, there) else None

    def send(self, sender: Host, migration: str, message: msg.Message) -> None:
        """Deliver a message of a migration, to whichever machine is its other side."""
        row = sender.engine.inventory.outgoing.get(migration)
        into = sender.engine.inventory.incoming.get(migration)
        name = row.host if row else into.source_name if into else ""
        if not name:  # an answer about a migration that is not known: to who asked
            name = next(n for n in self.hosts if n != sender.facts.name)
        other = self.hosts[name]

        def arrive() -> None:
            if not other.up or not self.linked(sender.facts.name, name):
                if row:
                    sender.post(ev.Unsent(migration, "connection refused"))
            elif isinstance(message, msg.Reserve):
                other.post(self._reserve(sender, migration, message))
            else:
                other.post(ev.Received(migration, message))

        self.later(DELAY_S, arrive)

    def _reserve(self, sender: Host, migration: str, message: msg.Reserve) -> ReserveAsked:
        domain, source = self._facts(sender, message.uuid, message.target_name)
        return ReserveAsked(
            migration=migration,
            message=message,
            key="key",
            domain=replace(domain, locked_by=""),
            source=replace(source, machine=replace(source.machine, migrations=())),
            backends=self._backends(domain),
            files=(),
        )

    def _facts(self, host: Host, uuid: str, target_name: str) -> tuple[DomainFacts, SourceFacts]:
        inventory = host.engine.inventory
        domain = inventory.domains[uuid]
        backends = {
            f"{d.volume}@{d.server}": BackendFacts("file", GIB, ("wwn:1",))
            for d in domain.constraints.vdisks
        }
        agent = AgentFacts(domain.agent, domain.agent, domain.agent)
        facts = domain_facts(
            inventory, domain, target_name=target_name, backends=backends, agent=agent
        )
        return facts, source_facts(inventory, domain, conduct.own_facts(inventory))

    def _backends(self, domain: DomainFacts) -> dict[str, BackendFacts]:
        return {f"{d.volume}@{d.service}": d.backend for d in domain.disks}

    def check(self, host: Host, e: CheckTarget) -> None:
        """Phase check, answered by the other machine's rules."""
        other = self.hosts.get(e.host)
        if other is None or not other.up or not self.linked(host.facts.name, e.host):
            host.post(CheckFailed(e.request, PeerUnreachable(host=e.host, reason="refused")))
            return
        domain, source = self._facts(host, e.uuid, e.target_name)
        found = conduct.judged(
            other.engine.inventory,
            domain,
            source,
            backends=self._backends(domain),
            files=(),
            force=e.force,
        )
        event = TargetChecked(
            request=e.request,
            uuid=e.uuid,
            migration=f"m{self.ticket()}",
            findings=found,
            target=other.facts.instance,
            target_machine=other.facts.name,
            host=e.host,
            port=6482,
            target_name=e.target_name,
            streams=4,
            domain="",
            dry_run=e.dry_run,
        )
        self.later(DELAY_S, lambda: host.post(event))
