"""``add-domain``, ``set-domain``, ``remove-domain`` and variables."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lodom.core.alloc import mac
from lodom.core.commands.form import Step, command, done, guest
from lodom.core.errors import AlreadyExists, InUse, InvalidValue, ObjectUnknown, WrongState
from lodom.core.events import CommandGiven
from lodom.core.model.domain import PRIMARY, Constraints, Domain, State
from lodom.core.model.inventory import Inventory, Ownership

POLICIES = ("ignore", "panic", "reset", "stop")


def new_mac(inventory: Inventory, order: CommandGiven, taken: Sequence[str] = ()) -> str:
    """A fresh automatic MAC address from the order's candidates.

    Raises:
        InvalidValue: every candidate is in use.
    """
    used = {*mac.in_use(inventory), *mac.taken_along(inventory), *taken}
    found = mac.choose(order.fresh["macs"], used)
    if found is None:
        raise InvalidValue(
            what="MAC address", value="automatic", why="none was free; set one with mac-addr="
        )
    return found


def given_mac(inventory: Inventory, text: str) -> str:
    """A MAC address set by hand, in normal form.

    Raises:
        InvalidValue: malformed or from the automatic range.
        InUse: something on this machine has it.
    """
    if why := mac.refusal(text):
        raise InvalidValue(what="mac-addr", value=text, why=why)
    address = mac.form(mac.parse(text))
    if user := mac.in_use(inventory).get(address):
        raise InUse(what="MAC address", name=address, user=user)
    return address


@command("add-domain")
def add_domain(inventory: Inventory, order: CommandGiven) -> Step:
    """New inactive domains; each gets its UUID, MAC and first ownership record."""
    names = order.arguments["ldoms"]
    for name in names:
        if names.count(name) > 1:
            raise InvalidValue(what="LDom", value=name, why="it is named twice")
    for uuid, name in zip(order.fresh["uuids"], names, strict=False):
        if inventory.find(name):
            raise AlreadyExists(what="LDom", name=name)
        given = order.arguments.get("mac")
        address = given_mac(inventory, given) if given else new_mac(inventory, order)
        hostid = order.arguments.get("hostid")
        constraints = _policy(inventory, Constraints(), name, order.arguments)
        domain = Domain(
            uuid=uuid,
            name=name,
            mac=address,
            hostid=int(hostid) if hostid is not None else mac.hostid(address),
            constraints=constraints,
        )
        inventory = inventory.with_domain(domain).put(
            "ownership", uuid, Ownership(uuid, 1, inventory.machine.instance)
        )
    return done(inventory, order)


@command("set-domain")
def set_domain(inventory: Inventory, order: CommandGiven) -> Step:
    """Change failure policy and masters; MAC address and host id while it does not run."""
    arguments = order.arguments
    domain = inventory.named(arguments["ldom"])
    given, hostid = arguments.get("mac"), arguments.get("hostid")
    if (given or hostid is not None) and domain.state not in (State.INACTIVE, State.BOUND):
        raise WrongState(
            name=domain.name,
            why="is active; its MAC address and host id change only while it is stopped",
        )
    address = domain.mac
    if given and mac.form(mac.parse(given)) != address:
        address = given_mac(inventory, given)
    changed = replace(
        domain,
        mac=address,
        hostid=int(hostid) if hostid is not None else domain.hostid,
        constraints=_policy(inventory, domain.constraints, domain.name, arguments),
    )
    return done(inventory.with_domain(changed), order)


def _policy(
    inventory: Inventory, constraints: Constraints, name: str, arguments: Any
) -> Constraints:
    policy = arguments.get("failure_policy") or constraints.failure_policy
    if policy not in POLICIES:
        raise InvalidValue(
            what="failure-policy", value=policy, why=f"it is one of {', '.join(POLICIES)}"
        )
    masters = tuple(arguments.get("masters", constraints.masters) or ())
    if len(masters) > 4:
        raise InvalidValue(what="master", value=",".join(masters), why="at most four masters")
    for master in masters:
        if master != PRIMARY:
            inventory.named(master)
        if _depends(inventory, master, name):
            raise InvalidValue(
                what="master",
                value=master,
                why=f'dependency cycle: LDom "{name}" is a master of "{master}" already',
            )
    return replace(constraints, failure_policy=policy, masters=masters)


def _depends(inventory: Inventory, slave: str, master: str) -> bool:
    """*slave* is *master*, or has it among its masters, however far up."""
    found = inventory.find(slave)
    above = found.constraints.masters if found else ()
    return slave == master or any(_depends(inventory, m, master) for m in above)


@command("remove-domain")
def remove_domain(inventory: Inventory, order: CommandGiven) -> Step:
    """Forget inactive domains; their ownership records stay (HANDOVER, Names)."""
    names = order.arguments.get("ldoms") or []
    if order.arguments.get("all"):
        names = [d.name for d in inventory.sorted_domains() if not d.control]
    for name in names:
        one = replace(order, arguments={"ldom": name})
        domain = guest(inventory, one)
        if domain.state is not State.INACTIVE:
            raise WrongState(name=name, why=f"is {domain.state}; stop and unbind it first")
        inventory = inventory.drop("domains", domain.uuid)
    return done(inventory, order)


@command("set-variable")
def set_variable(inventory: Inventory, order: CommandGiven) -> Step:
    """Set variables; an empty value clears one.  They count from the next start."""
    domain = guest(inventory, order)
    values = dict(domain.constraints.variables)
    for name, value in order.arguments["variables"]:
        if name == "firmware":
            _check_firmware(inventory, value)
        if value:
            values[name] = value
        else:
            values.pop(name, None)
    constraints = replace(domain.constraints, variables=tuple(sorted(values.items())))
    return done(inventory.with_domain(replace(domain, constraints=constraints)), order)


def _check_firmware(inventory: Inventory, value: str) -> None:
    known = {"bios", *inventory.machine.hypervisor.firmware}
    if value and value not in known:
        why = f"this machine has {', '.join(sorted(known))}"
        if value == "uefi":
            why += "; install the package ovmf and restart ldmd"
        raise InvalidValue(what="firmware", value=value, why=why)


@command("add-variable")
def add_variable(inventory: Inventory, order: CommandGiven) -> Step:
    """Set variables that are not set yet."""
    domain = guest(inventory, order)
    for name, _ in order.arguments["variables"]:
        if name in dict(domain.constraints.variables):
            raise AlreadyExists(what="Variable", name=name)
    return set_variable(inventory, order)


@command("remove-variable")
def remove_variable(inventory: Inventory, order: CommandGiven) -> Step:
    """Forget variables."""
    domain = guest(inventory, order)
    values = dict(domain.constraints.variables)
    for name in order.arguments["names"]:
        if name not in values:
            raise ObjectUnknown(what="Variable", name=name)
        del values[name]
    constraints = replace(domain.constraints, variables=tuple(sorted(values.items())))
    return done(inventory.with_domain(replace(domain, constraints=constraints)), order)
