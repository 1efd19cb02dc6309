"""``recover-domain``: what is known of a hand-over in doubt, and what may be done."""

from collections.abc import Mapping

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.commands.form import Step
from lodom.core.migration import source, steps
from lodom.core.model.domain import Domain
from lodom.core.model.inventory import Inventory


def recover(inventory: Inventory, order: ev.CommandGiven) -> Step:
    """``recover-domain``: what is known of a hand-over in doubt, and the one safe action.

    Without ``yes`` it only tells; with it the engine carries the action out.
    """
    domain = inventory.named(order.arguments["ldom"])
    row = inventory.outgoing.get(domain.migration)
    if row is None or row.phase is not source.Phase.CEDED:
        lines, action = _not_in_doubt(domain, row)
        if row is not None and action and order.arguments.get("yes"):
            return Step(inventory, waits=f"recover:{row.id}")
        return Step(inventory, (do.Reply(order.request, {"lines": lines, "action": action}),))
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


def _not_in_doubt(domain: Domain, row: source.SourceMigration | None) -> tuple[list[str], str]:
    """What is known, and the one action, which is needed only if the process here hangs."""
    lines = [f"LDom {domain.name} is {domain.state}; no hand-over of it is in doubt."]
    if row is None:
        return lines, ""
    where = f"Its migration to {row.host} is in phase {row.phase}"
    if not row.doubt or domain.runtime is None:
        return [*lines, f"{where}; it ends by itself."], ""
    hung = f"process {domain.runtime.pid}"
    lines.append(f"{where}, and {hung} has not done what it was told for {steps.DOUBT_S:.0f} s.")
    if row.phase is source.Phase.CLEANING:
        ends = f"It was told to end, by SIGKILL too.  LDom {domain.name} runs on {row.host}."
        return [*lines, ends], ""
    lines.append("If it answers again, the migration ends by itself.")
    return lines, (
        f"end {hung} (SIGKILL) and start LDom {domain.name} here anew from its disks, as after a "
        "power loss; this machine owns it"
    )


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
