"""Rules on cryptographic units."""

from collections.abc import Iterator

from lodom.core.rules.case import Case, MachineFacts
from lodom.core.rules.form import Found, Severity, found, rule

FEWEST_STREAMS, MOST_STREAMS = 2, 8


def streams(source: MachineFacts, target: MachineFacts) -> int:
    """Memory streams of a copy: each unit that both control domains have adds one (R02)."""
    both = min(source.primary_crypto, target.primary_crypto)
    return min(FEWEST_STREAMS + both, MOST_STREAMS)


@rule("R02", severity=Severity.NOTE, states=("active",))
def copy_without_units(case: Case) -> Iterator[Found]:
    """Crypto units of both control domains make the copy faster; one of them has none.

    Why:
        The copy is encrypted.  It uses two streams, and one more for each unit that both control
        domains have, at most eight; the factor is an upper bound, as link and CPUs limit it too.

    Remedy:
        On the machine that the note names: ldm set-mau NUMBER primary.

    Example:
        Units 4 and 2: four streams.  No units on one side: two streams, and a note.

    Sentence:
        Migration speeds up when the primary domains of source and target have cryptographic units.
    """
    machines = (case.source.machine, case.target.machine)
    now = streams(*machines)
    for machine, other in zip(machines, reversed(machines), strict=True):
        if machine.primary_crypto:
            continue
        units = max(other.primary_crypto, 1)
        factor = min(FEWEST_STREAMS + units, MOST_STREAMS) / now
        yield found(
            f"The control domain of {machine.name} has no cryptographic units: the copy uses "
            f"{now} streams; with {units} it would be up to {factor:g} times as fast",
            machine=machine.name,
            streams=now,
            factor=factor,
        )


@rule("R43", side="source", states=("active",), releases=("1.2",))
def crypto_and_several_strands(case: Case) -> Iterator[Found]:
    """The domain has crypto units bound and more than one virtual CPU.

    Why:
        Shrinking to one strand takes away CPUs, and a CPU cannot go while the domain holds the
        crypto unit of its core.

    Remedy:
        ldm set-vcpu 1 DOMAIN, which a running guest with an agent can do if one unit is bound; or
        stop the domain, ldm set-mau 0 DOMAIN, and start it.  Then migrate.

    Example:
        One crypto unit and two virtual CPUs: refused.  One and one: moved.

    Sentence:
        A domain with bound cryptographic units and more than one VCPU cannot be migrated.
    """
    domain = case.domain
    if domain.crypto and domain.strands > 1:
        name = domain.name
        stopped = f"ldm stop-domain {name}, ldm set-mau 0 {name}, ldm start-domain {name}"
        shrinks = domain.crypto == 1 and domain.agent.answers and domain.agent.cpu_dr
        yield found(
            f"LDom {name} has {domain.crypto} cryptographic units bound and "
            f"{domain.strands} VCPUs; with units bound only one VCPU can be migrated",
            remedy=f"ldm set-vcpu 1 {name}" if shrinks else stopped,
            crypto=domain.crypto,
            vcpus=domain.strands,
        )


@rule("L21", severity=Severity.WARNING, states=("active", "bound"))
def crypto_not_to_be_had(case: Case) -> Iterator[Found]:
    """The target has fewer free crypto units for the domain than it has bound.

    Why:
        Crypto units do not travel: the domain is given units of the target, if there are any on
        the cores where it gets its strands.  Cores that have free ones are taken first.

    Remedy:
        Free units on the target (ldm set-mau), or go on: the constraint is kept and the guest
        computes without units.

    Example:
        One unit bound, the free one of the target lies in a core that is partly used: a warning.

    Sentence:
        Lodom's own: what the domain will lose is said before it moves.
    """
    wanted, free = case.domain.crypto, case.target.crypto_free
    if free < wanted:
        yield found(
            f"{case.target.machine.name} has {free} free cryptographic units on the cores for "
            f"LDom {case.domain.name}, which has {wanted} bound",
            wanted=wanted,
            free=free,
        )
