"""Machines that run the real engine on a virtual clock, with model hypervisors and a network."""

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lodom.core import events as ev
from lodom.core import messages as msg
from lodom.core.engine import Engine, first_inventory
from lodom.core.errors import InvalidValue, PeerUnreachable
from lodom.core.fsm import Event
from lodom.core.migration import conduct
from lodom.core.migration.orders import CheckFailed, CheckTarget, ReserveAsked, TargetChecked
from lodom.core.model.host import Bus, CryptoUnit, Hypervisor, Machine, Region, Strand
from lodom.core.model.inventory import Change, Inventory, Ownership, changes
from lodom.core.rules.case import AgentFacts, BackendFacts, DomainFacts, SourceFacts, release
from lodom.core.rules.facts import domain_facts, source_facts
from lodom.core.units import GIB, MIB
from lodom.sim.host import Host
from lodom.sim.hypervisor import SimulatedHypervisor
from lodom.sim.safety import check_running

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
        buses=(Bus("pci@400", "pci_0"), Bus("pci@500", "pci_1")),
        hypervisor=Hypervisor(
            version="10.0",
            machine_types=("pc-q35-8.2",),
            default_machine_type="pc-q35-8.2",
            cpu_model="qemu64-v1",
            firmware={"bios": "sha256:0"},
        ),
        emulated=True,
    )


@dataclass
class Weather:
    """How bad the network is: chances for each message, and the longest that one travels."""

    loss: float = 0.0
    dup: float = 0.0
    late_s: float = 0.0


class World:
    """Several machines, one clock, one source of chance.

    ``configured``: inventories to begin with, of machines that run nothing yet; else machines that
    were never configured.
    """

    def __init__(
        self,
        seed: int = 0,
        machines: tuple[Machine, ...] = (),
        configured: Iterable[Inventory] = (),
    ) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._tickets = 1000 if configured else 0
        self.log: list[str] | None = None
        """The trace, when somebody wants one."""
        self.steps = 0
        self.weather = Weather()
        self.cut: set[frozenset[str]] = set()
        """Pairs of machines without a link."""
        self.domains: set[str] = set()
        """Guest domains that were added and not removed."""
        self.touched: set[str] = set()
        """Domains of which some journal was lost: they may be gone, but not be there twice."""
        self.heard: Callable[[Host], dict[str, Ownership]] = lambda _: {}
        """What a daemon that comes up hears from the others."""
        self.crashed: Callable[[Host], None] = lambda _: None
        """What to do about a daemon that has died."""
        self.hosts: dict[str, Host] = {}
        self._facts: dict[str, tuple[DomainFacts, SourceFacts]] = {}
        self._asked_by: dict[tuple[str, str], str] = {}
        first = [
            first_inventory(m, f"uuid-{m.name}", "00:14:4f:f8:ff:01")
            for m in machines or (machine("a"), machine("b"))
        ]
        for inventory in configured or first:
            empty = Inventory(inventory.machine)
            host = Host(self, inventory.machine, empty)
            batch = tuple(changes(empty, inventory))
            host.engine = Engine(inventory)
            host.begin(batch)
            self.hosts[host.facts.name] = host

    @property
    def old_journals(self) -> bool:
        """Some machine runs on a journal of yesterday."""
        return any(host.restored for host in self.hosts.values())

    # -- time ------------------------------------------------------------------------------------

    def ticket(self) -> int:
        """A number that was never given before."""
        self._tickets += 1
        return self._tickets

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Run *call* after some virtual time."""
        self._tickets += 1
        heapq.heappush(self._queue, (self.now + seconds, self._tickets, call))

    def run(
        self,
        seconds: float = 600.0,
        until: Callable[[], bool] | None = None,
        steps: int = 200_000,
    ) -> None:
        """Let the world go on for *seconds*, or until something is so.

        Raises:
            TimeoutError: *until* was given and did not come true, or it did too much in this time.
        """
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            if until and until():
                return
            if not steps:
                raise TimeoutError("the world does not come to rest")
            self.now, _, call = heapq.heappop(self._queue)
            call()
            check_running(self.hosts.values())
            self.steps += 1
            steps -= 1
        if until and not until():
            raise TimeoutError("the world went on without it")
        if not until:
            self.now = end

    def note(self, name: str, thing: object) -> None:
        """One line of the trace."""
        if self.log is not None:
            self.log.append(f"{self.now:9.3f} {name} {thing!r}")

    def written(self, host: Host, changed: Iterable[Change], event: Event | None) -> None:
        """Keep count of the domains that there must be, in the end, exactly once."""
        for c in changed:
            if c.table == "ownership" and c.before is None:
                d = host.inventory.domains.get(c.key)
                if d and not d.control:
                    self.domains.add(c.key)
            elif c.table == "domains" and c.after is None:
                order = isinstance(event, ev.CommandGiven) and event.verb == "remove-domain"
                if order and host.inventory.ownership[c.key].owner == host.facts.instance:
                    self.domains.discard(c.key)

    # -- the network -----------------------------------------------------------------------------

    def linked(self, a: str, b: str) -> bool:
        """The two machines reach each other."""
        return a == b or frozenset((a, b)) not in self.cut

    def owners(self, host: Host, name: str) -> dict[str, tuple[int, str]]:
        """(epoch, owner) of a domain, by every other machine that can be asked and knows it."""
        d = host.inventory.find(name)
        others = (o for o in self.hosts.values() if o is not host and o.up and d)
        asked = [o for o in others if self.linked(host.facts.name, o.facts.name)]
        known = {o.facts.name: o.inventory.ownership.get(d.uuid) for o in asked if d}
        return {name: (r.epoch, r.owner) for name, r in known.items() if r}

    def reach(self, here: str, there: str) -> SimulatedHypervisor | None:
        """The hypervisor of a machine, if the link to it stands."""
        host = self.hosts.get(there)
        return host.hypervisor if host and self.linked(here, there) else None

    def send(self, sender: Host, migration: str, message: msg.Message) -> None:
        """Deliver a message of a migration, to whichever machine is its other side."""
        here = sender.facts.name
        out = sender.engine.inventory.outgoing.get(migration)
        into = sender.engine.inventory.incoming.get(migration)
        there = out.host if out else into.source_name if into else None
        there = there or self._asked_by.get((here, migration))
        if there is None:
            return  # an answer to who has forgotten to ask
        chance, weather = self.chance, self.weather
        copies = 2 if weather.dup and chance.random() < weather.dup else 1
        for _ in range(copies):
            lost = bool(weather.loss) and chance.random() < weather.loss
            self._carry(sender, there, migration, message, lost=lost)

    def _carry(
        self, sender: Host, there: str, migration: str, message: msg.Message, *, lost: bool
    ) -> None:
        here, other, journals = sender.facts.name, self.hosts[there], sender.journals

        def arrive() -> None:
            if sender.journals != journals:
                return  # to bring a journal back takes longer than a message lives
            if lost or not other.up or not self.linked(here, there):
                if isinstance(message, _FROM_SOURCE):
                    sender.post(ev.Unsent(migration, "connection refused"))
                return
            self._asked_by[there, migration] = here
            if isinstance(message, msg.Reserve):
                other.post(self._reserve(migration, message))
            else:
                other.post(ev.Received(migration, message))

        late = self.weather.late_s * self.chance.random() if self.weather.late_s else 0.0
        self.later(DELAY_S + late, arrive)

    def _reserve(self, migration: str, message: msg.Reserve) -> ReserveAsked:
        domain, source = self._facts[migration]
        return ReserveAsked(
            migration=migration,
            message=message,
            key="key",
            domain=domain,
            source=source,
            backends=self._backends(domain),
            files=(),
        )

    def _gather(self, host: Host, uuid: str, target_name: str) -> tuple[DomainFacts, SourceFacts]:
        inventory = host.engine.inventory
        domain = inventory.domains[uuid]
        backends = {
            f"{d.volume}@{d.server}": BackendFacts("file", GIB, ("naa.1",))
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
        """Phase check, answered by the other machine's rules as it stands when it is asked."""
        other = self.hosts.get(e.host)
        if e.uuid not in host.engine.inventory.domains:
            gone = InvalidValue(what="domain", value=e.uuid, why="it went")
            host.post(CheckFailed(e.request, gone))
            return
        facts = self._gather(host, e.uuid, e.target_name)

        def ask() -> None:
            if other is None or not other.up or not self.linked(host.facts.name, e.host):
                host.post(CheckFailed(e.request, PeerUnreachable(host=e.host, reason="refused")))
            else:
                answer = self._judged(other, e, facts)
                host.soon(lambda: host.post(answer), DELAY_S)

        host.soon(ask, DELAY_S)

    def _judged(
        self, other: Host, e: CheckTarget, facts: tuple[DomainFacts, SourceFacts]
    ) -> TargetChecked:
        domain, source = facts
        migration = f"m{self.ticket()}"
        self._facts[migration] = facts
        mine = conduct.own_facts(other.engine.inventory)
        found = conduct.judged(
            other.engine.inventory,
            domain,
            source,
            backends=self._backends(domain),
            files=(),
            force=e.force,
        )
        return TargetChecked(
            request=e.request,
            uuid=e.uuid,
            migration=migration,
            findings=found,
            target=other.facts.instance,
            target_machine=other.facts.name,
            host=e.host,
            port=6482,
            target_name=e.target_name,
            streams=conduct.streams(source.machine, mine),
            rules=release(source.machine, mine),
            domain="",
            dry_run=e.dry_run,
        )


_FROM_SOURCE = (msg.Reserve, msg.Renew, msg.Recheck, msg.Cede, msg.Abort, msg.Confirm)
"""What the source says it says on a connection, and learns when that fails; the target's answers
wait until they are fetched."""
