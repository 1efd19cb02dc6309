"""All that one ldmd knows: its machine, its domains and services, ownership and migrations.

Frozen; a change makes a new inventory that shares the unchanged records.  ``records`` is what the
store keeps: each record is written by compare-and-set, and ``changes`` gives the difference.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from lodom.core.errors import DomainUnknown
from lodom.core.model.devices import Concentrator, DiskServer, Switch
from lodom.core.model.domain import PRIMARY, Domain
from lodom.core.model.host import Machine, Region
from lodom.core.model.saved import Configuration, Mark, Reconfiguration

T = TypeVar("T")


@dataclass(frozen=True)
class Ownership:
    """Who may run a domain: the owner's instance at an epoch that only grows (HANDOVER)."""

    uuid: str
    epoch: int
    owner: str
    macs: tuple[str, ...] = ()
    """MAC addresses that it took along when it left this machine (R34)."""


@dataclass(frozen=True)
class Freed:
    """Memory given back and not yet proved zero; not free until scrubbed."""

    region: Region


TABLES = (
    "domains", "vds", "vsw", "vcc", "ownership", "outgoing", "incoming", "dirty",
    "reconf", "configs", "marks",
)  # fmt: skip


@dataclass(frozen=True)
class Inventory:
    """The whole durable state of one machine.  Mappings are never mutated."""

    machine: Machine
    domains: Mapping[str, Domain] = field(default_factory=dict)
    """By UUID."""
    vds: Mapping[str, DiskServer] = field(default_factory=dict)
    vsw: Mapping[str, Switch] = field(default_factory=dict)
    vcc: Mapping[str, Concentrator] = field(default_factory=dict)
    ownership: Mapping[str, Ownership] = field(default_factory=dict)
    outgoing: Mapping[str, Any] = field(default_factory=dict)
    """Source sides of migrations, by migration id."""
    incoming: Mapping[str, Any] = field(default_factory=dict)
    """Target sides of migrations, by migration id."""
    dirty: Mapping[str, Freed] = field(default_factory=dict)
    reconf: Mapping[str, Reconfiguration] = field(default_factory=dict)
    """The delayed reconfiguration of the control domain, while there is one."""
    configs: Mapping[str, Configuration] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)

    # -- looking up ------------------------------------------------------------------------------

    def named(self, name: str) -> Domain:
        """The domain of that name.

        Raises:
            DomainUnknown: there is none.
        """
        found = self.find(name)
        if found is None:
            raise DomainUnknown(name=name)
        return found

    def find(self, name: str) -> Domain | None:
        """The domain of that name, or nothing."""
        return next((d for d in self.domains.values() if d.name == name), None)

    @property
    def primary(self) -> Domain:
        """The control domain."""
        return self.named(PRIMARY)

    def sorted_domains(self) -> list[Domain]:
        """``primary`` first, then by name: the order of every list."""
        return sorted(self.domains.values(), key=lambda d: (not d.control, d.name))

    def owns(self, uuid: str) -> bool:
        """This machine is the domain's owner, as far as it has heard."""
        record = self.ownership.get(uuid)
        return record is not None and record.owner == self.machine.instance

    # -- changing --------------------------------------------------------------------------------

    def put(self, table: str, key: str, record: object) -> "Inventory":
        """A copy with *record* under *key*."""
        changed: dict[str, Any] = {table: {**getattr(self, table), key: record}}
        return replace(self, **changed)

    def drop(self, table: str, key: str) -> "Inventory":
        """A copy without *key*."""
        kept: dict[str, Any] = {table: {k: v for k, v in getattr(self, table).items() if k != key}}
        return replace(self, **kept)

    def with_domain(self, domain: Domain) -> "Inventory":
        """A copy in which *domain* replaces the one of the same UUID."""
        return self.put("domains", domain.uuid, domain)


@dataclass(frozen=True)
class Change:
    """One record to write: ``before`` is what must stand there now, ``after`` None deletes."""

    table: str
    key: str
    before: object | None
    after: object | None


def changes(before: Inventory, after: Inventory) -> Iterator[Change]:
    """The records in which the two differ, in table order, keys sorted."""
    for table in TABLES:
        old, new = getattr(before, table), getattr(after, table)
        if old is new:
            continue
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                yield Change(table, key, old.get(key), new.get(key))
