"""What a migration in progress forbids on its two machines (R46 to R49)."""

from lodom.core.errors import Busy
from lodom.core.events import CommandGiven
from lodom.core.migration import source, target
from lodom.core.model.inventory import Inventory

ALWAYS = frozenset({"cancel-operation", "recover-domain", "trust-peer", "stop-guests"})
"""Orders that no migration blocks."""

SOURCE_BARS = (
    *source.BEFORE_CEDED,
    source.Phase.CEDED,
    source.Phase.CLEANING,
    source.Phase.ABORTED,
    source.Phase.RESUMING,
    source.Phase.RESTORING,
)
TARGET_BARS = target.UNDECIDED


def in_progress(inventory: Inventory) -> list[tuple[str, str, str, int]]:
    """Migrations that bar others on this machine: (domain, role, other machine, began).

    *began* is the wall clock of this machine in seconds, 0 in rows of a release that kept none.

    On the source until CEDED has been without an answer for 30 s, on the target until OWNED or
    REFUSED (HANDOVER, "In doubt").
    """
    found = []
    for out in inventory.outgoing.values():
        if out.phase in SOURCE_BARS and not out.doubt:
            found.append((out.name, "source", out.host, out.began))
    for into in inventory.incoming.values():
        if into.phase in TARGET_BARS:
            found.append((into.name, "target", into.source_name, into.began))
    return found


def refuse_while_migrating(inventory: Inventory, order: CommandGiven) -> None:
    """Refuse an order that a migration in progress forbids.

    Raises:
        Busy: it names the migration and its other machine.
    """
    if order.verb in ALWAYS or (order.verb == "migrate-domain" and order.arguments.get("dry_run")):
        return
    for name, role, other, began in in_progress(inventory):
        way = f"to {other}" if role == "source" else f"from {other}"
        hour, minute, second = began // 3600 % 24, began // 60 % 60, began % 60
        since = f" since {hour:02}:{minute:02}:{second:02} UTC" if began else ""
        why = f"a migration of LDom {name} {way} is in progress{since} (R46 to R49)"
        raise Busy(what=order.verb, why=why)
    named = order.arguments.get("ldom") or ""
    for name in [named, *(order.arguments.get("ldoms") or [])]:
        domain = inventory.find(str(name))
        if domain and domain.migration:
            raise Busy(
                what=f"{order.verb} of LDom {name}",
                why="its hand-over to another machine has not ended (ldm list -o status)",
            )
