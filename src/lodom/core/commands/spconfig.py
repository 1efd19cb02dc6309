"""Saved configurations: ``add-``, ``set-``, ``remove-spconfig``.

A boot restores the configuration that ``set-spconfig`` selected, once; without such a choice, or
when one was saved since, a machine comes up as it was.  Source: ldm-cli digest 3.12.
"""

from lodom.core.commands.form import Step, command, done
from lodom.core.errors import AlreadyExists, InUse, InvalidValue, NotSupported, ObjectUnknown
from lodom.core.events import CommandGiven
from lodom.core.lifecycle.reconf import FACTORY, snapshot
from lodom.core.model.inventory import Inventory
from lodom.core.model.saved import Mark

_WHAT = "Configuration"


def _name(order: CommandGiven) -> str:
    """The name in the order.

    Raises:
        NotSupported: ``-r``: nothing is saved by itself, as the journal keeps every change.
    """
    if order.arguments.get("autosave"):
        raise NotSupported(
            what=f"{order.verb} -r", why="the journal keeps every change; there are no autosaves"
        )
    return str(order.arguments["name"])


def _known(inventory: Inventory, name: str) -> str:
    if name != FACTORY and name not in inventory.configs:
        raise ObjectUnknown(what=_WHAT, name=name)
    return name


@command("add-spconfig")
def add(inventory: Inventory, order: CommandGiven) -> Step:
    """Save the configuration as it stands; what waits for the next boot is in it.

    The next boot uses it: an earlier choice of another one is taken back.
    """
    name = _name(order)
    if name == FACTORY or name in inventory.configs:
        raise AlreadyExists(what=_WHAT, name=name)
    waits = bool(inventory.reconf)
    inventory = inventory.put("configs", name, snapshot(inventory, name)).drop("marks", "next")
    if not waits:
        inventory = inventory.put("marks", "current", Mark(name))
    return done(inventory, order)


@command("set-spconfig")
def select(inventory: Inventory, order: CommandGiven) -> Step:
    """Have the next boot restore a configuration; told are the domains that it does not know."""
    name = _known(inventory, _name(order))
    config = inventory.configs.get(name)
    kept = {d.uuid for d in config.domains} if config else set()
    lost = [d.name for d in inventory.sorted_domains() if not d.control and d.uuid not in kept]
    say = f"Notice: the next boot removes LDom {', '.join(lost)}: not in {name}" if lost else ""
    return done(inventory.put("marks", "next", Mark(name)), order, say=say)


@command("remove-spconfig")
def remove(inventory: Inventory, order: CommandGiven) -> Step:
    """Delete a saved configuration that the next boot does not need."""
    name = _name(order)
    if name == FACTORY:
        raise InvalidValue(what="config-name", value=name, why="it is always there")
    _known(inventory, name)
    selected = inventory.marks.get("next")
    if selected and selected.value == name:
        raise InUse(what=_WHAT, name=name, user="the next boot; select another (set-spconfig)")
    return done(inventory.drop("configs", name), order)
