"""Rules on cryptographic units."""

from collections.abc import Iterator

from lodom.core.rules.case import Case
from lodom.core.rules.form import Found, Severity, found, rule


@rule("R43", side="source", states=("active",), releases=("1.2",))
def crypto_and_several_strands(case: Case) -> Iterator[Found]:
    """The domain has crypto units bound and more than one virtual CPU.

    Why:
        Shrinking to one strand takes away CPUs, and a CPU cannot go while the domain holds the
        crypto unit of its core.

    Remedy:
        ldm set-mau 0 DOMAIN, or ldm set-vcpu 1 DOMAIN, then migrate.

    Example:
        One crypto unit and two virtual CPUs: refused.  One and one: moved.

    Sentence:
        A domain with bound cryptographic units and more than one VCPU cannot be migrated.
    """
    domain = case.domain
    if domain.crypto and domain.strands > 1:
        yield found(
            f"LDom {domain.name} has {domain.crypto} cryptographic units bound and "
            f"{domain.strands} VCPUs; with units bound only one VCPU can be migrated",
            remedy=f"ldm set-mau 0 {domain.name}",
            crypto=domain.crypto,
            vcpus=domain.strands,
        )


@rule("L21", severity=Severity.WARNING, states=("active", "bound"))
def crypto_not_to_be_had(case: Case) -> Iterator[Found]:
    """The target has fewer free crypto units than the domain has bound.

    Why:
        Crypto units do not travel: the domain is given units of the target, if there are any.

    Remedy:
        Free units on the target (ldm set-mau), or go on: the constraint is kept and the guest
        computes without units.

    Example:
        One unit bound, none free on the target: a warning.

    Sentence:
        Lodom's own: what the domain will lose is said before it moves.
    """
    wanted, free = case.domain.crypto, case.target.crypto_free
    if free < wanted:
        yield found(
            f"{case.target.machine.name} has {free} free cryptographic units, "
            f"LDom {case.domain.name} has {wanted} bound",
            wanted=wanted,
            free=free,
        )
