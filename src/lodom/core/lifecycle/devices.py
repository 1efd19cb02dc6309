"""Disks and network devices of a running domain: plugged, let go, refused, found again.

A device is asked for (in the constraints) from the order that plugs it until the guest has let it
go: its volume, MAC and number are taken all the while.  After a restart of ldmd what the process
has decides: a device that it lacks was not plugged, or has been let go.
"""

from collections.abc import Iterator
from dataclasses import replace

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.errors import DeviceKept, LodomError, StepFailed
from lodom.core.fsm import Effects
from lodom.core.model.domain import Domain
from lodom.core.model.inventory import Inventory

News = ev.DevicePlugged | ev.DeviceUnplugged | ev.DeviceRefused


def key(uuid: str, place: str) -> str:
    """What the order about the device waits for."""
    return f"device:{uuid}:{place}"


def places(domain: Domain) -> Iterator[tuple[str, str]]:
    """(place, name) of each device that the domain asks for."""
    yield from ((f"disk{d.id}", d.name) for d in domain.constraints.vdisks)
    yield from ((f"nic{n.id}", n.name) for n in domain.constraints.vnets)


def happen(inventory: Inventory, d: Domain, event: News) -> tuple[Inventory, Effects]:
    """What became of a device.

    Without a process its end came first: the next start has what is asked for then.
    """
    error: LodomError | None = None
    name = dict(places(d)).get(event.place, event.place)
    result: dict[str, list[str]] = {}
    match event:
        case ev.DevicePlugged(taken=False):
            result["warnings"] = [
                f"the system of LDom {d.name} has not taken {name} yet; "
                "it finds it when it looks for new devices, or at its next boot"
            ]
        case ev.DeviceUnplugged(_, place) if d.runtime:
            inventory = _without(inventory, d, {place})
        case ev.DeviceRefused(_, place, reason, plug=True) if d.runtime:
            inventory = _without(inventory, d, {place})
            error = StepFailed(what=f"Adding {name} to LDom {d.name}", reason=reason)
        case ev.DeviceRefused(reason=reason, plug=False):
            error = DeviceKept(ldom=d.name, name=name, reason=reason)
        case ev.DeviceUnplugged():
            error = DeviceKept(ldom=d.name, name=name, reason="its process ended meanwhile")
    return inventory, (do.Settle(key(d.uuid, event.place), error, result=result),)


def agreed(
    inventory: Inventory, d: Domain, found: tuple[str, ...] | None
) -> tuple[Inventory, Effects]:
    """The domain with the devices that its process was *found* to have; the rest is cleared."""
    if found is None:
        return inventory, ()
    asked = {place for place, _ in places(d)}
    odd = sorted(asked ^ set(found))
    cleared = tuple(do.UnplugDevice(d.uuid, place, force=True) for place in odd)
    return _without(inventory, d, asked - set(found)), cleared


def _without(inventory: Inventory, d: Domain, gone: set[str]) -> Inventory:
    asked = replace(
        d.constraints,
        vdisks=tuple(x for x in d.constraints.vdisks if f"disk{x.id}" not in gone),
        vnets=tuple(x for x in d.constraints.vnets if f"nic{x.id}" not in gone),
    )
    return inventory.with_domain(replace(d, constraints=asked))
