"""``bind``, ``unbind``, ``start``, ``stop``; several domains or ``-a`` one after another."""

from dataclasses import replace

from lodom.core import effects as do
from lodom.core.commands.form import Step, command, guest, number
from lodom.core.errors import InvalidValue
from lodom.core.events import CommandGiven
from lodom.core.lifecycle import domain as life
from lodom.core.lifecycle import halt
from lodom.core.model.domain import State
from lodom.core.model.inventory import Inventory


@command("bind-domain")
def bind(inventory: Inventory, order: CommandGiven) -> Step:
    """Give a domain its resources, all or none."""
    domain = guest(inventory, order)
    return Step(*life.bind(inventory, domain), waits=domain.uuid)


@command("unbind-domain")
def unbind(inventory: Inventory, order: CommandGiven) -> Step:
    """Take them back; the command ends when the memory is scrubbed."""
    domain = guest(inventory, order)
    return Step(*life.unbind(inventory, domain), waits=f"scrub:{order.request}")


@command("start-domain")
def start(inventory: Inventory, order: CommandGiven) -> Step:
    """Start a bound domain."""
    domain = guest(inventory, _one(inventory, order))
    return Step(*life.start(inventory, domain), waits=domain.uuid)


@command("stop-domain")
def stop(inventory: Inventory, order: CommandGiven) -> Step:
    """Stop an active domain."""
    domain = guest(inventory, _one(inventory, order))
    force = bool(order.arguments.get("force"))
    return Step(*life.stop(inventory, domain, force=force), waits=domain.uuid)


@command("panic-domain")
def panic(inventory: Inventory, order: CommandGiven) -> Step:
    """Make a guest panic; it is started anew, as after any panic."""
    domain = guest(inventory, order)
    return Step(*life.panic(inventory, domain), waits=f"panic:{domain.uuid}")


@command("stop-guests")
def stop_guests(inventory: Inventory, order: CommandGiven) -> Step:
    """The host goes down: stop all guests, and note which ran."""
    inventory, effects, held = halt.stop_all(inventory, number(order, "timeout"))
    told = (do.Report(order.request, {"held": held}),) if held else ()
    if not effects:
        return Step(inventory, (*told, do.Reply(order.request)))
    return Step(inventory, (*told, *effects), waits=life.HALT)


@command("start-guests")
def start_guests(inventory: Inventory, order: CommandGiven) -> Step:
    """Start what ``stop-guests`` stopped; does not wait for it."""
    inventory, effects = halt.start_all(inventory)
    return Step(inventory, (*effects, do.Reply(order.request)))


def _one(inventory: Inventory, order: CommandGiven) -> CommandGiven:
    """The daemon gives the domains of one command one by one (``each``)."""
    names = order.arguments.get("ldoms") or [order.arguments.get("ldom")]
    if len(names) != 1 or not names[0]:
        raise InvalidValue(what="ldom", value=" ".join(map(str, names)), why="one at a time here")
    return replace(order, arguments={**order.arguments, "ldom": names[0]})


_FOR_ALL = {"start-domain": State.BOUND, "stop-domain": State.ACTIVE}


def each(inventory: Inventory, order: CommandGiven) -> list[CommandGiven]:
    """The orders that one order with several domains, or ``-a``, stands for."""
    state = _FOR_ALL.get(order.verb)
    if state is None:
        return [order]
    names = order.arguments.get("ldoms") or []
    if order.arguments.get("all"):
        names = [d.name for d in inventory.sorted_domains() if d.state is state and not d.control]
    for name in names:
        inventory.named(name)  # nothing is begun when one of them is not there
    return [
        replace(order, arguments={**order.arguments, "ldoms": [name], "all": False})
        for name in names
    ]
