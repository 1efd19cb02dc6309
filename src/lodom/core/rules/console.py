"""Rules on the console."""

from collections.abc import Iterator

from lodom.core.rules.case import Case
from lodom.core.rules.form import Found, Severity, found, rule

HOLDING = ("active", "bound")


@rule("R35", states=HOLDING)
def no_console_port(case: Case) -> Iterator[Found]:
    """The target's control domain has no concentrator, or its first one has no free port.

    Why:
        The domain's console gets a free port of that concentrator (R38); ports asked for on the
        source do not count (R36).

    Remedy:
        On the target: ldm add-vcc port-range=5000-5100 primary-vcc0 primary, or widen the range:
        ldm set-vcc port-range=x-y VCC.

    Example:
        The range is 5000-5001 and two domains are bound: refused.

    Sentence:
        A virtual console concentrator exists on the target and has at least one free port.
    """
    console, target = case.target.console, case.target.machine.name
    if not console.vcc:
        yield found(
            f"The control domain of {target} has no virtual console concentrator",
            remedy=f"On {target}: ldm add-vcc port-range=5000-5100 primary-vcc0 primary",
        )
    elif console.free < 1:
        yield found(
            f"Virtual console concentrator {console.vcc} of {target} has no free port in "
            f"{console.low}-{console.high}",
            remedy=f"On {target}: ldm set-vcc port-range={console.low}-{console.high + 100} "
            f"{console.vcc}",
            vcc=console.vcc,
            low=console.low,
            high=console.high,
        )


@rule("R39", states=HOLDING)
def group_taken(case: Case) -> Iterator[Found]:
    """A console group with the name of the target domain exists on the target.

    Why:
        The console of the migrated domain is created in a group named after the domain (R37).

    Remedy:
        Give the domain another name there (ldm migrate-domain DOMAIN HOST:NAME), or rename the
        group on the target: ldm set-vcons group=GROUP DOMAIN.

    Example:
        ldg1 arrives where ldg7 has its console in group ldg1: refused.

    Sentence:
        If there is a conflict with the default group name, the migration fails.
    """
    name = case.domain.target_name
    if name in case.target.groups:
        yield found(
            f"Console group {name} exists already on {case.target.machine.name}", group=name
        )


@rule("R36", severity=Severity.NOTE)
def console_wishes_dropped(case: Case) -> Iterator[Found]:
    """Console port, group and concentrator that were asked for on the source are ignored.

    Why:
        They belong to the concentrator of the source.

    Remedy:
        After the move: ldm set-vcons, while the domain is inactive.

    Example:
        port=5100 on the source; the target gives the lowest free port.

    Sentence:
        Explicit console constraints are ignored during the migration.
    """
    asked = case.domain.constraints.console
    wishes = (("port", asked.port), ("group", asked.group), ("service", asked.service))
    given = [f"{word}={value}" for word, value in wishes if value]
    if given:
        yield found(
            f"The console of LDom {case.domain.name} is set anew on {case.target.machine.name}; "
            f"{' '.join(given)} is not kept",
            asked=given,
        )
