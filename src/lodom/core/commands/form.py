"""The form of a command: a pure function from inventory and order to inventory and effects.

A handler raises a ``LodomError`` to refuse; nothing has changed then.  One that ends at once puts
its ``Reply`` among the effects; one that starts something long names in ``waits`` the key (a
domain's UUID as a rule) under which the request waits for its end.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lodom.core.effects import Reply
from lodom.core.errors import InvalidValue, NotForControlDomain
from lodom.core.events import CommandGiven
from lodom.core.fsm import Effects
from lodom.core.model.domain import Domain
from lodom.core.model.inventory import Inventory


@dataclass(frozen=True)
class Step:
    """What a handler wants: the inventory after it, effects in order, and who waits for what."""

    inventory: Inventory
    effects: Effects = ()
    waits: str = ""


Handler = Callable[[Inventory, CommandGiven], Step]

COMMANDS: dict[str, Handler] = {}
"""Verb (long name) to handler, filled by the modules of this package."""


def command(verb: str) -> Callable[[Handler], Handler]:
    """Register a handler for *verb*."""

    def register(handler: Handler) -> Handler:
        assert verb not in COMMANDS, verb
        COMMANDS[verb] = handler
        return handler

    return register


def done(inventory: Inventory, order: CommandGiven, *, say: str = "") -> Step:
    """The command has ended; *say* is printed on standard output."""
    return Step(inventory, (Reply(order.request, {"say": say} if say else {}),))


def guest(inventory: Inventory, order: CommandGiven) -> Domain:
    """The guest domain that the order names.

    Raises:
        DomainUnknown: there is none of that name.
        NotForControlDomain: it names ``primary``.
    """
    domain = inventory.named(str(order.arguments["ldom"]))
    if domain.control:
        raise NotForControlDomain(verb=order.verb)
    return domain


def number(order: CommandGiven, name: str, *, least: int = 0) -> int:
    """A whole number of the order's arguments.

    Raises:
        InvalidValue: below *least*.
    """
    value = int(order.arguments[name])
    if value < least:
        raise InvalidValue(what=name, value=str(value), why=f"it must be at least {least}")
    return value
