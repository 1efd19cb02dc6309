"""Rules on what the hypervisors must have in common.  All of them are Lodom's own."""

from collections.abc import Iterator
from itertools import takewhile

from lodom.core.rules.case import Case, FileFacts
from lodom.core.rules.form import Found, Severity, found, rule

HOLDING = ("active", "bound")


@rule("L08", states=HOLDING)
def machine_type_unknown(case: Case) -> Iterator[Found]:
    """The target's hypervisor does not know the machine type that the domain was started with.

    Why:
        The machine type fixes what hardware the guest sees; it is kept from its first start on.

    Remedy:
        Upgrade QEMU on the target, or unbind the domain: it gets a new machine type when it is
        bound and started again.

    Example:
        The domain runs on pc-q35-10.0, the target offers up to pc-q35-8.2: refused.

    Sentence:
        Lodom's own: no cause may first show as an error during the copy.
    """
    platform, there = case.domain.platform, case.target.machine.hypervisor
    if platform and platform.machine_type not in there.machine_types:
        yield found(
            f"LDom {case.domain.name} needs machine type {platform.machine_type}, which "
            f"{case.target.machine.name} (QEMU {there.version or 'unknown'}) does not have",
            machine_type=platform.machine_type,
            offered=list(there.machine_types),
        )


@rule("L09", states=("active",))
def cpu_features_missing(case: Case) -> Iterator[Found]:
    """The target cannot give all CPU features that the source gives its guests.

    Why:
        A guest that has found a feature uses it for ever; on the target it would die of it.

    Remedy:
        Choose a target with these features, or unbind the domain and move it inactive.

    Example:
        The source has avx2, the target has not: refused.

    Sentence:
        Lodom's own, beside the processor type of R03.
    """
    ours, theirs = (m.machine.hypervisor for m in (case.source, case.target))
    missing = sorted(set(ours.cpu_features) - set(theirs.cpu_features))
    if missing:
        yield found(
            f"{case.target.machine.name} lacks CPU features of {case.source.machine.name}: "
            f"{', '.join(missing)}",
            missing=missing,
        )


@rule("L10", states=("active",))
def cpu_model_of_host(case: Case) -> Iterator[Found]:
    """The domain's CPU model copies its host, and the hosts' CPUs are not known to be equal.

    Why:
        host and max mean whatever the machine has; only a named model is the same everywhere.

    Remedy:
        Set a named CPU model for the domain while it is stopped, then start it again.

    Example:
        CPU model host, and the features of the target differ or are unknown: refused.

    Sentence:
        Lodom's own: a domain has an expanded CPU model from its first start on.
    """
    platform = case.domain.platform
    if platform is None or platform.cpu_model.partition(",")[0] not in ("host", "max"):
        return
    ours, theirs = (m.machine.hypervisor for m in (case.source, case.target))
    if not ours.cpu_features or set(ours.cpu_features) != set(theirs.cpu_features):
        yield found(
            f"CPU model {platform.cpu_model} of LDom {case.domain.name} means different CPUs on "
            f"{case.source.machine.name} and {case.target.machine.name}",
            cpu_model=platform.cpu_model,
        )


@rule("L11", states=("active",))
def accelerators_differ(case: Case) -> Iterator[Found]:
    """The machines run their guests in different ways: one under KVM, one by emulation.

    Why:
        The two keep other state of a CPU; a running guest does not survive the change.

    Remedy:
        Make KVM work on both (ldm -V says why it is not used), or stop the domain before it moves.

    Example:
        KVM on the source, emulation on the target: refused.

    Sentence:
        Lodom's own: no cause may first show as an error during the copy.
    """
    ours, theirs = (m.machine.hypervisor for m in (case.source, case.target))
    if ours.accelerator != theirs.accelerator:
        yield found(
            f"{case.source.machine.name} runs guests under {ours.accelerator}, "
            f"{case.target.machine.name} under {theirs.accelerator}",
            source=ours.accelerator,
            target=theirs.accelerator,
            reason=theirs.accelerator_reason,
        )


@rule("L12", states=HOLDING)
def firmware_differs(case: Case) -> Iterator[Found]:
    """The target does not have the domain's firmware, or has another build of it.

    Why:
        Firmware is part of the guest's memory; another build may have another size, and its tables
        are other tables.

    Remedy:
        Install the same firmware package on the target.

    Example:
        Firmware bios with another digest on the target: refused.

    Sentence:
        Lodom's own: no cause may first show as an error during the copy.
    """
    name = case.domain.firmware
    ours = case.source.machine.hypervisor.firmware.get(name, "")
    theirs = case.target.machine.hypervisor.firmware.get(name, "")
    if not theirs:
        yield found(f"{case.target.machine.name} has no firmware {name}", firmware=name)
    elif ours != theirs and case.kind == "active":
        yield found(
            f"Firmware {name} differs: {ours or 'unknown'} on {case.source.machine.name}, "
            f"{theirs} on {case.target.machine.name}",
            firmware=name,
            source=ours,
            target=theirs,
        )


@rule("L13", states=HOLDING)
def boot_files_differ(case: Case) -> Iterator[Found]:
    """A kernel or initrd that the domain boots from directly is missing or other on the target.

    Why:
        Both are part of what the process is started with on the target, and the guest's next boot
        takes them from there.

    Remedy:
        Copy the file to the same path on the target.

    Example:
        /boot/guest/vmlinuz has another digest on the target: refused.

    Sentence:
        Lodom's own: no cause may first show as an error during the copy.
    """
    there = {(f.what, f.path): f for f in case.target.files}
    for ours in case.domain.files:
        theirs = there.get((ours.what, ours.path), FileFacts(ours.what, ours.path))
        if theirs.digest and theirs.digest == ours.digest:
            continue
        how = "is another file" if theirs.digest else "does not exist"
        yield found(
            f"{ours.what} {ours.path} of LDom {case.domain.name} {how} on "
            f"{case.target.machine.name}",
            remedy=f"Copy {ours.path} from {case.source.machine.name} to "
            f"{case.target.machine.name}",
            path=ours.path,
            source=ours.digest,
            target=theirs.digest,
        )


@rule("L15", severity=Severity.WARNING, states=("active",))
def hypervisor_older(case: Case) -> Iterator[Found]:
    """The target's hypervisor is of an older release than the source's.

    Why:
        QEMU keeps the way from old to new working; the way back is tested less.

    Remedy:
        Upgrade QEMU on the target.

    Example:
        QEMU 10.0.2 on the source, 8.2.0 on the target: a warning.

    Sentence:
        Lodom's own: a release and the one before it work together in both directions.
    """
    ours, theirs = (m.machine.hypervisor.version for m in (case.source, case.target))
    if ours and theirs and _release(theirs) < _release(ours):
        yield found(
            f"{case.target.machine.name} has QEMU {theirs}, older than {ours} on "
            f"{case.source.machine.name}",
            source=ours,
            target=theirs,
        )


def _release(version: str) -> tuple[int, ...]:
    """(10, 0) of ``10.0.2 (Debian …)``: the last number is a bug-fix release."""
    parts = version.split()[0].split(".")[:2]
    return tuple(int("".join(takewhile(str.isdigit, part)) or 0) for part in parts)
