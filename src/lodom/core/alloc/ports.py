"""Console ports of a concentrator (vcc)."""

from collections.abc import Collection

from lodom.core.model.devices import Concentrator
from lodom.core.model.domain import PRIMARY
from lodom.core.model.inventory import Inventory


def taken(inventory: Inventory, vcc: str) -> dict[int, str]:
    """Ports of concentrator *vcc* in use, and the group that each belongs to."""
    consoles = (d.bindings.console for d in inventory.domains.values() if d.bindings)
    return {c.port: c.group for c in consoles if c and c.service == vcc}


def first_free(vcc: Concentrator, used: Collection[int]) -> int | None:
    """The lowest port of *vcc* that is not in *used*."""
    return next((p for p in range(vcc.low, vcc.high + 1) if p not in used), None)


def first_vcc(inventory: Inventory) -> Concentrator | None:
    """The first concentrator, by name, of the control domain (R38)."""
    primary = inventory.find(PRIMARY)
    owners = {PRIMARY, primary.uuid if primary else PRIMARY}
    mine = [c for c in inventory.vcc.values() if c.owner in owners]
    return min(mine, key=lambda c: c.name, default=None)
