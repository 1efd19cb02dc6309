"""Virtual I/O: services that a domain gives (vds, vsw, vcc) and devices that a domain has."""

from dataclasses import dataclass

MAX_DEVICES = 24
"""Disks, and network devices, that fit on a guest's bus; an id is below."""


@dataclass(frozen=True)
class Volume:
    """A back end that a disk server exports under a name (``add-vdsdev``)."""

    name: str
    backend: str
    options: tuple[str, ...] = ()
    """Any of ``ro``, ``slice``, ``excl``."""
    mpgroup: str = ""

    @property
    def read_only(self) -> bool:
        """No guest can write to it, so any number may have it."""
        return "ro" in self.options

    @property
    def cdrom(self) -> bool:
        """A guest sees it as a CD: read-only, and an ISO image by its name."""
        return self.read_only and self.backend.lower().endswith(".iso")


@dataclass(frozen=True)
class DiskServer:
    """A vds."""

    name: str
    owner: str
    volumes: tuple[Volume, ...] = ()

    def volume(self, name: str) -> Volume | None:
        """The volume of that name."""
        return next((v for v in self.volumes if v.name == name), None)


@dataclass(frozen=True)
class Switch:
    """A vsw: one Linux bridge, with an uplink when ``net_dev`` is set."""

    name: str
    owner: str
    mac: str
    net_dev: str = ""
    id: int = 0
    default_vlan: int = 1
    pvid: int = 1
    vids: tuple[int, ...] = ()
    mtu: int = 1500
    mode: str = ""


@dataclass(frozen=True)
class Concentrator:
    """A vcc: the console ports of one machine, ``low`` to ``high`` inclusive."""

    name: str
    owner: str
    low: int
    high: int


@dataclass(frozen=True)
class Vdisk:
    """A virtual disk, backed by ``volume`` of disk server ``server``."""

    name: str
    volume: str
    server: str
    id: int
    timeout: int = 0


@dataclass(frozen=True)
class Vnet:
    """A virtual network device on switch ``switch``; ``mtu`` 0 follows the switch."""

    name: str
    switch: str
    mac: str
    id: int
    pvid: int = 0
    vids: tuple[int, ...] = ()
    mtu: int = 0
    mode: str = ""


@dataclass(frozen=True)
class Console:
    """What was asked for a console (``set-vcons``); empty fields take the defaults."""

    service: str = ""
    group: str = ""
    port: int | None = None


@dataclass(frozen=True)
class BoundConsole:
    """The console that a bound domain has."""

    service: str
    group: str
    port: int
