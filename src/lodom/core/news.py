"""What a change of the inventory means to those who watch: states, flags, phases of migrations."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lodom.core.migration import source, target
from lodom.core.model.inventory import Inventory
from lodom.core.views import Live, Moving, flags

DOMAIN, MIGRATION, PROGRESS = "domain", "migration", "progress"

_SHOWN_SOURCE = frozenset(source.Phase) - {
    source.Phase.RELEASED,
    source.Phase.ENDED,
    source.Phase.CONFIRMING,
}
_WELL = (source.Phase.CONFIRMING, target.Phase.RUNNING)


@dataclass(frozen=True)
class News:
    """One thing that changed.  ``kind``: ``domain``, ``migration`` or ``progress``."""

    kind: str
    ldom: str
    data: Mapping[str, Any]


def moving(
    inventory: Inventory, numbers: Mapping[str, Mapping[str, int]] | None = None
) -> dict[str, Moving]:
    """The migrations that lists and flags show, by the UUID of their domain.

    *numbers*: the latest of each copy, by migration.
    """
    known, found = numbers or {}, dict[str, Moving]()
    for out in inventory.outgoing.values():
        if out.phase in _SHOWN_SOURCE:
            found[out.uuid] = Moving(
                "e" if out.doubt else "s", out.host, percent(known.get(out.id, {}))
            )
    for into in inventory.incoming.values():
        if into.phase in target.UNDECIDED or into.phase is target.Phase.OWNED:
            found[into.uuid] = Moving("t", into.source_name, percent(known.get(into.id, {})))
    return found


def percent(numbers: Mapping[str, int]) -> int:
    """How far a copy is, from the driver's numbers; never 100 before it is over."""
    total = numbers.get("total", 0)
    if not total:
        return 0
    left = min(numbers.get("remaining", total), total)
    return min(99, 100 * (total - left) // total)


def news(before: Inventory, after: Inventory) -> tuple[News, ...]:
    """What happened between the two, migrations first: they cause what happens to domains."""
    if before is after:
        return ()
    return (
        *_sides("source", before.outgoing, after.outgoing),
        *_sides("target", before.incoming, after.incoming),
        *_domains(before, after),
    )


def _sides(role: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[News]:
    if before is after:
        return
    for id in sorted({*before, *after}):
        old, new = before.get(id), after.get(id)
        phase = new.phase if new else None
        doubt = bool(new and getattr(new, "doubt", False))
        was_in_doubt = bool(old and getattr(old, "doubt", False))
        if old and old.phase == phase and doubt == was_in_doubt:
            continue
        row: Any = new or old
        data = {
            "migration": id,
            "role": role,
            "peer": row.host if role == "source" else row.source_name,
            "phase": phase.value if phase else "ended",
            "doubt": doubt,
            "began": row.began,
        }
        if new is None:
            well = row.phase in _WELL
            data |= {"result": "done" if well else "failed", "reason": "" if well else row.reason}
        yield News(MIGRATION, row.name, data)


def _domains(before: Inventory, after: Inventory) -> Iterator[News]:
    then, now = _shown(before), _shown(after)
    for uuid in sorted({*then, *now}):
        if then.get(uuid) == now.get(uuid):
            continue
        shown = now.get(uuid)
        name, state, letters = shown or (then[uuid][0], "removed", "")
        yield News(DOMAIN, name, {"uuid": uuid, "state": state, "flags": letters})


def _shown(inventory: Inventory) -> dict[str, tuple[str, str, str]]:
    """(name, state, flags) by UUID."""
    live = Live(moving=moving(inventory))
    return {
        d.uuid: (d.name, d.state.value, flags(d, inventory, live))
        for d in inventory.domains.values()
    }
