"""One run: machines with guests, a swarm of faults and operators drawn by a seed, then peace."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from lodom.core.migration.orders import RequestLost
from lodom.core.model.inventory import Inventory
from lodom.core.units import MIB
from lodom.sim import disasters, operators
from lodom.sim.host import Host
from lodom.sim.safety import check_end
from lodom.sim.world import Weather, World, machine

TROUBLE_S = 120.0
PEACE_S = 400.0
"""Bound of liveness: leases, deadlines and the longest pauses, some of them one after another."""

CLEAN_UPS = 4
"""How often the administrators look at what only they can decide."""

Act = Callable[[World, Host], None]


@cache
def estate() -> tuple[Inventory, ...]:
    """Three machines as ldm-setup leaves them, each with a domain that was started."""
    world = World(0, tuple(machine(name, cores=3) for name in "abc"))
    for number, host in enumerate(world.hosts.values()):
        host.ldm("set-mau", number=1, ldom="primary")
        host.ldm("set-vcpu", number=4, ldom="primary")
        host.ldm("set-memory", size=1024 * MIB, ldom="primary")
        host.ldm("add-vdiskserver", name=operators.VDS, ldom="primary")
        host.ldm("add-vconscon", low=5000, high=5100, name=operators.VCC, ldom="primary")
        host.ldm("add-vswitch", name=operators.VSW, ldom="primary")
        for volume in ("vol0", "vol1", "vol2"):
            host.ldm(
                "add-vdiskserverdevice", backend=f"/{volume}", volume=volume, service=operators.VDS
            )
        name = f"ldg{number}"
        host.ldm("add-domain", ldoms=[name])
        host.ldm("set-vcpu", number=1 + number, ldom=name)
        host.ldm("set-memory", size=512 * MIB, ldom=name)
        volume = f"vol{number}"
        host.ldm("add-vdisk", name="vdisk0", volume=volume, service=operators.VDS, ldom=name)
        host.ldm("add-vnet", name="vnet0", switch=operators.VSW, ldom=name)
        host.ldm("bind-domain", ldom=name)
        host.ldm("start-domain", ldoms=[name])
    world.run(10.0)
    return tuple(host.inventory for host in world.hosts.values())


# -- what befalls -------------------------------------------------------------------------------


def _operator(world: World, host: Host) -> None:
    operators.give(world.chance, host)


def _crash(_: World, host: Host) -> None:
    if host.up:
        host.crash()


def _power(_: World, host: Host) -> None:
    if host.up:
        host.lose_power()


def _cut(world: World, host: Host) -> None:
    other = world.chance.choice([n for n in world.hosts if n != host.facts.name])
    pair = frozenset((host.facts.name, other))
    world.cut.add(pair)
    world.later(world.chance.choice((0.5, 5.0, 45.0, 120.0)), lambda: world.cut.discard(pair))


def _full(world: World, host: Host) -> None:
    host.full = True

    def free() -> None:
        host.full = False

    world.later(world.chance.choice((0.5, 5.0, 70.0)), free)


def _slow(world: World, host: Host) -> None:
    host.slow = world.chance.choice((1.0, 3.0, 30.0))


def _to_guest(act: Callable[[Host, str], None]) -> Act:
    def befall(world: World, host: Host) -> None:
        if guests := list(host.hypervisor.guests):
            act(host, world.chance.choice(guests))

    return befall


def _break(host: Host, uuid: str) -> None:
    if host.hypervisor.guests[uuid].peer:
        host.hypervisor.break_stream(uuid)


def _lost(world: World, host: Host) -> None:
    waiting = [q for q, o in host.orders.items() if q not in host.answers and o.life == host.life]
    if waiting:
        request = world.chance.choice(waiting)
        host.orders[request].lost = True
        host.post(RequestLost(request))


ACTS: dict[str, tuple[float, Act]] = {
    "crash": (2.0, _crash),
    "power": (1.0, _power),
    "cut": (2.0, _cut),
    "full": (2.0, _full),
    "slow": (2.0, _slow),
    "kill": (3.0, _to_guest(lambda h, u: h.hypervisor.kill(u))),
    "reboot": (2.0, _to_guest(lambda h, u: h.hypervisor.reboot(u))),
    "off": (2.0, _to_guest(lambda h, u: h.hypervisor.power_off(u))),
    "panic": (2.0, _to_guest(lambda h, u: h.hypervisor.panic(u))),
    "stream": (2.0, _to_guest(_break)),
    "cont": (3.0, _to_guest(lambda h, u: h.hypervisor.cannot_run.add(u))),
    "lost": (2.0, _lost),
    "tour": (2.0, disasters.tour),
    "yesterday": (1.0, disasters.yesterday),
    "reinstall": (1.0, disasters.reinstall),
}
"""Fault to how often it comes in one run, and what it does."""


@dataclass(frozen=True)
class Swarm:
    """The faults of one run.  Many kinds are left out of any one run, so that others get far."""

    machines: int
    orders: float
    acts: tuple[str, ...]
    weather: Weather
    fragile: float
    refusing: float
    treacherous: float


def draw(r: random.Random) -> Swarm:
    """A swarm of faults."""

    def maybe(value: float) -> float:
        return value * r.random() if r.random() < 0.4 else 0.0

    return Swarm(
        machines=r.choice((2, 2, 3)),
        orders=r.choice((10.0, 40.0, 100.0)),
        acts=tuple(name for name in ACTS if r.random() < 0.4),
        weather=Weather(maybe(0.3), maybe(0.3), maybe(4.0)),
        fragile=maybe(0.04),
        refusing=maybe(0.3),
        treacherous=maybe(1.0),
    )


# -- one run ------------------------------------------------------------------------------------


class Run:
    """One seed, from trouble to peace."""

    def __init__(self, seed: int, *, trace: bool = False) -> None:
        configured = estate()
        chance = random.Random(seed)
        self.swarm = draw(chance)
        self.world = World(seed, configured=configured[: self.swarm.machines])
        self.world.log = [repr(self.swarm)] if trace else None
        self.trouble = True

    def go(self) -> str:
        """Run it; the digest of all that happened.

        Raises:
            Exception: an invariant does not hold, or the engine has a bug.
        """
        world, swarm = self.world, self.swarm
        world.crashed = self._crashed
        world.heard = lambda host: disasters.heard(world, host)
        for host in world.hosts.values():
            host.up = False
            host.restart()
        world.run(5.0)
        world.weather = swarm.weather
        for host in world.hosts.values():
            host.fragile, host.refusing = swarm.fragile, swarm.refusing
            host.hypervisor.treacherous = swarm.treacherous
        self._schedule(swarm.orders, _operator)
        for name in swarm.acts:
            self._schedule(*ACTS[name])
        world.run(TROUBLE_S)
        self._heal()
        for _ in range(CLEAN_UPS):
            world.run(PEACE_S / CLEAN_UPS)
            for host in world.hosts.values():
                disasters.administer(world, host)
        world.run(PEACE_S / CLEAN_UPS)
        check_end(world, strands=not swarm.refusing)
        return self._digest()

    def _schedule(self, number: float, act: Act) -> None:
        world = self.world
        hosts = list(world.hosts.values())
        for _ in range(round(number)):
            host, when = world.chance.choice(hosts), world.chance.random() * TROUBLE_S
            world.later(when, lambda host=host: act(world, host))  # type: ignore[misc]

    def _crashed(self, host: Host) -> None:
        pause = self.world.chance.choice((0.1, 3.0, 20.0, 80.0))
        self.world.later(pause, lambda: None if host.up else host.restart())

    def _heal(self) -> None:
        world = self.world
        world.weather = Weather()
        world.cut.clear()
        for host in world.hosts.values():
            host.full, host.slow, host.fragile, host.refusing = False, 1.0, 0.0, 0.0
            host.hypervisor.treacherous = 0.0
            host.hypervisor.cannot_run.clear()
            if not host.up:
                host.restart()

    def _digest(self) -> str:
        told = hashlib.sha256(f"{self.world.steps} {self.world.now}".encode())
        for host in self.world.hosts.values():
            told.update(repr((host.inventory, sorted(host.answers))).encode())
        for line in self.world.log or ():
            told.update(line.encode())
        return told.hexdigest()[:16]
