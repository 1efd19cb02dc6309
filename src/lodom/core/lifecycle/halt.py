"""The host goes down: guests are stopped in order, and come back with its next boot.

``stop_all`` marks each domain that it stops (``Domain.halted``).  The mark is durable before any
guest is asked, and ends with the domain's next start, or when it is unbound: a domain that an
administrator stopped stays down.
"""

from dataclasses import replace

from lodom.core import effects as do
from lodom.core.fsm import Effect
from lodom.core.lifecycle import domain as life
from lodom.core.model.domain import Domain, State
from lodom.core.model.inventory import Inventory

_RUNS = (State.STARTING, State.ACTIVE, State.STOPPING)


def stop_all(inventory: Inventory, timeout_s: float) -> tuple[Inventory, list[Effect], list[str]]:
    """Ask every guest at once to shut down; the third part names those that a migration holds.

    ``Settle(life.HALT)`` follows when the last one is down, which is after *timeout_s* at latest:
    then what still runs is ended.  With no effects there was nothing to stop.
    """
    effects: list[Effect] = []
    held = []
    for d in inventory.sorted_domains():
        if d.control or d.state not in _RUNS:
            continue
        if d.migration:
            held.append(d.name)
            continue
        limit = do.SetTimer(f"halt:{d.uuid}", timeout_s)
        if d.state is State.STOPPING and not d.restart:
            effects.append(limit)  # it is going down already, and stays down
            continue
        inventory = inventory.with_domain(
            replace(d, state=State.STOPPING, restart=False, halted=True)
        )
        if d.state is State.ACTIVE:
            effects.append(do.ShutDownGuest(d.uuid, button=True))
        else:
            effects.append(do.DestroyGuest(d.uuid))
        effects.append(limit)
    return inventory, effects, held


def timed_out(inventory: Inventory, d: Domain) -> life.After:
    """The guest was asked and still runs, or would not stop for its administrator."""
    if d.migration or d.state not in (State.ACTIVE, State.STOPPING):
        return inventory, ()
    halted = d.halted or d.state is State.ACTIVE
    inventory = inventory.with_domain(replace(d, state=State.STOPPING, halted=halted))
    return inventory, (do.DestroyGuest(d.uuid),)


def start_all(inventory: Inventory) -> life.After:
    """Start what ``stop_all`` stopped, in the same boot of the host."""
    effects: list[Effect] = []
    for d in _stopped(inventory, State.BOUND):
        inventory, launch = life.launch(inventory, d)
        effects += launch
    return inventory, tuple(effects)


def after_boot(inventory: Inventory) -> Inventory:
    """What ``stop_all`` stopped is to run again: no process of the boot before can be left.

    They are then as after a crash of the host: ``claims.disowned`` and ``life.recovered`` decide.
    """
    for d in _stopped(inventory, State.BOUND, State.STOPPING):
        inventory = inventory.with_domain(
            replace(d, state=State.ACTIVE, halted=False, runtime=None)
        )
    return inventory


def _stopped(inventory: Inventory, *states: State) -> list[Domain]:
    domains = inventory.sorted_domains()
    return [d for d in domains if d.halted and d.state in states and not d.migration]
