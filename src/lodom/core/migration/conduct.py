"""Beginning migrations on either side, and what their steps do to the inventory."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.alloc import mac
from lodom.core.commands.form import Step
from lodom.core.errors import (
    Busy,
    CannotCancel,
    GuestHangs,
    InvalidValue,
    MigrationFailed,
    MigrationInDoubt,
    MigrationRefused,
)
from lodom.core.fsm import Effect, Effects, Event
from lodom.core.lifecycle import binding, reconf
from lodom.core.lifecycle import domain as life
from lodom.core.lifecycle.spec import guest_spec
from lodom.core.migration import doubt, source, steps, target
from lodom.core.migration.guard import in_progress
from lodom.core.migration.orders import CheckTarget, ReserveAsked, TargetChecked
from lodom.core.migration.ownership import stale
from lodom.core.migration.shell import shell
from lodom.core.model.domain import Domain, Runtime, State
from lodom.core.model.inventory import Inventory, Ownership
from lodom.core.rules.case import (
    BackendFacts,
    Case,
    DomainFacts,
    FileFacts,
    MachineFacts,
    MigrationFacts,
    NetworkFacts,
    SourceFacts,
    release,
)
from lodom.core.rules.catalogue import judge, refused
from lodom.core.rules.crypto import streams as streams
from lodom.core.rules.drawing import draw
from lodom.core.rules.facts import domain_facts, machine_facts, source_facts, target_facts
from lodom.core.rules.form import REGISTRY, Finding, Severity

BOOKKEEPING = (
    steps.LockDomain,
    steps.Own,
    steps.UnlockDomain,
    steps.ForgetDomain,
    steps.HoldShell,
    steps.AdoptShell,
)

# -- orders -------------------------------------------------------------------------------------


def migrate(inventory: Inventory, order: ev.CommandGiven) -> Step:
    """``migrate-domain``: have both machines checked; the rest follows from the answer.

    Raises:
        DomainUnknown: no such domain.
    """
    args = order.arguments
    domain = inventory.named(args["ldom"])
    check = CheckTarget(
        request=order.request,
        uuid=domain.uuid,
        host=args["host"],
        user="" if args.get("certificates") else args.get("user") or "",
        target_name=args.get("target") or domain.name,
        force=bool(args.get("force")),
        dry_run=bool(args.get("dry_run")),
    )
    return Step(inventory, (check,))


def to_itself(inventory: Inventory, check: CheckTarget) -> MigrationRefused:
    """The answer to who named this machine as the target (L02); nobody needs to be asked."""
    domain, mine = inventory.domains[check.uuid], own_facts(inventory)
    what = domain_facts(inventory, domain, target_name=check.target_name)
    case = Case(what, source_facts(inventory, domain, mine), target_facts(inventory, what, mine))
    return MigrationRefused(
        name=domain.name,
        verdict="would fail if attempted" if check.dry_run else "failed",
        findings=tuple(REGISTRY["L02"].judge(case)),
        rules=release(mine, mine),
    )


def cancel(inventory: Inventory, order: ev.CommandGiven) -> Step:
    """``cancel-operation migration``: end it, in every phase before CEDED.

    Raises:
        CannotCancel: there is none, it is the target's side, or it is too late.
        WrongState: the control domain's reconfiguration was named, and there is none.
    """
    if order.arguments["operation"] == "reconf":
        return reconf.cancel(inventory, order)
    name = order.arguments["ldom"]
    for into in inventory.incoming.values():
        if into.name == name and into.phase in target.UNDECIDED:
            raise CannotCancel(
                name=name, why=f"run the command on the source machine {into.source_name}"
            )
    domain = inventory.named(name)
    row = inventory.outgoing.get(domain.migration)
    if row is None or row.phase in (source.Phase.RELEASED, source.Phase.CONFIRMING):
        raise CannotCancel(name=name, why="no migration of it is in progress")
    if row.phase not in source.BEFORE_CEDED:
        why = "it has been handed over to the target"
        if row.phase in (source.Phase.ABORTED, source.Phase.RESUMING, source.Phase.RESTORING):
            why = "it is being given up already"
        raise CannotCancel(name=name, why=why)
    return Step(inventory, waits=f"cancel:{row.id}")


ORDERS: Mapping[str, Callable[[Inventory, ev.CommandGiven], Step]] = {
    "migrate-domain": migrate,
    "cancel-operation": cancel,
    "recover-domain": doubt.recover,
}

# -- the source ---------------------------------------------------------------------------------


def _settled(now: Domain, judged: Domain | None) -> bool:
    """The domain is what the rules judged, and nothing is being done with it."""

    def judged_by(d: Domain) -> tuple[object, ...]:
        process = (d.runtime.pid, d.runtime.plugged) if d.runtime else ()
        return (d.name, d.state, d.constraints, d.bindings, process)

    still = now.state in (State.INACTIVE, State.BOUND, State.ACTIVE)
    return still and judged is not None and judged_by(now) == judged_by(judged)


def begin(
    inventory: Inventory, event: TargetChecked, judged: Domain | None
) -> source.SourceMigration | Effect:
    """The source's row of a migration that every rule allows, or the answer to who asked.

    *judged*: the domain as the rules saw it, None when its CPUs are just changing; if it is not
    the same any more, their verdict is void.
    """
    blockers = [f for f in event.findings if f.severity is Severity.BLOCKER]
    domain = inventory.domains.get(event.uuid)
    if domain is None:
        return do.Fail(event.request, InvalidValue(what="domain", value=event.uuid, why="it went"))
    if blockers:
        verdict = "would fail if attempted" if event.dry_run else "failed"
        refusal = MigrationRefused(
            name=domain.name,
            verdict=verdict,
            findings=event.findings,
            drawing=event.drawing,
            rules=event.rules,
        )
        return do.Fail(event.request, refusal)
    if event.dry_run:
        found = {
            "findings": event.findings,
            "domain": domain.name,
            "rules": event.rules,
            **({"streams": event.streams} if domain.state is State.ACTIVE else {}),
        }
        return do.Reply(event.request, found)
    if (busy := in_progress(inventory)) or domain.migration:
        name = busy[0][0] if busy else domain.name
        why = f"a migration of LDom {name} is in progress"
        return do.Fail(event.request, Busy(what="migrate-domain", why=why))
    if inventory.reconf:
        # Begun after this machine's facts went to the target, and barred from now on (R45, R46).
        why = "a delayed reconfiguration has been begun meanwhile"
        return do.Fail(event.request, Busy(what="migrate-domain", why=why))
    if not _settled(domain, judged):
        why = f"LDom {domain.name} is being changed; try again"
        return do.Fail(event.request, Busy(what="migrate-domain", why=why))
    live = domain.state is State.ACTIVE
    bound = domain.bindings
    return source.SourceMigration(
        id=event.migration,
        uuid=domain.uuid,
        name=domain.name,
        target_name=event.target_name,
        source=inventory.machine.instance,
        source_name=inventory.machine.name,
        target=event.target,
        host=event.host,
        peer_port=event.port,
        epoch=inventory.ownership[domain.uuid].epoch,
        live=live,
        streams=event.streams,
        vcpus=bound.vcpus if bound else (),
        cpus=binding.cpu_map(inventory),
        shrink=event.rules == "1.2",
        domain=event.domain,
        began=event.now,
        warnings=tuple(_warning(f) for f in event.findings if f.severity is Severity.WARNING),
    )


def _warning(finding: Finding) -> str:
    """What the user reads when all is done; after a forced move also how to mend it (R29)."""
    return f"{finding.text}. {finding.remedy}" if finding.rule == "R28" else finding.text


_LEFT = (
    "the process of LDom {name} on this machine does not end (flag e): ldm recover-domain {name}"
)


def answers(row: source.SourceMigration, numbers: Mapping[str, int]) -> Effects:
    """What the waiting users hear in the phase that *row* has come to."""
    migration, cancelled = f"migration:{row.id}", f"cancel:{row.id}"
    if row.phase is source.Phase.CONFIRMING or (row.phase is source.Phase.CLEANING and row.doubt):
        left = [_LEFT.format(name=row.name)] if row.doubt else []
        result = {
            "domain": row.name,
            "numbers": {**numbers, "streams": row.streams} if row.live else {},
            "warnings": [*row.warnings, *left],
        }
        given_up = f"The copy of LDom {row.name} here is given up"
        dropped = do.Settle(f"drop:{row.id}", say="; ".join([given_up, *left]))
        return (do.Settle(migration, result=result), dropped)
    if row.phase is source.Phase.CEDED and row.doubt:
        return (do.Settle(migration, MigrationInDoubt(name=row.name, host=row.host)),)
    if row.doubt:
        hangs = GuestHangs(name=row.name, reason=row.reason or "cancelled")
        return tuple(do.Settle(key, hangs) for key in (migration, cancelled, f"recover:{row.id}"))
    if row.phase is source.Phase.RELEASED:
        failed = MigrationFailed(name=row.name, reason=row.reason or "cancelled")
        here = "is started here anew, from its disks" if row.anew or row.gone else "runs here again"
        back = f"LDom {row.name} {here}" if row.taken_back or row.anew else ""
        recovered = do.Settle(f"recover:{row.id}", say=back)
        return (do.Settle(migration, failed), do.Settle(cancelled), recovered)
    return ()


# -- both sides' facts --------------------------------------------------------------------------

PROTOCOLS = (1,)


def own_facts(inventory: Inventory) -> MachineFacts:
    """What this machine says of itself, migrations in progress included."""
    under_way = tuple(MigrationFacts(*found[:3]) for found in in_progress(inventory))
    delayed = bool(inventory.reconf)
    return machine_facts(inventory, protocols=PROTOCOLS, delayed=delayed, migrations=under_way)


def judged(
    inventory: Inventory,
    domain: DomainFacts,
    source: SourceFacts,
    *,
    backends: Mapping[str, BackendFacts],
    files: Iterable[FileFacts],
    force: bool,
    networks: Mapping[str, NetworkFacts] | None = None,
) -> tuple[Finding, ...]:
    """All findings about *domain* coming to this machine as it stands now.

    *networks* serve a warning only: a reservation, which asks for blockers, goes without.
    """
    mine = own_facts(inventory)
    facts = target_facts(
        inventory, domain, mine, backends=backends, files=files, networks=networks,
        whole_cores=domain.state == State.ACTIVE and release(source.machine, mine) == "1.2",
    )  # fmt: skip
    return judge(Case(domain, source, facts, force))


def drawing(inventory: Inventory, domain: DomainFacts, source: SourceFacts) -> str:
    """The map of this machine's memory for a domain that does not fit into it."""
    facts = target_facts(inventory, domain, own_facts(inventory))
    return draw(Case(domain, source, facts))


# -- the target ---------------------------------------------------------------------------------


def too_late(inventory: Inventory, event: ReserveAsked) -> bool:
    """The domain is past this migration, which may have brought it here and been forgotten.

    Not a refusal: that is the final answer no, and the final answer may have been yes.
    """
    message = event.message
    return bool(stale(inventory.ownership, message.uuid, message.epoch, message.source))


def admit(
    inventory: Inventory, event: ReserveAsked
) -> tuple[Inventory, target.TargetMigration] | str:
    """The inventory with the shell, and the target's row; or why not."""
    message, facts = event.message, event.domain
    if busy := in_progress(inventory):
        return f"a migration of LDom {busy[0][0]} is in progress on {inventory.machine.name}"
    found = judged(
        inventory, facts, event.source, backends=event.backends, files=event.files,
        force=event.force,
    )  # fmt: skip
    if refused(found):
        return "; ".join(f.text for f in found if f.severity is Severity.BLOCKER)
    old = inventory.domains.get(message.uuid)
    if old is not None:
        if old.state is not State.INACTIVE or old.migration:
            return (
                f"LDom {old.name} on {inventory.machine.name} has the same UUID and is {old.state}"
            )
        inventory = inventory.drop("domains", old.uuid)
    if inventory.find(message.target_name):
        return f"LDom {message.target_name} already exists on {inventory.machine.name}"
    whole = release(event.source.machine, own_facts(inventory)) == "1.2"
    made = shell(inventory, facts, event.migration, whole_cores=whole)
    if isinstance(made, str):
        return made
    differs = facts.storage_differs or any(f.rule == "R28" for f in found)
    made = replace(made, storage_differs=differs)
    inventory = inventory.with_domain(made)
    bound = made.bindings
    like = Runtime(
        0, 0, event.migration, facts.boot_vcpus, facts.plugged,
        crypto_ports=facts.crypto_ports, disk_ports=facts.disk_ports, nic_ports=facts.nic_ports,
    )  # fmt: skip
    vcpus = bound.vcpus if bound else ()
    row = target.TargetMigration(
        id=event.migration,
        uuid=message.uuid,
        name=made.name,
        source=message.source,
        source_name=message.source_name,
        source_key=event.key,
        target=inventory.machine.instance,
        epoch=message.epoch,
        live=message.live,
        streams=message.streams,
        vcpus=vcpus,
        cpus=binding.cpu_map(inventory),
        spec=guest_spec(inventory, made, like=like) if message.live else None,
        grow=whole and len(vcpus) > 1,
        began=event.now,
        since=event.since,
    )
    return inventory, row


def launched(inventory: Inventory, d: Domain, event: ev.GuestLaunched) -> Domain:
    """The shell with the process that waits for its state."""
    row = inventory.incoming[d.migration]
    assert row.spec is not None
    online = tuple(v.vid for v in (row.vcpus[:1] if row.grow else row.vcpus))
    runtime = Runtime(
        event.pid, event.started, event.home, row.spec.boot_vcpus, row.spec.plugged, online,
        row.spec.crypto_ports, row.spec.disk_ports, row.spec.nic_ports,
    )  # fmt: skip
    return replace(d, runtime=runtime)


# -- bookkeeping --------------------------------------------------------------------------------


def book(inventory: Inventory, e: Effect) -> tuple[Inventory, Effects]:
    """Apply one bookkeeping effect; further effects may follow from it."""
    match e:
        case steps.LockDomain(uuid):
            rows = (r for r in inventory.outgoing.values() if r.uuid == uuid)
            row = next(r for r in rows if r.phase in source.BEFORE_CEDED)
            inventory = _change(_left(inventory, uuid), uuid, migration=row.id)
            # A guest that reboots under the copy goes on (HANDOVER, "The guest has a will").
            return inventory, (do.SetRebootAction(uuid, False),) if row.live else ()
        case steps.Own(uuid, epoch, owner):
            inventory = inventory.put("ownership", uuid, Ownership(uuid, epoch, owner))
            d = inventory.domains.get(uuid)
            if d and d.state is State.ACTIVE and owner != inventory.machine.instance:
                inventory = _change(inventory, uuid, state=State.SUSPENDED)
            return inventory, ()
        case steps.UnlockDomain(uuid, how):
            return _unlock(inventory, uuid, how)
        case steps.ForgetDomain(uuid):
            gone = inventory.domains[uuid]
            inventory, scrubs = binding.take_back(inventory, gone)
            if record := inventory.ownership.get(uuid):  # none: it never was this machine's
                kept = replace(record, macs=tuple(mac.of(gone)))
                inventory = inventory.put("ownership", uuid, kept)
            return inventory.drop("domains", uuid), (do.CloseConsole(uuid), *scrubs)
        case steps.AdoptShell(uuid, how):
            return _adopt(inventory, uuid, how)
        case _:  # HoldShell: the shell came into being with the row
            return inventory, ()


def _left(inventory: Inventory, uuid: str) -> Inventory:
    """The domain leaves again: what brought it here restores no strands any more."""
    for row in inventory.incoming.values():
        if row.uuid == uuid and row.phase is target.Phase.RUNNING:
            if row.confirmed:
                inventory = inventory.drop("incoming", row.id)
            else:
                inventory = inventory.put("incoming", row.id, replace(row, restored=True))
    return inventory


def overtaken(inventory: Inventory, heard: Mapping[str, Ownership]) -> Inventory:
    """Hand-overs of which other machines know more than this journal.

    What came here and was taken back by ``recover-domain`` while this machine was lost: it is over
    for this side, and the domain gone, unless it is on its way to elsewhere.  What this machine
    has given away, by a journal that was restored from before: it is CEDED all the same.
    """
    for out in inventory.outgoing.values():
        record = heard.get(out.uuid)
        if out.phase in source.BEFORE_CEDED and record and record.epoch > out.epoch:
            inventory, _ = book(inventory, steps.Own(out.uuid, record.epoch, record.owner))
            ceded = replace(out, phase=source.Phase.CEDED)
            inventory = inventory.put("outgoing", out.id, ceded)
    for row in inventory.incoming.values():
        record = heard.get(row.uuid)
        if row.phase in (target.Phase.OWNED, target.Phase.RUNNING) and record:
            if record.epoch <= inventory.ownership[row.uuid].epoch:
                continue
            inventory = inventory.drop("incoming", row.id)
            inventory = inventory.put("ownership", row.uuid, record)
            d = inventory.domains.get(row.uuid)
            if d and d.migration in ("", row.id):
                # The start of ldmd scrubs what is dirty, and no console is open yet.
                inventory, _ = book(inventory, steps.ForgetDomain(row.uuid))
    return inventory


def _change(inventory: Inventory, uuid: str, **changed: object) -> Inventory:
    return inventory.with_domain(replace(inventory.domains[uuid], **changed))  # type: ignore[arg-type]


_ENDS: Mapping[str, Callable[[str], Event]] = {
    "gone": ev.GuestGone,
    "off": ev.GuestPoweredOff,
    "panicked": ev.GuestPanicked,
}
"""What becomes of a domain that is an ordinary one again, where it does not just run."""


def _unlock(inventory: Inventory, uuid: str, how: str) -> tuple[Inventory, Effects]:
    d = inventory.domains[uuid]
    state = State.ACTIVE if d.state is State.SUSPENDED else d.state
    d = replace(d, migration="", state=state)
    inventory = inventory.with_domain(d)
    if how in _ENDS:
        return life.happen(inventory, d, _ENDS[how](uuid))
    return inventory, life.reboot_action(d)


def _adopt(inventory: Inventory, uuid: str, how: str) -> tuple[Inventory, Effects]:
    """From shell to ordinary domain; a guest that reboots now ends its R06 and R07 state."""
    row = inventory.incoming[inventory.domains[uuid].migration]
    d = replace(inventory.domains[uuid], migration="")
    if how == "cold":
        return inventory.with_domain(d), ()
    if how == "gone":
        return life.launch(inventory, d)
    d = replace(d, state=State.ACTIVE, running_since=row.since or row.began)
    inventory = inventory.with_domain(d)
    if how in _ENDS:
        return life.happen(inventory, d, _ENDS[how](uuid))
    return inventory, life.reboot_action(d)
