"""Which device may be the uplink of a switch, and why not: facts in, decision out.

An existing bridge is used as it is.  A bare NIC goes into a bridge of ours.  A NIC that the host
itself talks through is refused with the ways out, because in a bridge it would lose its traffic.
"""

from dataclasses import dataclass

from lodom.core.errors import InUse, InvalidValue

LEAST_MTU = 1500
"""Every switch promises at least this to its guests."""


@dataclass(frozen=True)
class Address:
    """An IP address of a device that was not made up by the kernel."""

    text: str
    """With the length of its prefix, as ``ip`` shows it."""
    dynamic: bool = False
    """It has a life time: by DHCP or from a router."""

    @property
    def version6(self) -> bool:
        """IPv6."""
        return ":" in self.text


@dataclass(frozen=True)
class Device:
    """What the kernel and the host's network manager say of a device."""

    name: str
    kind: str = ""
    """``bridge``, ``veth`` …; empty for hardware."""
    up: bool = False
    mtu: int = 1500
    mac: str = ""
    master: str = ""
    alias: str = ""
    loopback: bool = False
    ethernet: bool = True
    wireless: bool = False
    addresses: tuple[Address, ...] = ()
    gateways: tuple[str, ...] = ()
    """Next hops of default routes through it; ``""`` for one without."""
    routes: tuple[str, ...] = ()
    """Other networks that are routed through it, without those of its own addresses."""
    manager: str = ""
    """Who manages it, one of the names of ``RECIPES``; empty if not known."""
    steady: bool = True
    """Its MAC stays.  That of a bridge without a card and without a set one is its guests'."""
    spare: str = "br0"
    """A name that no device of the host has."""


def usable_as_is(device: Device, mtu: int, own: str) -> bool:
    """Whether *device* is a bridge to use as it is; False: a NIC to take into the bridge *own*.

    Raises:
        InvalidValue: it cannot be an uplink, or carries the host's own traffic.
        InUse: it belongs to another bridge or bond, or is the bridge of another switch.
    """
    name = device.name
    if device.loopback:
        raise InvalidValue(what="net-dev", value=name, why="a loopback device has no wire")
    if device.kind == "bridge":
        if device.alias.startswith("lodom "):
            raise InUse(what="net-dev", name=name, user=f"switch {device.alias.split()[2]}")
        if mtu > max(device.mtu, LEAST_MTU):
            raise _small(device, mtu)
        return True
    if device.wireless or not device.ethernet:
        why = "a wireless device" if device.wireless else "a device that is not Ethernet"
        raise InvalidValue(what="net-dev", value=name, why=f"{why} cannot be in a bridge")
    if device.master and device.master != own:
        raise InUse(what="net-dev", name=name, user=device.master)
    if not device.master and (carried := carries(device)):
        raise InvalidValue(what="net-dev", value=name, why=_refusal(device, carried))
    if device.mtu < mtu:
        raise _small(device, mtu)
    return False


def _small(device: Device, mtu: int) -> InvalidValue:
    why = f"{device.name} has {device.mtu}; first: ip link set {device.name} mtu {mtu}"
    return InvalidValue(what="mtu", value=str(mtu), why=why)


def notes(device: Device) -> tuple[str, ...]:
    """What the administrator should know of a bridge that is used as it is."""
    if device.kind != "bridge":
        return ()
    found = []
    if device.mtu < LEAST_MTU:
        found.append(
            f"{device.name} has MTU {device.mtu} and guests expect {LEAST_MTU}: "
            f"ip link set {device.name} mtu {LEAST_MTU}, or set {device.mtu} inside the guests"
        )
    if not device.steady:
        found.append(
            f"the MAC of {device.name} changes as guests come and go, and who talks to this host "
            f"through it loses it for a while: ip link set {device.name} address {device.mac}"
        )
    return tuple(found)


def carries(device: Device) -> str:
    """What of the host's own traffic goes through *device*; empty for a bare one."""
    found = [f"the address {a.text}" for a in device.addresses]
    found += ["the default route"] if device.gateways else []
    found += [f"the route to {network}" for network in device.routes]
    return " and ".join(found)


def _refusal(device: Device, carried: str) -> str:
    """Why, and every way out with the commands to type."""
    ways = sorted(RECIPES, key=lambda name: name != device.manager)
    lines = [
        f"it has {carried} of this host, which a bridge would cut off; nothing was changed.",
        "Name an existing bridge or a device without an address, or give no net-dev at all,",
        f"or make the host a bridge on {device.name}, best from its own console. With",
    ]
    for name in ways:
        here = f" (it manages {device.name} here)" if name == device.manager else ""
        lines += [f"  {name}{here}:", *(f"    {line}" for line in RECIPES[name](device))]
    return "\n".join([*lines, f"then net-dev={device.spare}. Carry over name servers by hand."])


def _networkd(d: Device) -> list[str]:
    """Names that sort before those of a distribution: the first file that matches counts."""
    folder = "/etc/systemd/network/05-"
    mac = f"MACAddress={d.mac}\\n" if d.mac else ""
    lines = [f"Address={a.text}\\n" for a in d.addresses if not a.dynamic]
    lines += [f"Gateway={gateway}\\n" for gateway in d.gateways if gateway and not _dhcp(d)]
    lines += ["DHCP=yes\\n"] if _dhcp(d) else []
    return [
        f"printf '[NetDev]\\nName={d.spare}\\nKind=bridge\\n{mac}' >{folder}{d.spare}.netdev",
        f"printf '[Match]\\nName={d.name}\\n[Network]\\nBridge={d.spare}\\n' "
        f">{folder}{d.name}.network",
        f"printf '[Match]\\nName={d.spare}\\n[Network]\\n{''.join(lines)}' "
        f">{folder}{d.spare}.network",
        "networkctl reload",
    ]


def _ifupdown(d: Device) -> list[str]:
    stanzas = []
    for family, version6 in (("inet", False), ("inet6", True)):
        mine = [a for a in d.addresses if a.version6 == version6]
        if mine and mine[0].dynamic:
            stanzas += [f"iface {d.spare} {family} {'auto' if version6 else 'dhcp'}"]
        elif mine:
            stanzas += [f"iface {d.spare} {family} static", f"  address {mine[0].text}"]
            gates = [g for g in d.gateways if g and (":" in g) == version6]
            stanzas += [f"  gateway {gates[0]}"] if gates else []
    stanzas = stanzas or [f"iface {d.spare} inet manual"]
    return [
        "apt install bridge-utils",
        f"ifdown {d.name}",
        f"in /etc/network/interfaces, instead of the lines of {d.name}:",
        f"  auto {d.spare}",
        f"  {stanzas[0]}",
        f"    bridge_ports {d.name}",
        "    bridge_hw " + (d.mac or d.name),
        *(f"  {line}" for line in stanzas[1:]),
        f"ifup {d.spare}",
    ]


def _network_manager(d: Device) -> list[str]:
    settings = ""
    for family, version6 in (("ipv4", False), ("ipv6", True)):
        mine = [a.text for a in d.addresses if a.version6 == version6 and not a.dynamic]
        gates = [g for g in d.gateways if g and (":" in g) == version6]
        if mine:
            settings += f" {family}.method manual {family}.addresses {','.join(mine)}"
            settings += f" {family}.gateway {gates[0]}" if gates else ""
    mac = f" bridge.mac-address {d.mac}" if d.mac else ""
    return [
        f"nmcli connection add type bridge con-name {d.spare} ifname {d.spare} "
        f"bridge.stp no{mac}{settings}",
        f"nmcli connection add type ethernet con-name {d.spare}-{d.name} ifname {d.name} "
        f"master {d.spare}",
        f"nmcli connection up {d.spare}-{d.name}",
    ]


RECIPES = {
    "systemd-networkd": _networkd,
    "ifupdown": _ifupdown,
    "NetworkManager": _network_manager,
}
"""How a host makes itself a bridge that keeps its address, by the manager of its network."""


def _dhcp(device: Device) -> bool:
    return any(a.dynamic and not a.version6 for a in device.addresses)
