"""What outlives a boot of the machine: changes that wait for it, configurations to restore."""

from dataclasses import dataclass

from lodom.core.model.devices import Concentrator, DiskServer, Switch
from lodom.core.model.domain import Bindings, Constraints, Domain


@dataclass(frozen=True)
class Reconfiguration:
    """The control domain as it is to be after the next boot; one at most, under its name."""

    constraints: Constraints
    bindings: Bindings


@dataclass(frozen=True)
class Configuration:
    """A saved configuration: all domains with what they were given, and all services."""

    name: str
    domains: tuple[Domain, ...] = ()
    vds: tuple[DiskServer, ...] = ()
    vsw: tuple[Switch, ...] = ()
    vcc: tuple[Concentrator, ...] = ()


@dataclass(frozen=True)
class Mark:
    """A single value of the machine: ``boot`` is its boot id as last seen, ``current`` the
    configuration that it came up with or saved last, ``next`` the one of the next boot.
    """

    value: str
