"""Rules on virtual networks: switches, addresses, VLANs."""

from collections.abc import Iterator

from lodom.core.alloc import mac
from lodom.core.rules import lan
from lodom.core.rules.case import Case, NetworkFacts, NicFacts, SwitchFacts
from lodom.core.rules.form import Found, Severity, found, rule

HOLDING = ("active", "bound")


def _attached(case: Case) -> Iterator[tuple[NicFacts, SwitchFacts]]:
    """The network devices whose switch exists on the target."""
    switches = {s.name: s for s in case.target.switches}
    for nic in case.domain.nics:
        if nic.switch in switches:
            yield nic, switches[nic.switch]


@rule("R31", states=HOLDING)
def switch_missing(case: Case) -> Iterator[Found]:
    """The target has no switch of the name that a network device is attached to.

    Why:
        A network device finds its switch by name.

    Remedy:
        On the target: ldm add-vsw net-dev=DEVICE SWITCH primary.

    Example:
        vnet0 is attached to switch-y, no domain of the target provides switch-y: refused.

    Sentence:
        For each virtual network device a switch of the same name exists on the target.
    """
    there = {s.name for s in case.target.switches}
    for nic in case.domain.nics:
        if nic.switch not in there:
            yield found(
                f"Virtual switch {nic.switch}, used by {nic.name}, does not exist on "
                f"{case.target.machine.name}",
                remedy=f"On {case.target.machine.name}: ldm add-vsw {nic.switch} primary",
                vnet=nic.name,
                switch=nic.switch,
            )


@rule("R33", severity=Severity.WARNING, states=HOLDING)
def other_network(case: Case) -> Iterator[Found]:
    """The switches of that name are connected to different networks.

    Why:
        The migration works, but the guest keeps its addresses and may reach nobody. Both machines
        look at what they know already, and send nothing: an uplink on one side only; uplinks in
        different VLANs; no network address in common; one IP address, a gateway's for instance, at
        different MAC addresses. Where one machine has heard the other, or both know a station at
        the same address, it is one network and nothing is said; where too little is known, neither.

    Remedy:
        Give the target's switch an uplink into the same network: ldm set-vsw net-dev=DEVICE SWITCH.
        If the networks are meant to differ, give the guest new addresses when it has moved.

    Example:
        The bridge of the switch has 10.1.0.5/24 on the source and 10.2.0.5/24 on the target: a
        warning.

    Sentence:
        The switches need not be connected to the same network, though the domain can have
        networking problems if they are not.
    """
    ours, theirs = case.source.machine.name, case.target.machine.name
    for nic, switch in _attached(case):
        if nic.uplink != switch.uplink:
            connected, isolated = (ours, theirs) if nic.uplink else (theirs, ours)
            yield found(
                f"Switch {nic.switch} of {nic.name} has an uplink on {connected} and none on "
                f"{isolated}",
                vnet=nic.name,
                switch=nic.switch,
            )
        elif differ := _contradiction(case, nic):
            vlan = f" in VLAN {differ.vlan}" if differ.vlan else ""
            yield found(
                f"Switch {nic.switch} of {nic.name} seems to be on different networks{vlan}: "
                f"{differ.ours} on {ours}, {differ.theirs} on {theirs}",
                vnet=nic.name,
                switch=nic.switch,
                vlan=differ.vlan,
                source=differ.ours,
                target=differ.theirs,
            )


def _contradiction(case: Case, nic: NicFacts) -> lan.Conflict | None:
    """What the machines know against one network behind the switch of *nic*."""
    ours, theirs = case.source.networks.get(nic.switch), case.target.networks.get(nic.switch)
    if not ours or not theirs:
        return None
    guest = mac.form(mac.parse(nic.mac)) if nic.mac else ""
    if lan.same(ours, theirs, "" if guest in case.target.macs else guest):
        return None
    return lan.conflict(ours, theirs, (nic.pvid, *nic.vids))


def _addresses(case: Case) -> Iterator[tuple[str, str]]:
    """(MAC in normal form, whose it is) of the domain, as far as the target uses it too."""
    name = f"LDom {case.domain.name}"
    own = [(case.domain.mac, name)]
    own += [(nic.mac, f"{nic.name} of {name}") for nic in case.domain.nics]
    for address, whose in own:
        normal = mac.form(mac.parse(address)) if address else ""
        if normal in case.target.macs:
            yield normal, whose


@rule("R34")
def address_taken(case: Case) -> Iterator[Found]:
    """A MAC address of the domain, in the automatic range, is in use on the target.

    Why:
        Two machines hand out automatic addresses independently of each other; two devices with one
        address cut each other off.

    Remedy:
        Change the one on the target: ldm set-vnet mac-addr=ADDRESS VNET DOMAIN.

    Example:
        vnet0 has 00:14:4f:f8:12:34, so has a vnet of another domain on the target: refused.

    Sentence:
        MAC addresses of the domain in the automatically allocated range are available on the
        target.
    """
    for address, whose in _addresses(case):
        if mac.automatic(address):
            user = case.target.macs[address]
            yield found(
                f"MAC address {address} of {whose} is in use on {case.target.machine.name} by "
                f"{user}",
                mac=address,
                user=user,
            )


@rule("R42", severity=Severity.NOTE)
def hybrid_not_fulfilled(case: Case) -> Iterator[Found]:
    """A network device asks for NIU hybrid I/O, which the target does not have.

    Why:
        mode=hybrid is a wish: the constraint is kept, the device works as a plain one.

    Remedy:
        None is needed; ldm set-vnet mode= VNET DOMAIN, while it is stopped, takes the wish back.

    Example:
        vnet0 with mode=hybrid: a note.

    Sentence:
        Where the target has no NIU resources the constraint is preserved, but not fulfilled.
    """
    for nic in case.domain.nics:
        if nic.mode == "hybrid":
            yield found(
                f"mode=hybrid of {nic.name} is kept and not fulfilled on "
                f"{case.target.machine.name}",
                vnet=nic.name,
            )


@rule("L18", states=HOLDING)
def vlans_unsupported(case: Case) -> Iterator[Found]:
    """A network device is in VLANs, and the target's kernel cannot filter VLANs.

    Why:
        Without filtering the device would see the frames of all VLANs, or none of its own.

    Remedy:
        Use a target whose kernel has bridge VLAN filtering (ldmd --doctor says so), or take the
        VLANs off: ldm set-vnet pvid=1 vid= VNET DOMAIN.

    Example:
        vnet0 with vid=20,21, a target without VLAN filtering: refused.

    Sentence:
        Lodom's own: what the target cannot give is said before it is needed.
    """
    if case.target.machine.vlans:
        return
    for nic in case.domain.nics:
        if nic.vids or nic.pvid:
            yield found(
                f"{nic.name} uses VLANs, which {case.target.machine.name} cannot filter",
                vnet=nic.name,
                pvid=nic.pvid,
                vids=list(nic.vids),
            )


@rule("L19", severity=Severity.WARNING, states=HOLDING)
def mtu_too_small(case: Case) -> Iterator[Found]:
    """The target's switch has a smaller MTU than the network device, by its record or in fact.

    Why:
        The guest keeps its MTU and sends frames that the switch drops.

    Remedy:
        On the target: ldm set-vsw mtu=SIZE SWITCH.  If its bridge has been given a smaller MTU
        from outside: ip link set BRIDGE mtu SIZE.

    Example:
        vnet0 with 9000, the target's switch with 1500: a warning.

    Sentence:
        Lodom's own: networking problems after the move are said before it.
    """
    for nic, switch in _attached(case):
        target = case.target.machine.name
        seen = case.target.networks.get(switch.name, NetworkFacts())
        mtu = min(switch.mtu, seen.mtu or switch.mtu)
        if nic.mtu > mtu:
            order = f"ldm set-vsw mtu={nic.mtu} {switch.name}"
            if nic.mtu <= switch.mtu:
                order = f"give the bridge of {switch.name} its {switch.mtu} back (ip link set)"
            yield found(
                f"{nic.name} has MTU {nic.mtu}, switch {switch.name} on {target} {mtu}",
                remedy=f"On {target}: {order}",
                vnet=nic.name,
                mtu=nic.mtu,
                switch_mtu=mtu,
            )


@rule("L20", severity=Severity.WARNING)
def manual_address_taken(case: Case) -> Iterator[Found]:
    """A MAC address of the domain that was set by hand is in use on the target.

    Why:
        R34 covers automatic addresses only; a clash of addresses set by hand cuts devices off just
        the same.

    Remedy:
        Change one of the two: ldm set-vnet mac-addr=ADDRESS VNET DOMAIN.

    Example:
        vnet0 has 80:00:33:55:22:66, so has a vnet on the target: a warning.

    Sentence:
        Lodom's own: the specification demands free addresses in the automatic range only.
    """
    for address, whose in _addresses(case):
        if not mac.automatic(address):
            user = case.target.macs[address]
            yield found(
                f"MAC address {address} of {whose}, set by hand, is in use on "
                f"{case.target.machine.name} by {user}",
                mac=address,
                user=user,
            )
