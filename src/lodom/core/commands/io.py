"""``add-io``, ``remove-io``: who has which I/O bus.

A bus that ``machine.toml`` declares is a name without a device behind it: it may go to any domain,
and makes it an I/O domain (R24).  A bus of the host itself stays with the control domain: no real
device has ever been given to a guest on a machine that this could be tried on.
"""

from dataclasses import replace

from lodom.core.commands.form import Step, command, done
from lodom.core.errors import InUse, NotSupported, ObjectUnknown, WrongState
from lodom.core.events import CommandGiven
from lodom.core.model.domain import Domain, State
from lodom.core.model.host import Bus
from lodom.core.model.inventory import Inventory

_NAMED = 3
"""Devices that a refusal names; list-devices has them all."""


@command("add-io")
def add_io(inventory: Inventory, order: CommandGiven) -> Step:
    """Give a bus that nobody has to a domain."""
    domain, bus = _named(inventory, order)
    if order.arguments.get("bypass"):
        raise NotSupported(what="bypass=on", why="there is no I/O MMU to be bypassed")
    for other in inventory.sorted_domains():
        if bus.name in other.constraints.io:
            raise InUse(what="I/O bus", name=bus.name, user=f"LDom {other.name}")
    return done(_with(inventory, domain, (*domain.constraints.io, bus.name)), order)


@command("remove-io")
def remove_io(inventory: Inventory, order: CommandGiven) -> Step:
    """Take a bus from a domain."""
    domain, bus = _named(inventory, order)
    if bus.name not in domain.constraints.io:
        raise ObjectUnknown(what="I/O bus", name=bus.name, where=f" in LDom {domain.name}")
    kept = tuple(name for name in domain.constraints.io if name != bus.name)
    return done(_with(inventory, domain, kept), order)


def _named(inventory: Inventory, order: CommandGiven) -> tuple[Domain, Bus]:
    domain = inventory.named(str(order.arguments["ldom"]))
    name = str(order.arguments["bus"])
    bus = inventory.machine.bus(name)
    if bus is None:
        raise ObjectUnknown(what="I/O bus", name=name, where=" on this machine")
    if bus.source != "declared":
        why = inventory.machine.vfio or "this release leaves real devices with the host"
        if used := [f"{d.address} ({d.driver})" for d in bus.devices if d.driver]:
            why += f"; drivers of the host use {', '.join(used[:_NAMED])}"
            why += f" and {len(used) - _NAMED} more" if used[_NAMED:] else ""
        raise NotSupported(what=f"Giving real bus {bus.name} to another domain", why=why)
    if domain.state not in (State.INACTIVE, State.BOUND) and not domain.control:
        raise WrongState(name=domain.name, why=f"is {domain.state}; stop it first")
    return domain, bus


def _with(inventory: Inventory, domain: Domain, io: tuple[str, ...]) -> Inventory:
    constraints = replace(domain.constraints, io=io)
    bindings = replace(domain.bindings, io=io) if domain.bindings else None
    return inventory.with_domain(replace(domain, constraints=constraints, bindings=bindings))
