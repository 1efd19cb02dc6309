"""Rules on virtual disks: servers, volumes, and the storage behind them."""

from collections.abc import Iterator

from lodom.core.rules.case import Case, DiskFacts, VolumeFacts
from lodom.core.rules.form import Found, Severity, found, rule
from lodom.core.rules.storage import Verdict, compare

HOLDING = ("active", "bound")


def _target_volume(case: Case, disk: DiskFacts) -> VolumeFacts | None:
    return next(
        (v for v in case.target.volumes if (v.service, v.volume) == (disk.service, disk.volume)),
        None,
    )


def _pairs(case: Case) -> Iterator[tuple[DiskFacts, VolumeFacts]]:
    """The disks whose volume the target can open; of the others R25 and R26 say enough."""
    for disk in case.domain.disks:
        volume = _target_volume(case, disk)
        if volume and not volume.backend.problem:
            yield disk, volume


@rule("R25", states=HOLDING)
def disk_server_missing(case: Case) -> Iterator[Found]:
    """A disk server that the domain uses does not exist on the target.

    Why:
        A disk finds its volume by the names of server and volume; both must be known there.
        Switches are R31, the console is R35.

    Remedy:
        On the target: ldm add-vds SERVICE primary, then ldm add-vdsdev BACKEND VOLUME@SERVICE.

    Example:
        The disk is vol1@primary-vds1, the target has primary-vds0 only: refused.

    Sentence:
        All virtual I/O services that the domain uses are available on the target.
    """
    missing = {d.service: d for d in case.domain.disks}
    for service, disk in sorted(missing.items()):
        if service not in case.target.disk_servers:
            yield found(
                f"Virtual disk server {service}, used by disk {disk.name}, does not exist on "
                f"{case.target.machine.name}",
                remedy=f"On {case.target.machine.name}: ldm add-vds {service} primary",
                service=service,
            )


@rule("R26", states=HOLDING)
def volume_unavailable(case: Case) -> Iterator[Found]:
    """A volume is not exported on the target, cannot be used there, or another domain has it.

    Why:
        The guest's disk is opened on the target under the same volume name of the same server.
        Any number of domains may have a volume that is exported with options=ro.

    Remedy:
        On the target: ldm add-vdsdev BACKEND VOLUME@SERVICE, with the back end that leads to the
        same storage; its path may differ.

    Example:
        The disk is vol1@primary-vds0, the target's primary-vds0 has vol2 only: refused.

    Sentence:
        Each logical volume used in the source domain is also available on the target.
    """
    target = case.target.machine.name
    for disk in case.domain.disks:
        if disk.service not in case.target.disk_servers:
            continue  # R25 says so
        volume = _target_volume(case, disk)
        name = f"{disk.volume}@{disk.service}"
        if volume is None:
            yield found(
                f"Volume {name} of disk {disk.name} does not exist on {target}",
                remedy=f"On {target}: ldm add-vdsdev BACKEND {name}",
                volume=name,
                disk=disk.name,
            )
        elif volume.user and "ro" not in volume.options:
            yield found(
                f"Volume {name} of disk {disk.name} is used by LDom {volume.user} on {target}",
                remedy=f"On {target}: remove the disk from LDom {volume.user}, or export the right "
                f"back end as {name}",
                volume=name,
                disk=disk.name,
                user=volume.user,
            )
        elif volume.backend.problem:
            yield found(
                f"Volume {name} of disk {disk.name} cannot be used on {target}: "
                f"{volume.backend.problem}",
                volume=name,
                disk=disk.name,
            )


@rule("R27", states=HOLDING)
def storage_differs(case: Case) -> Iterator[Found]:
    """A volume of that name on the target is other storage, or is not known to be the same.

    Why:
        The guest goes on reading and writing where it left off.  On other storage it loses its
        disk and overwrites what lies there.  Proof of other storage blocks; no proof either way
        is a warning.

    Remedy:
        On the target: ldm remove-vdsdev VOLUME@SERVICE, then ldm add-vdsdev with the back end that
        leads to the same storage.  -f goes on with other storage (R28).

    Example:
        Two LUNs with different WWNs: refused.  A local file on each machine: a warning, unless
        their file systems or sizes are known to differ.  Each image below a qcow2 image counts.
        A file that was replaced under the running domain, by mv or rsync: refused.

    Sentence:
        Each logical volume refers to the same storage on both machines.
    """
    for disk, volume in _pairs(case):
        evidence = compare(disk.backend, volume.backend)
        name = f"{disk.volume}@{disk.service}"
        if evidence.verdict is Verdict.UNKNOWN:
            yield found(
                f"Whether {name} of disk {disk.name} is the same storage on "
                f"{case.target.machine.name} cannot be known: {evidence.why}",
                remedy="Compare the two back ends by hand before you go on.",
                severity=Severity.WARNING,
                volume=name,
                disk=disk.name,
                evidence="unknown",
            )
        elif evidence.verdict is Verdict.OTHER and not case.force:
            yield found(
                f"{name} of disk {disk.name} is other storage on {case.target.machine.name}: "
                f"{evidence.why}",
                volume=name,
                disk=disk.name,
                evidence="other",
            )


@rule("R28", severity=Severity.WARNING, states=HOLDING)
def storage_overwritten(case: Case) -> Iterator[Found]:
    """The user forces a migration onto other storage: the guest will read and overwrite it.

    Why:
        The migration will appear to succeed, but the guest cannot reach its own data; a boot disk
        that is other storage makes the domain unusable.

    Remedy:
        Afterwards stop the domain, correct the volume, start it again (R29).

    Example:
        migrate-domain -f with a boot disk whose WWN differs: a warning that names the storage.

    Sentence:
        With other storage behind the boot device the migration appears to succeed, but the domain
        cannot be used.
    """
    for disk, volume in _pairs(case) if case.force else ():
        evidence = compare(disk.backend, volume.backend)
        if evidence.verdict is Verdict.OTHER:
            role = "boot disk" if disk.boot else "disk"
            yield found(
                f"LDom {case.domain.name} will read AND OVERWRITE {disk.volume}@{disk.service} of "
                f"{case.target.machine.name} as its {role} {disk.name}, which is other storage: "
                f"{evidence.why}",
                remedy=_steps(case, disk),
                volume=f"{disk.volume}@{disk.service}",
                disk=disk.name,
                boot=disk.boot,
            )


def _steps(case: Case, disk: DiskFacts) -> str:
    """The three steps of R29, with their names."""
    name = case.domain.target_name
    return (
        f"Then, on {case.target.machine.name}: 1. ldm stop-domain {name}  2. ldm set-vdisk "
        f"volume=VOLUME@{disk.service} {disk.name} {name}, with a volume that is the right "
        f"storage  3. ldm start-domain {name}"
    )


@rule("L16", severity=Severity.WARNING, states=("active",))
def host_cache(case: Case) -> Iterator[Found]:
    """A volume is opened through a host's page cache on one of the machines.

    Why:
        What the source has written lies in its cache when the target begins to read, and what the
        target has cached earlier may be old.  Where the file system is not kept coherent between
        the machines, data is lost.

    Remedy:
        Put the volume on a block device or a file system that can be opened directly (O_DIRECT).

    Example:
        A volume on a tmpfs of the target: a warning, a blocker with strict = true.

    Sentence:
        Lodom's own: volumes are opened past the host's cache where the file system can.
    """
    for disk, volume in _pairs(case):
        sides = ((case.source, disk.backend), (case.target, volume.backend))
        cached = [side.machine.name for side, backend in sides if not backend.direct]
        if cached:
            yield found(
                f"Volume {disk.volume}@{disk.service} of disk {disk.name} goes through the page "
                f"cache of {' and '.join(cached)}",
                severity=Severity.BLOCKER if case.strict else None,
                volume=f"{disk.volume}@{disk.service}",
                machines=cached,
            )


@rule("L17", states=("active",))
def volume_options_differ(case: Case) -> Iterator[Found]:
    """Options or multipath group of a volume differ between the machines.

    Why:
        A running guest knows whether its disk can be written; that must not change under it.  For
        a bound domain it may: it starts anew.

    Remedy:
        On the target: ldm set-vdsdev options=... VOLUME@SERVICE.

    Example:
        Exported read-write on the source and with options=ro on the target: refused.

    Sentence:
        Lodom's own, and that of later releases: options and mpgroup are equal for a running domain.
    """
    for disk, volume in _pairs(case):
        name = f"{disk.volume}@{disk.service}"
        ours, theirs = ",".join(sorted(disk.options)), ",".join(sorted(volume.options))
        if ours != theirs:
            yield found(
                f'Options of volume {name} differ: "{ours}" on {case.source.machine.name}, '
                f'"{theirs}" on {case.target.machine.name}',
                remedy=f"On {case.target.machine.name}: ldm set-vdsdev options={ours} {name}",
                volume=name,
            )
        if disk.mpgroup != volume.mpgroup:
            yield found(
                f'The mpgroup of volume {name} differs: "{disk.mpgroup}" on '
                f'{case.source.machine.name}, "{volume.mpgroup}" on {case.target.machine.name}',
                remedy=f"On {case.target.machine.name}: ldm set-vdsdev options={ours} "
                f"mpgroup={disk.mpgroup} {name}",
                volume=name,
            )
