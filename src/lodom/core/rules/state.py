"""Rules on state: of the machines, of the domain, and of who owns it."""

from collections.abc import Iterator

from lodom.core.rules.case import Case
from lodom.core.rules.form import Found, Severity, found, rule

_SETTLED = ("inactive", "bound", "active")


@rule("R45")
def delayed_reconfiguration(case: Case) -> Iterator[Found]:
    """A delayed reconfiguration is active on the source or on the target.

    Why:
        The machine's description is about to change; a migration needs it to stand still.

    Remedy:
        Restart that machine, or give the changes up: ldm cancel-operation reconf primary.

    Example:
        ldm set-memory 4G primary waits for the next boot on the target: refused.

    Sentence:
        Any active delayed reconfiguration on the source or the target prevents a migration from
        starting.
    """
    for machine in (case.source.machine, case.target.machine):
        if machine.delayed:
            yield found(
                f"A delayed reconfiguration is active on {machine.name}",
                remedy=f"On {machine.name}: ldm cancel-operation reconf primary",
                machine=machine.name,
            )


@rule("L01")
def no_common_protocol(case: Case) -> Iterator[Found]:
    """The two ldmds share no version of the protocol.

    Why:
        A release speaks with the one before it and the one after it.

    Remedy:
        Upgrade the older ldmd; its guests run on meanwhile.

    Example:
        The source speaks 1 and 2, the target 3 and 4: refused.

    Sentence:
        Lodom's own: the first message between peers carries protocol versions.
    """
    ours, theirs = case.source.machine, case.target.machine
    if not set(ours.protocols) & set(theirs.protocols):
        yield found(
            f"{ours.name} and {theirs.name} share no protocol version: "
            f"{_numbers(ours.protocols)} and {_numbers(theirs.protocols)}",
            source=list(ours.protocols),
            target=list(theirs.protocols),
        )


def _numbers(versions: tuple[int, ...]) -> str:
    return ", ".join(str(v) for v in versions) or "none"


@rule("L02")
def same_machine(case: Case) -> Iterator[Found]:
    """The target has the instance id of the source: it is the same machine, or a clone of it.

    Why:
        Ownership of a domain is recorded by instance; two machines with one id would both be the
        owner.

    Remedy:
        Name another machine.  A cloned machine needs a store of its own: remove the copied one
        there and start ldmd again.

    Example:
        A target made from a disk image of the source: refused.

    Sentence:
        Lodom's own: a peer with our own instance id is a cloned machine.
    """
    if case.source.machine.instance == case.target.machine.instance:
        yield found(
            f"{case.target.machine.name} is the source machine itself, or a clone of it "
            f"(instance {case.target.machine.instance})",
            instance=case.target.machine.instance,
        )


@rule("L03", side="source")
def stale_ownership(case: Case) -> Iterator[Found]:
    """The records of who owns the domain say that this source is not the owner.

    Why:
        A source restored from a backup, or a second copy, still believes that the domain is its
        own.  Running it twice would destroy its disks.

    Remedy:
        ldm recover-domain DOMAIN on this machine shows what the records say and what is safe.

    Example:
        The target knows the domain at epoch 5, this source at epoch 3: refused.

    Sentence:
        Lodom's own: a target's record above the source's, or of another owner at the same epoch,
        is a stale source.
    """
    source, target, name = case.source, case.target, case.domain.name
    if source.owner != source.machine.instance:
        yield found(
            f"{source.machine.name} is not the owner of LDom {name} (epoch {source.epoch})",
            epoch=source.epoch,
            owner=source.owner,
        )
    elif target.epoch > source.epoch or (
        target.epoch == source.epoch and target.owner not in ("", source.owner)
    ):
        yield found(
            f"{target.machine.name} knows LDom {name} at epoch {target.epoch}, "
            f"{source.machine.name} at epoch {source.epoch}: this source is stale",
            source_epoch=source.epoch,
            target_epoch=target.epoch,
            target_owner=target.owner,
        )


@rule("L04")
def name_taken(case: Case) -> Iterator[Found]:
    """Another domain on the target has the name.

    Why:
        Names are unique on a machine.  The same domain in an old configuration is no clash: its
        constraints are replaced.

    Remedy:
        Give it another name there: ldm migrate-domain DOMAIN HOST:NAME.

    Example:
        Both machines have a domain ldg1: refused.

    Sentence:
        Lodom's own: the specification is silent on a name clash.
    """
    name = case.domain.target_name
    if name in case.target.names:
        yield found(
            f"A domain named {name} exists already on {case.target.machine.name}", name=name
        )


@rule("L05")
def same_domain_bound(case: Case) -> Iterator[Found]:
    """The target has this very domain (same UUID), and not inactive.

    Why:
        A second copy that holds resources may be running; only an inactive one can be replaced.

    Remedy:
        On the target: ldm stop-domain DOMAIN and ldm unbind-domain DOMAIN, if that copy is stale.

    Example:
        A saved configuration of the target was restored and bound the domain again: refused.

    Sentence:
        Lodom's own: at no moment do two copies run.
    """
    if case.target.known_state not in ("", "inactive"):
        yield found(
            f"{case.target.machine.name} has LDom {case.domain.name} itself "
            f"(UUID {case.domain.uuid}), {case.target.known_state}",
            uuid=case.domain.uuid,
            state=case.target.known_state,
        )


@rule("L06", side="source")
def domain_not_settled(case: Case) -> Iterator[Found]:
    """The domain is on its way from one state to another, or an operation holds it.

    Why:
        What is checked now must still be true when the domain moves.

    Remedy:
        Wait until it is inactive, bound or active (ldm list DOMAIN), or end the operation:
        ldm cancel-operation migration DOMAIN.

    Example:
        The domain is stopping: refused.

    Sentence:
        Lodom's own; while a migration is in progress all operations on the domain are blocked.
    """
    domain = case.domain
    if domain.locked_by:
        yield found(f"LDom {domain.name} is held by {domain.locked_by}", by=domain.locked_by)
    elif domain.state not in _SETTLED:
        yield found(f"LDom {domain.name} is {domain.state}", state=domain.state)


@rule("L07")
def migration_under_way(case: Case) -> Iterator[Found]:
    """A migration is in progress on one of the machines.

    Why:
        A migration binds a domain on its target and removes one on its source, and both are
        blocked while another is in progress.  Two that cross fail at once instead of waiting for
        each other.

    Remedy:
        Wait until it ends (ldm list -o status), or cancel it where it was started: ldm
        cancel-operation migration DOMAIN.

    Example:
        ldg2 is arriving on the target: ldg1 has to wait.

    Sentence:
        While a migration is in progress on a machine, operations such as bind and stop on other
        domains are blocked (R49).
    """
    for machine in (case.source.machine, case.target.machine):
        for other in machine.migrations:
            way = "to" if other.role == "source" else "from"
            yield found(
                f"A migration of LDom {other.domain} {way} {other.peer} is in progress on "
                f"{machine.name}",
                machine=machine.name,
                domain=other.domain,
                role=other.role,
            )


@rule("L23", severity=Severity.WARNING)
def next_boot_removes(case: Case) -> Iterator[Found]:
    """The next boot of the target restores a configuration that does not know the domain.

    Why:
        set-spconfig has selected it there; the boot sets the domains as they were when it was
        saved, and one that arrived since is gone.

    Remedy:
        On the target, once the domain is there: ldm add-spconfig NAME.  It saves the configuration
        with the domain, and the next boot uses it.

    Example:
        ldm set-spconfig factory-default was given on the target: a warning.

    Sentence:
        Lodom's own: what the domain will lose is said before it moves.
    """
    name, target = case.target.boots_without, case.target.machine.name
    if name:
        yield found(
            f"The next boot of {target} restores the configuration {name}, without "
            f"LDom {case.domain.name}",
            remedy=f"on {target}, after the migration: ldm add-spconfig NAME",
            config=name,
        )
