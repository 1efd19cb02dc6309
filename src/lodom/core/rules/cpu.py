"""Rules on processors and strands."""

from collections.abc import Iterator

from lodom.core.rules.case import Case, MachineFacts
from lodom.core.rules.form import Found, Severity, found, rule

RUNNABLE = ("active", "bound")


def _mhz(hertz: int | None) -> str:
    return f"{hertz / 1_000_000:.0f} MHz" if hertz else "unknown"


@rule("R03", states=("active",))
def processors_differ(case: Case) -> Iterator[Found]:
    """Source and target have different processors, or the same at different frequencies.

    Why:
        A running guest has measured its processor once and trusts it: instructions, caches, and
        the rate at which its clock counts.

    Remedy:
        Choose a target with the same processor and frequency, or stop and unbind the domain: an
        inactive one may go anywhere.  An unknown value is set in machine.toml, section [machine].

    Example:
        UltraSPARC-T2 at 1165 MHz to UltraSPARC-T2 at 1415 MHz: refused.

    Sentence:
        Both machines run the same type of processor at the same frequency.
    """
    ours, theirs = case.source.machine, case.target.machine
    for what, mine, other in (
        ("type", _type(ours), _type(theirs)),
        ("frequency", _frequency(ours), _frequency(theirs)),
    ):
        words = f"{ours.name} has {mine}, {theirs.name} has {other}"
        if "unknown" in (mine, other):
            yield found(
                f"The processor {what} cannot be compared: {words}",
                severity=Severity.WARNING,
                source=mine,
                target=other,
            )
        elif mine != other:
            yield found(f"The processor {what} differs: {words}", source=mine, target=other)


def _type(machine: MachineFacts) -> str:
    return machine.processor or "unknown"


def _frequency(machine: MachineFacts) -> str:
    # Exact to the Hz: nominal frequencies of equal hosts are equal.
    return f"{machine.frequency_hz / 1_000_000:.15g} MHz" if machine.frequency_hz else "unknown"


@rule("R04", states=RUNNABLE)
def strands_short(case: Case) -> Iterator[Found]:
    """The target has fewer free strands than the domain uses.

    Why:
        A domain keeps its number of strands when it moves; strands are never shared.

    Remedy:
        Free strands on the target (ldm remove-vcpu, ldm unbind-domain), or take some from the
        domain first: ldm set-vcpu NUMBER DOMAIN.

    Example:
        The domain uses 16 strands, 12 are free on the target: refused.

    Sentence:
        The target has enough free strands for all that the domain has in use.
    """
    free = sum(len(core.free) for core in case.target.cores)
    wanted = case.domain.strands
    if free < wanted:
        yield found(
            f"Not enough free strands on {case.target.machine.name}: {wanted} needed, {free} free",
            wanted=wanted,
            free=free,
        )


@rule("R05", states=("active",), releases=("1.2",))
def whole_cores_short(case: Case) -> Iterator[Found]:
    """Enough strands are free on the target, but not on cores that are wholly free.

    Why:
        A migrated domain gets whole cores; a core that another domain shares does not count.

    Remedy:
        Empty partly used cores on the target (ldm remove-vcpu from the domains whose strands
        ldm list-bindings shows there), or set rules = "3.x" on both machines.

    Example:
        The domain uses 6 strands; of two cores of 4 one has a single strand taken: refused.

    Sentence:
        Full cores are allocated for the migrated domain.
    """
    wanted, cores = case.domain.strands, case.target.cores
    free = sum(len(core.free) for core in cores)
    whole = [core for core in cores if len(core.free) == len(core.strands)]
    usable = sum(len(core.strands) for core in whole)
    if usable < wanted <= free:
        yield found(
            f"Not enough free cores on {case.target.machine.name}: {wanted} strands needed on "
            f"whole cores, {len(whole)} free cores with {usable} strands ({free} strands free)",
            wanted=wanted,
            usable=usable,
            free_cores=[core.id for core in whole],
        )


@rule("R09", side="source", states=("active",), releases=("1.2",))
def cannot_shrink(case: Case) -> Iterator[Found]:
    """The domain has several strands and its guest cannot give them up.

    Why:
        The domain is shrunk to one strand before it moves, by CPU DR through the guest agent.

    Remedy:
        Install and start qemu-guest-agent in the guest, or give the domain one strand while it is
        stopped (ldm set-vcpu 1 DOMAIN), or set rules = "3.x" on both machines.

    Example:
        Two strands and no agent answers: refused.  One strand and no agent: moved.

    Sentence:
        The domain has a single strand, or its guest supports CPU DR so that it can be shrunk to
        one.
    """
    domain, agent = case.domain, case.domain.agent
    if domain.strands > 1 and not (agent.answers and agent.cpu_dr):
        why = (
            "its guest cannot take CPUs off line" if agent.answers else "its guest agent is silent"
        )
        yield found(
            f"LDom {domain.name} has {domain.strands} strands and cannot be shrunk to one: {why}",
            strands=domain.strands,
            agent=agent.answers,
        )


@rule("R11", side="source", states=("active",), releases=("1.2",))
def cpus_are_held(case: Case) -> Iterator[Found]:
    """Processes bound to CPUs, or a processor set, would make the removal of a CPU fail.

    Why:
        A CPU with bound threads cannot be taken off line without breaking what its owner asked
        for; neither can the last CPU of a processor set.  The dry run asks the guest.

    Remedy:
        Unbind the threads in the guest (taskset -p, or the service's CPUAffinity) or dissolve the
        processor set (cpuset), then try again.  Where the agent forbids the look, allow
        guest-exec or guest-file-read in its configuration.

    Example:
        A process is bound to CPU 3 of 4: "cpu has bound thread".

    Sentence:
        What makes a CPU DR removal fail makes the migration fail, for instance processes bound to
        CPUs and processor sets.
    """
    domain, agent = case.domain, case.domain.agent
    if domain.control or domain.strands < 2 or not (agent.answers and agent.cpu_dr):
        return  # of a control domain R24 says enough
    if not agent.bindings_known:
        yield found(
            f"Whether CPUs of LDom {domain.name} have bound threads cannot be known: "
            "its guest agent does not allow the look",
            severity=Severity.BLOCKER if case.strict else Severity.WARNING,
            known=False,
        )
    for cpu, threads in agent.bound:
        many = "s" if threads > 1 else ""
        yield found(
            f"Removing cpu {cpu} would fail, reason: cpu has bound thread{many}",
            cpu=cpu,
            threads=threads,
        )
    for name in agent.emptied_sets:
        yield found(
            f"Shrinking to one cpu would fail, reason: last online cpu in processor set {name}",
            processor_set=name,
        )


@rule("L22", severity=Severity.NOTE, side="source", states=("active",), releases=("1.2",))
def runs_on_one_strand(case: Case) -> Iterator[Found]:
    """The guest runs on one strand while it is copied.

    Why:
        The rules of 1.2 shrink the domain before it moves.  The copy is live, so the guest works
        on, at the speed of one strand; the others come back on the target.

    Remedy:
        None is needed; rules = "3.x" on both machines keeps all strands during the copy.

    Example:
        A domain with 8 strands: a note in the dry run.

    Sentence:
        Lodom's own: a dry run says what the guest will feel.
    """
    if case.domain.strands > 1:
        yield found(
            f"LDom {case.domain.name} will run on one of its {case.domain.strands} strands "
            "during the copy",
            strands=case.domain.strands,
        )
