"""``recover-domain``: what is known of a hand-over in doubt, and what may be done."""

from collections.abc import Mapping
from typing import Final

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.commands.form import Step
from lodom.core.migration import source
from lodom.core.model.domain import Domain
from lodom.core.model.inventory import Inventory


def recover(inventory: Inventory, order: ev.CommandGiven) -> Step:
    """``recover-domain``: what is known of a hand-over in doubt, and the one safe action.

    Without ``yes`` it only tells; with it the engine carries the action out.
    """
    domain = inventory.named(order.arguments["ldom"])
    row = inventory.outgoing.get(domain.migration)
    if row is None or row.phase is not source.Phase.CEDED:
        lines = [f"LDom {domain.name} is {domain.state}; no hand-over of it is in doubt."]
        if row is not None:
            lines.append(f"Its migration to {row.host} is in phase {row.phase}; it ends by itself.")
            lines += _hangs(row, domain)
        return Step(inventory, (do.Reply(order.request, {"lines": lines, "action": ""}),))
    elsewhere = _elsewhere(row, order.heard)
    if order.arguments.get("yes"):
        return Step(inventory, waits=f"{'drop' if elsewhere else 'recover'}:{row.id}")
    owner = inventory.ownership[domain.uuid]
    heard = (
        f"{row.host} answers, and does not know this migration (reinstalled, or another journal)"
        if row.unknown
        else f"{row.host} has not answered since the hand-over"
    )
    here = "gone" if row.gone else "stopped, complete, never run since"
    lines = [
        f"LDom {domain.name} was handed over to {row.host} (migration {row.id}).",
        f"Journal here:  CEDED, epoch {owner.epoch} belongs to instance {owner.owner}.",
        f"Process here:  {here}.",
        f"Target:        {heard}.",
    ]
    if elsewhere:
        lines.append(f"Elsewhere:     {elsewhere}.")
        action = f"give the copy of LDom {domain.name} here up: it has run on another machine since"
        return Step(inventory, (do.Reply(order.request, {"lines": lines, "action": action}),))
    lines += [
        f"Others:        {', '.join(sorted(order.heard)) or 'nobody'} could say who owns it.",
        "Unknown:       whether the target has set the domain running, and written to its disks.",
        "If the target comes back, the two end this by themselves; nothing needs to be done.",
    ]
    action = (
        f"take LDom {domain.name} back and start it here anew from its disks, as after a power "
        f"loss, ONLY IF {row.host} is off for ever or was reinstalled, and has not sent the domain "
        "on; if the domain runs there or elsewhere, two copies would write the same disks"
    )
    return Step(inventory, (do.Reply(order.request, {"lines": lines, "action": action}),))


def _hangs(row: source.SourceMigration, domain: Domain) -> list[str]:
    """The way out where the migration waits for a process, which no order of ours can end."""
    if row.phase not in _WAITS or domain.runtime is None:
        return []
    pid, then = domain.runtime.pid, _WAITS[row.phase]
    return [f"If it stays there for minutes, process {pid} hangs: end it (kill -9 {pid}); {then}."]


_ANEW = "the domain is then started here anew from its disks"
_WAITS: Final[Mapping[source.Phase, str]] = {
    source.Phase.ABORTED: _ANEW,
    source.Phase.RESUMING: _ANEW,
    source.Phase.CLEANING: "the domain runs on the target",
}


def _elsewhere(row: source.SourceMigration, heard: Mapping[str, tuple[int, str]]) -> str:
    """Who says that another machine has had the domain since the hand-over; empty if nobody.

    A higher epoch, which only follows on OWNED; or the target's own record, once it has ended the
    migration: before that it may still cede back.  Others may have the epoch of CEDED from here.
    """
    for peer, (epoch, owner) in sorted(heard.items()):
        taken = row.unknown and peer == row.host and (epoch, owner) == (row.epoch + 1, row.target)
        if taken or (epoch > row.epoch + 1 and owner != row.source):
            return f"{peer} says that epoch {epoch} belongs to instance {owner}"
    return ""
