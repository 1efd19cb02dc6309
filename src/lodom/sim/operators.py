"""Operators who give random ldm commands: every verb, plausible arguments, any domain."""

import random
from collections.abc import Callable, Mapping
from typing import Any

from lodom.core.commands.form import COMMANDS
from lodom.core.migration.conduct import ORDERS
from lodom.core.model.domain import PRIMARY
from lodom.core.units import MIB
from lodom.sim.host import Host

NAMES = ("ldg0", "ldg1", "ldg2", "ldg3")
VDS, VSW, VCC = "primary-vds0", "primary-vsw0", "primary-vcc0"

Arguments = dict[str, Any]
Draw = Callable[[random.Random, Host], Arguments]


def _ldom(r: random.Random, host: Host) -> str:
    """Mostly a domain that is here."""
    here = [d.name for d in host.inventory.sorted_domains() if not d.control]
    if here and r.random() < 0.85:
        return r.choice(here)
    return PRIMARY if r.random() < 0.05 else r.choice(NAMES)


def _on(**fields: Callable[[random.Random], Any]) -> Draw:
    def draw(r: random.Random, host: Host) -> Arguments:
        drawn = {name: field(r) for name, field in fields.items()}
        return {"ldom": _ldom(r, host), **{k: v for k, v in drawn.items() if v is not None}}

    return draw


def _each(r: random.Random, host: Host) -> Arguments:
    return {"ldoms": [_ldom(r, host)]}


def _stop(r: random.Random, host: Host) -> Arguments:
    return {"ldoms": [_ldom(r, host)], "force": r.random() < 0.4}


def _migrate(r: random.Random, host: Host) -> Arguments:
    others = sorted(n for n in host.world.hosts if n != host.facts.name)
    there = r.choice(others) if r.random() < 0.95 else host.facts.name
    order: Arguments = {"ldom": _ldom(r, host), "host": there, "dry_run": r.random() < 0.05}
    return {**order, "target": r.choice(NAMES)} if r.random() < 0.1 else order


def _of(*values: Any) -> Callable[[random.Random], Any]:
    return lambda r: r.choice(values)


_count = _of(0, 1, 1, 1, 2, 2, 3, 5, 99)
_size = _of(1, 2 * MIB, 64 * MIB, 256 * MIB, 512 * MIB, 99999 * MIB)
_vols = tuple(f"vol{i}" for i in range(4))
_vol = _of(*_vols)
_backend = _of(*(f"/vols/{vol}" for vol in _vols))
_primary = _of(PRIMARY, PRIMARY, "ldg1")


def _service(verb: Arguments) -> Draw:
    return lambda r, _: {k: v(r) for k, v in verb.items()}


VERBS: Mapping[str, tuple[int, Draw]] = {
    "add-domain": (3, lambda r, _: {"ldoms": [r.choice(NAMES)]}),
    "set-domain": (1, _on(failure_policy=_of("stop", "ignore"), masters=_of((), ("ldg1",)))),
    "remove-domain": (2, _each),
    "set-variable": (1, _on(variables=_of((("boot-args", "quiet"),), (("boot-args", ""),)))),
    "add-variable": (1, _on(variables=_of((("auto-boot?", "true"),)))),
    "remove-variable": (1, _on(names=_of(("boot-args",), ("auto-boot?",)))),
    "add-vcpu": (4, _on(number=_count)),
    "set-vcpu": (5, _on(number=_count)),
    "remove-vcpu": (3, _on(number=_count)),
    "add-memory": (3, _on(size=_size)),
    "set-memory": (4, _on(size=_size)),
    "remove-memory": (2, _on(size=_size)),
    "add-mau": (1, _on(number=_count)),
    "set-mau": (1, _on(number=_count)),
    "remove-mau": (1, _on(number=_count)),
    "add-vdiskserver": (1, _service({"name": _of("vds1", VDS), "ldom": _primary})),
    "remove-vdiskserver": (1, _service({"name": _of("vds1", VDS)})),
    "add-vdiskserverdevice": (
        2,
        _service(
            {
                "service": _of("vds1", VDS),
                "volume": _vol,
                "backend": _of(*(f"/{v}" for v in _vols)),
                "force": _of(False, True),
            }
        ),
    ),
    "set-vdiskserverdevice": (
        1,
        _service({"service": _of(VDS), "volume": _vol, "options": _of((), ("ro",))}),
    ),
    "remove-vdiskserverdevice": (1, _service({"service": _of("vds1", VDS), "volume": _vol})),
    "add-vswitch": (1, _service({"name": _of("vsw1", VSW), "ldom": _primary})),
    "remove-vswitch": (1, _service({"name": _of("vsw1", VSW)})),
    "add-vconscon": (
        1,
        _service({"name": _of("vcc1", VCC), "low": _of(6000), "high": _of(6003), "ldom": _primary}),
    ),
    "set-vconscon": (
        1,
        _service({"name": _of("vcc1", VCC), "low": _of(5000, 5001), "high": _of(5002, 5100)}),
    ),
    "remove-vconscon": (1, _service({"name": _of("vcc1", VCC)})),
    "add-vdisk": (2, _on(name=_of("vdisk0", "vdisk1"), volume=_vol, service=_of(VDS, "vds1"))),
    "remove-vdisk": (1, _on(name=_of("vdisk0", "vdisk1"))),
    "add-vnet": (2, _on(name=_of("vnet0", "vnet1"), switch=_of(VSW, "vsw1"))),
    "remove-vnet": (1, _on(name=_of("vnet0", "vnet1"))),
    "set-vconsole": (1, _on(port=_of(None, 5000, 5001, 7777), group=_of("", "team"))),
    "bind-domain": (8, _on()),
    "unbind-domain": (3, _on()),
    "start-domain": (8, _each),
    "stop-domain": (4, _stop),
    "migrate-domain": (22, _migrate),
    "cancel-operation": (3, _on(operation=_of("migration", "migration", "reconf"))),
    "recover-domain": (1, _on()),
    "panic-domain": (1, _on()),
    "set-vdisk": (1, _on(name=_of("vdisk0", "vdisk1"), timeout=_of(0, 5))),
    "set-vnet": (1, _on(name=_of("vnet0", "vnet1"), mtu=_of(1500, 9000))),
    "set-vswitch": (1, _service({"name": _of("vsw1", VSW), "mtu": _of(1500, 9000)})),
    "add-io": (1, _on(bus=_of("pci_0", "pci_1"))),
    "remove-io": (1, _on(bus=_of("pci_0", "pci_1"))),
    "add-spconfig": (1, _service({"name": _of("one", "two")})),
    "set-spconfig": (1, _service({"name": _of("one", "two", "factory-default")})),
    "remove-spconfig": (1, _service({"name": _of("one", "two")})),
    "stop-guests": (1, _service({"timeout": _of(1, 30)})),
    "start-guests": (1, _service({})),
}
"""Verb to how often it is given and how its arguments are drawn."""

_GIVEN = [verb for verb in VERBS if verb in COMMANDS or verb in ORDERS]
_WEIGHTS = [VERBS[verb][0] for verb in _GIVEN]


def give(r: random.Random, host: Host) -> None:
    """Give one random command on *host*."""
    verb = r.choices(_GIVEN, _WEIGHTS)[0]
    host.order(verb, **VERBS[verb][1](r, host))
