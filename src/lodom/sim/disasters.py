"""What befalls whole machines: a journal of yesterday, an installation anew; and who cleans up.

Both come with a loss of power.  The administrator does what the documentation says: brings an old
journal up only while the other machines can be asked, takes a domain back from a machine that was
installed anew, and removes what an old journal lists and another machine owns.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from lodom.core.engine import first_inventory
from lodom.core.migration import source
from lodom.core.model.domain import State
from lodom.core.model.inventory import Inventory, Ownership
from lodom.sim.host import Host

if TYPE_CHECKING:
    from lodom.sim.world import World

TOUR_S = 6.0
"""A migration takes about 4 s here."""


def yesterday(world: "World", host: Host) -> None:
    """A copy of the journal is put aside; later the machine comes back with it."""
    aside, instance = host.inventory, host.facts.instance

    def come_back() -> None:
        if host.up and host.facts.instance == instance:
            host.restored = True
            _other_journal(world, host, aside)

    world.later(world.chance.choice((1.0, 5.0, 30.0)), come_back)


def reinstall(world: "World", host: Host) -> None:
    """The machine is installed anew: another instance, with nothing on it."""
    if not host.up:
        return
    machine = replace(host.facts, instance=f"instance-{world.ticket()}")
    fresh = first_inventory(machine, f"uuid-{world.ticket()}", "00:14:4f:f8:ff:02")
    host.restored = False
    host.facts = machine
    _other_journal(world, host, fresh)


def _other_journal(world: "World", host: Host, inventory: Inventory) -> None:
    for listed in (host.inventory, inventory):
        rows = (*listed.outgoing.values(), *listed.incoming.values())
        world.touched |= {*listed.domains, *(row.uuid for row in rows)}
    host.journal_lost(inventory)


def administer(world: "World", host: Host) -> None:
    """Do by hand what only an administrator can decide."""
    for row in host.inventory.outgoing.values():
        if row.phase is source.Phase.CEDED and _gone_for_ever(world, row):
            host.order("recover-domain", ldom=row.name, yes=True)
    if not host.restored:
        return
    if host.inventory.reconf:  # until it is over, nothing can be unbound
        host.order("cancel-operation", operation="reconf", ldom="primary")
    for d in host.inventory.sorted_domains():
        owner = host.inventory.ownership.get(d.uuid)
        if d.control or d.migration or owner is None or owner.owner == host.facts.instance:
            continue
        if d.state is State.INACTIVE:
            host.order("remove-domain", ldoms=[d.name])
        elif d.state is State.BOUND:
            host.order("unbind-domain", ldom=d.name)
        else:
            host.order("stop-domain", ldoms=[d.name], force=True)


def _gone_for_ever(world: "World", row: source.SourceMigration) -> bool:
    """The target knows nothing of this, nor ever will."""
    there = world.hosts[row.host]
    return (
        row.id not in there.inventory.incoming
        and row.uuid not in there.inventory.domains
        and (there.restored or there.facts.instance != row.target)
    )


def heard(world: "World", host: Host) -> dict[str, Ownership]:
    """The highest ownership records that others know of what has no process here.

    An old journal is brought up only where all others can be asked.
    """
    highest: dict[str, Ownership] = {}
    for name, other in world.hosts.items():
        asked = other.up and world.linked(host.facts.name, name)
        if other is host or not (asked or host.restored):
            continue
        for uuid in host.inventory.domains.keys() - host.hypervisor.guests.keys():
            record = other.engine.inventory.ownership.get(uuid)
            if record and (uuid not in highest or record.epoch > highest[uuid].epoch):
                highest[uuid] = record
    return highest


def tour(world: "World", host: Host) -> None:
    """An operator sends a domain from machine to machine, as soon as it has arrived."""
    here = [d.name for d in host.inventory.sorted_domains() if not d.control]
    if not here:
        return
    name = world.chance.choice(here)

    def go_on(hops: int) -> None:
        names = sorted(world.hosts)
        for number, at in enumerate(names):
            d = world.hosts[at].inventory.find(name)
            if d and not d.migration and d.state is State.ACTIVE:
                there = names[(number + 1) % len(names)]
                world.hosts[at].order("migrate-domain", ldom=name, host=there, dry_run=False)
                break
        if hops:
            world.later(TOUR_S, lambda: go_on(hops - 1))

    go_on(2 * len(world.hosts))
