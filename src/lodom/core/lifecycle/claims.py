"""A journal against the world: what runs here that it does not know, what others own by now.

Source: HANDOVER, restored backups and stale sources.
"""

from collections.abc import Mapping
from dataclasses import replace

from lodom.core import events as ev
from lodom.core.lifecycle import binding
from lodom.core.model.domain import Domain, State
from lodom.core.model.inventory import Inventory, Ownership


def strangers(inventory: Inventory, found: Mapping[str, ev.GuestFound]) -> list[str]:
    """Processes that this journal cannot have started: it is older than what runs here.

    A journal restored from a backup does not know where such a guest's memory lies; to go on could
    give that memory to another domain.
    """
    wrong = []
    for uuid, guest in sorted(found.items()):
        d = inventory.domains.get(uuid)
        if d is None:
            wrong.append(f"process {guest.pid} runs domain {uuid}, which it does not know")
        elif d.runtime and (d.runtime.pid, d.runtime.started) != (guest.pid, guest.started):
            wrong.append(f"process {guest.pid} runs LDom {d.name}; it knows {d.runtime.pid}")
        elif d.state in (State.INACTIVE, State.BOUND) and _has_run(inventory, d, guest):
            wrong.append(f"process {guest.pid} runs LDom {d.name}; it knows it as {d.state}")
    return wrong


def _has_run(inventory: Inventory, d: Domain, guest: ev.GuestFound) -> bool:
    """More than the rest of a start that failed, or a copy that has not been handed over.

    Of a process that takes a copy ``running`` alone says nothing: so is one that does not answer.
    One that was handed over runs before the journal says so, if ldmd ends behind ``cont``.
    """
    if d.migration in inventory.incoming:
        return not inventory.owns(d.uuid) and (guest.status, guest.copy) == ("running", "completed")
    return (guest.status, guest.copy) != ("paused", "none")


def disowned(inventory: Inventory, heard: Mapping[str, Ownership]) -> Inventory:
    """The inventory after other machines told their ownership records: a higher epoch wins.

    A domain that turns out to be another machine's (a journal restored from a backup) holds nothing
    here any more: it is inactive, and ``start-domain`` refuses, until it is removed.
    """
    for uuid, record in heard.items():
        mine = inventory.ownership.get(uuid)
        if mine is None or record.epoch <= mine.epoch:
            continue
        inventory = inventory.put("ownership", uuid, record)
        d = inventory.domains.get(uuid)
        if d and not d.migration and d.bindings:
            inventory, _ = binding.take_back(inventory, d)  # the start scrubs what is dirty
            inventory = inventory.with_domain(
                replace(inventory.domains[uuid], state=State.INACTIVE)
            )
    return inventory
