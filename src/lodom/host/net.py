"""Virtual switches as Linux bridges and the taps of guests, in the current network namespace.

A bridge of ours is known by its alias ``lodom MACHINE SWITCH [UPLINK up|down]``: only such a bridge
is ever deleted.  The alias keeps what the uplink was before, so that it is put back whoever lives
to do it.  Names are made of machine and switch, so that two machines in one namespace do not meet.
Nothing outside our own links is changed, sysctls included.
"""

import fcntl
import hashlib
import os
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

from lodom.core.errors import InUse, NotSupported, StepFailed
from lodom.host import uplink
from lodom.host.links import Link, device, find, links, netlink

DEFAULT_VLAN = 1
_TUNSETIFF = 0x400454CA
_TAP_FLAGS = 0x0002 | 0x1000 | 0x4000  # IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
_UNTAGGED_PVID = 0x02 | 0x04  # BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED


@dataclass(frozen=True)
class Tap:
    """A tap: it exists as long as someone has its descriptor open.  Close it when handed on."""

    name: str
    fd: int


def bridge_name(machine: str, switch: str) -> str:
    """The name of the bridge that ldmd makes for a vsw: 15 characters, the same for ever."""
    return f"lb-{_digest(machine, switch)}"


def tap_name(machine: str, uuid: str, index: int) -> str:
    """The name of the tap for network device *index* of a domain."""
    return f"lt-{_digest(machine, uuid, str(index))}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


# -- switches -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Switched:
    """The bridge of a vsw, and what its administrator should know of it."""

    bridge: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Held:
    """A NIC in a bridge of ours, and whether it was up before."""

    name: str
    up: bool


async def make_switch(
    machine: str, switch: str, *, net_dev: str = "", mtu: int = 1500, mac: str = "", vlans: bool
) -> Switched:
    """Have the bridge of a vsw; safe to repeat, and changes one that is there.

    *net_dev* an existing bridge: that one, as it is.  A NIC: a bridge of ours with the NIC in it.
    Empty: a bridge of ours without uplink.  *vlans*: what ``can_filter_vlans`` found.

    Raises:
        InvalidValue, InUse: *net_dev* cannot be the uplink (``host.uplink``); nothing is changed.
        StepFailed: the kernel refused; all is as it was.
    """
    async with netlink(f"making the bridge of {switch}") as ip:
        name = bridge_name(machine, switch)
        wire = await device(ip, net_dev) if net_dev else None
        as_is = wire is not None and uplink.usable_as_is(wire, mtu, name)
        old = await find(ip, name)
        if wire and as_is:
            if old:
                await _drop(ip, old)
            return Switched(wire.name, uplink.notes(wire))
        before = _held(old) if old else None
        same = wire and before and before.name == wire.name and wire.master == name
        wanted = before if same else _Held(wire.name, wire.up) if wire else None
        alias = f"lodom {machine} {switch}"
        try:
            link = await _set_up_bridge(ip, name, alias, mtu, mac, vlans)
            if before and before != wanted:
                await _let_go(ip, link, before)
            if wanted:
                await _hold(ip, link, alias, wanted, vlans)
        except BaseException:
            await _undo(ip, name, old, alias, wanted, vlans)
            raise
        return Switched(name)


async def _set_up_bridge(ip: Any, name: str, alias: str, mtu: int, mac: str, vlans: bool) -> Link:
    """The bridge; an alias that it has already says more than *alias*."""
    if not await find(ip, name):
        # A group address learned by a guest on another machine must reach it after it has moved
        # here: no multicast snooping.
        extra = {"br_vlan_filtering": 1, "br_vlan_default_pvid": DEFAULT_VLAN} if vlans else {}
        await ip.link(
            "add", ifname=name, kind="bridge", br_stp_state=0, br_forward_delay=0,
            br_mcast_snooping=0, **extra,
        )  # fmt: skip
    link = await find(ip, name)
    assert link
    # Set apart: the kernel ignores an alias in the message that makes the link.
    await ip.link(
        "set", index=link.index, ifalias=link.alias or alias, mtu=mtu, **_given(address=mac)
    )
    _quiet(name, accept_ra=0, autoconf=0, addr_gen_mode=1)
    await ip.link("set", index=link.index, state="up")
    return link


def _held(bridge: Link) -> _Held | None:
    words = bridge.alias.split()
    return _Held(words[3], words[4] == "up") if len(words) == 5 else None


async def _hold(ip: Any, bridge: Link, alias: str, nic: _Held, vlans: bool) -> None:
    """Take the NIC into the bridge; what it was is written down first."""
    found = await find(ip, nic.name)
    if not found:
        raise StepFailed(what=f"Attaching {nic.name}", reason="the device has gone")
    state = "up" if nic.up else "down"
    await ip.link("set", index=bridge.index, ifalias=f"{alias} {nic.name} {state}")
    if found.master != bridge.index:
        await ip.link("set", index=found.index, master=bridge.index)
    await ip.link("set", index=found.index, state="up")
    if vlans:
        # The wire is a trunk: each VLAN tagged but the default one.
        await ip.vlan_filter("add", index=found.index, vlan_info={"vid": "2-4094"})


async def _let_go(ip: Any, bridge: Link, nic: _Held) -> None:
    """Put the NIC back to what it was; nothing if somebody else has taken it out meanwhile."""
    found = await find(ip, nic.name)
    if found and found.master == bridge.index:
        if not nic.up:
            await ip.link("set", index=found.index, state="down")
        await ip.link("set", index=found.index, master=0)
    alias = " ".join(bridge.alias.split()[:3])
    await ip.link("set", index=bridge.index, ifalias=alias)


async def _undo(
    ip: Any, name: str, old: Link | None, alias: str, wanted: _Held | None, vlans: bool
) -> None:
    """After a refusal: the bridge and its uplink as *old* says."""
    link = await find(ip, name)
    if not link:
        return
    before = _held(old) if old else None
    if wanted and wanted != before:
        await _let_go(ip, link, wanted)
    if not old:
        await ip.link("del", index=link.index)
        return
    await ip.link("set", index=link.index, mtu=old.mtu, address=old.mac)
    if before:
        await _hold(ip, link, alias, before, vlans)


async def remove_switch(machine: str, switch: str) -> None:
    """Delete the bridge of a vsw if ldmd made it; its uplink is as before.  Safe to repeat."""
    async with netlink("removing a bridge") as ip:
        for link in await links(ip):
            if link.kind == "bridge" and link.alias.split()[:3] == ["lodom", machine, switch]:
                await _drop(ip, link)


async def remove_switches(machine: str, keep: Collection[str] = ()) -> None:
    """Delete every bridge that was made for *machine*, but for those of the switches *keep*."""
    async with netlink("removing a bridge") as ip:
        for link in await links(ip):
            whose, switch = link.alias.split()[:2], link.alias.split()[2:3]
            ours = link.kind == "bridge" and whose == ["lodom", machine]
            if ours and switch and switch[0] not in keep:
                await _drop(ip, link)


async def _drop(ip: Any, bridge: Link) -> None:
    if nic := _held(bridge):
        await _let_go(ip, bridge, nic)
    await ip.link("del", index=bridge.index)


# -- taps ---------------------------------------------------------------------------------------


async def make_tap(
    machine: str,
    uuid: str,
    index: int,
    *,
    bridge: str,
    mtu: int = 1500,
    pvid: int = DEFAULT_VLAN,
    vids: tuple[int, ...] = (),
) -> Tap:
    """A tap in *bridge* for network device *index* of a domain, with virtio headers.

    It goes when the last holder of its descriptor closes it.

    Raises:
        NotSupported: a VLAN other than the default one where the kernel cannot filter.
        InUse: a process still holds the tap of that device.
        StepFailed: the kernel refused; nothing of it is left.
    """
    name, what = tap_name(machine, uuid, index), f"attaching a tap to {bridge}"
    async with netlink(what) as ip:
        master = await find(ip, bridge)
        if not master or master.kind != "bridge":
            raise StepFailed(what=what, reason="there is no such bridge")
        if not master.filters and (pvid != DEFAULT_VLAN or vids):
            why = f"bridge {bridge} does not filter VLANs; the kernel may not be able to"
            raise NotSupported(what="A VLAN other than the default one", why=why)
        fd = _open_tap(name)
        try:
            _quiet(name, disable_ipv6=1)
            link = await find(ip, name)
            assert link, name
            # fe:… is no address that a guest is given, and never the lowest of the bridge.
            mac = "fe:" + ":".join(name[i : i + 2] for i in range(3, 13, 2))
            # The kernel fits a bridge's MTU to its ports: the host's own bridge is to keep it.
            size = mtu if master.alias.startswith("lodom ") else master.mtu
            await ip.link("set", index=link.index, mtu=size, address=mac, master=master.index)
            if master.filters:
                await _tag(ip, link.index, pvid, vids)
            await ip.link("set", index=link.index, state="up")
        except BaseException:
            os.close(fd)
            raise
    return Tap(name, fd)


def _open_tap(name: str) -> int:
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as refused:
        why = f"/dev/net/tun: {refused.strerror}; load the module tun"
        raise NotSupported(what="A network device", why=why) from refused
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP_FLAGS))
    except OSError as refused:
        os.close(fd)
        if refused.errno == 16:  # EBUSY
            raise InUse(what="tap", name=name, user="another process") from refused
        raise StepFailed(what=f"making tap {name}", reason=str(refused.strerror)) from refused
    return fd


async def _tag(ip: Any, index: int, pvid: int, vids: tuple[int, ...]) -> None:
    if pvid != DEFAULT_VLAN:
        await ip.vlan_filter("del", index=index, vlan_info={"vid": DEFAULT_VLAN})
    await ip.vlan_filter("add", index=index, vlan_info={"vid": pvid, "flags": _UNTAGGED_PVID})
    for vid in vids:
        if vid != pvid:
            await ip.vlan_filter("add", index=index, vlan_info={"vid": vid})


# -- what the kernel can ------------------------------------------------------------------------


async def can_filter_vlans() -> bool:
    """A scratch bridge with VLAN filtering can be made."""
    return await _can_make(kind="bridge", br_vlan_filtering=1)


async def can_tag_vlans() -> bool:
    """An 802.1Q device can be made on a scratch bridge."""
    base = f"lq-{os.urandom(6).hex()}"
    async with netlink("probing 802.1Q") as ip:
        await ip.link("add", ifname=base, kind="bridge")
        link = await find(ip, base)
        assert link
        try:
            return await _can_make(kind="vlan", link=link.index, vlan_id=2)
        finally:
            await ip.link("del", index=link.index)


async def _can_make(**link: Any) -> bool:
    name = f"lp-{os.urandom(6).hex()}"
    async with netlink("probing the kernel") as ip:
        try:
            await ip.link("add", ifname=name, **link)
        except NetlinkError as refused:
            if refused.code == 95:  # EOPNOTSUPP
                return False
            raise
        await ip.link("del", ifname=name)
        return True


def _given(**values: str) -> dict[str, str]:
    return {key: value for key, value in values.items() if value}


def _quiet(name: str, **settings: int) -> None:
    """IPv6 settings of one of our links; a kernel without IPv6 has nothing to be quieted."""
    base = Path("/proc/sys/net/ipv6/conf") / name
    if base.is_dir():
        for key, value in settings.items():
            (base / key).write_text(f"{value}\n")
