"""``ldm-setup guest``: the usual commands for a domain with given images, in one go."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """A domain as it is asked for; sizes as ``ldm`` takes them."""

    name: str
    vcpu: int = 1
    memory: str = "1G"
    disks: Sequence[str] = ()
    cds: Sequence[str] = ()
    switch: str = "primary-vsw0"
    service: str = "primary-vds0"
    firmware: str = ""


def exports(wanted: Wanted) -> list[list[str]]:
    """The volumes that both machines need: ``NAME-disk0``, ``NAME-cd0`` and so on."""
    return [
        ["add-vdsdev", *options, backend, f"{wanted.name}-{disk}@{wanted.service}"]
        for disk, backend, options in _disks(wanted)
    ]


def commands(wanted: Wanted) -> list[list[str]]:
    """All that makes the domain, inactive, and its volumes; disks are tried before CDs."""
    name = wanted.name
    made = [
        *exports(wanted),
        ["add-domain", name],
        ["set-vcpu", str(wanted.vcpu), name],
        ["set-memory", wanted.memory, name],
    ]
    for disk, _, _ in _disks(wanted):
        made.append(["add-vdisk", disk, f"{name}-{disk}@{wanted.service}", name])
    made.append(["add-vnet", "vnet0", wanted.switch, name])
    if wanted.firmware:
        made.append(["set-variable", f"firmware={wanted.firmware}", name])
    return made


def _disks(wanted: Wanted) -> list[tuple[str, str, list[str]]]:
    """(disk, back end, options of its volume)."""
    disks = [(f"disk{n}", backend, list[str]()) for n, backend in enumerate(wanted.disks)]
    cds = [(f"cd{n}", backend, ["options=ro"]) for n, backend in enumerate(wanted.cds)]
    return [*disks, *cds]
