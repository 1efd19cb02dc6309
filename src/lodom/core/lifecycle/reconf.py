"""Delayed reconfiguration: what the control domain cannot change while it runs waits for a boot.

Memory, crypto units and I/O buses of ``primary`` are not dynamic in 1.2.  Such an order is carried
out on paper: the same handler works on the machine as it will be, and what it makes of ``primary``
is kept beside the domain until the machine boots.  Strands are dynamic, but join the queue once
there is one.  Services are software here and always change at once.

A machine without guests and saved configurations is being set up: there all changes are made at
once (*configuration mode*).  Source: ldm-cli digest 2.12, 3.2; rules R45 and R46.
"""

from dataclasses import replace
from typing import Final

from lodom.core.commands.form import Handler, Step, done
from lodom.core.errors import Busy, WrongState
from lodom.core.events import CommandGiven
from lodom.core.lifecycle.factory import everything
from lodom.core.lifecycle.halt import after_boot
from lodom.core.model.domain import PRIMARY, Domain, State
from lodom.core.model.inventory import Inventory
from lodom.core.model.saved import Configuration, Mark, Reconfiguration

FACTORY: Final = "factory-default"

_KINDS = ("memory", "mau", "io")
DELAYED: Final = frozenset(f"{verb}-{kind}" for verb in ("add", "set", "remove") for kind in _KINDS)
"""Orders about ``primary`` that wait for a boot."""
QUEUED: Final = DELAYED | {"add-vcpu", "set-vcpu", "remove-vcpu"}
"""Orders about ``primary`` that wait once others do."""
UNCONCERNED: Final = frozenset(
    {"start-domain", "stop-domain", "panic-domain", "cancel-operation", "recover-domain"}
    | {"migrate-domain"}
)
"""Orders about other domains that a delayed reconfiguration leaves alone; R45 judges a move."""

BEGUN: Final = (
    "Initiating delayed reconfigure operation on LDom primary. All configuration changes for "
    "other LDoms are disabled until the LDom reboots, at which time the new configuration for "
    "LDom primary will also take effect."
)
GOES_ON: Final = (
    "Notice: LDom primary is in the process of a delayed reconfiguration. Any changes made to "
    "this LDom will only take effect after it reboots."
)


def pending(inventory: Inventory) -> Domain | None:
    """The control domain as it will be; None unless a delayed reconfiguration is active."""
    wanted = inventory.reconf.get(PRIMARY)
    if wanted is None:
        return None
    primary = inventory.primary
    return replace(primary, constraints=wanted.constraints, bindings=wanted.bindings)


def configuring(inventory: Inventory) -> bool:
    """Nothing depends on the machine yet: no guest, no saved configuration."""
    return not inventory.configs and all(d.control for d in inventory.domains.values())


def ordered(inventory: Inventory, order: CommandGiven, handler: Handler) -> Step:
    """What *handler* makes of *order*, now or at the next boot.

    Raises:
        Busy: another domain's configuration while the control domain's waits.
        LodomError: of the handler.
    """
    names = [str(n) for n in (order.arguments.get("ldom"), *order.arguments.get("ldoms", ())) if n]
    waiting = bool(inventory.reconf)
    if names == [PRIMARY]:
        if (waiting and order.verb in QUEUED) or (
            order.verb in DELAYED and not configuring(inventory)
        ):
            return _delayed(inventory, order, handler)
    elif waiting and order.verb not in UNCONCERNED and (names or order.arguments.get("all")):
        raise Busy(
            what=f"Delayed reconfiguration of LDom {', '.join(names) or '-a'}",
            why="LDom primary is in the process of a delayed reconfiguration",
        )
    return handler(inventory, order)


def _delayed(inventory: Inventory, order: CommandGiven, handler: Handler) -> Step:
    before = pending(inventory)
    shadow = inventory.with_domain(before) if before else inventory
    after = handler(shadow, order).inventory.primary
    if after == shadow.primary:
        return done(inventory, order, say=GOES_ON if before else "")
    record = Reconfiguration(after.constraints, after.bound)
    say = GOES_ON if before else BEGUN
    return done(inventory.put("reconf", PRIMARY, record), order, say=say)


def cancel(inventory: Inventory, order: CommandGiven) -> Step:
    """``cancel-operation reconf``: the control domain stays as it is.

    Raises:
        WrongState: nothing of the domain waits.
    """
    domain = inventory.named(str(order.arguments["ldom"]))
    if not domain.control or not inventory.reconf:
        raise WrongState(name=domain.name, why="is not in a delayed reconfiguration")
    return done(inventory.drop("reconf", PRIMARY), order)


# -- the boot -----------------------------------------------------------------------------------


def booted(inventory: Inventory, boot: str) -> Inventory:
    """The inventory at a start of ldmd under boot id *boot*.

    In a new boot the selected configuration is restored, or else what waited is applied.  Memory
    that was to be scrubbed is gone with the boot before: the kernel gives out zeroed pages only.
    """
    seen = inventory.marks.get("boot")
    if seen and seen.value == boot:
        return inventory
    inventory = inventory.put("marks", "boot", Mark(boot))
    if seen is None:
        return inventory
    inventory = after_boot(replace(inventory, dirty={}))
    selected = inventory.marks.get("next")
    # A hand-over in doubt holds strands and blocks: the choice then waits for another boot.
    if selected and not inventory.outgoing and not inventory.incoming:
        return restored(inventory, selected.value)
    changed = pending(inventory)
    return inventory.with_domain(changed).drop("reconf", PRIMARY) if changed else inventory


def restored(inventory: Inventory, name: str) -> Inventory:
    """Domains and services as the configuration has them; ownership records stay (HANDOVER)."""
    config = inventory.configs.get(name) or _factory(inventory)
    domains = {d.uuid: _revived(inventory, d) for d in config.domains}
    inventory = replace(
        inventory,
        domains=domains,
        vds={s.name: s for s in config.vds},
        vsw={s.name: s for s in config.vsw},
        vcc={s.name: s for s in config.vcc},
        reconf={},
    )
    return inventory.put("marks", "current", Mark(config.name)).drop("marks", "next")


def _factory(inventory: Inventory) -> Configuration:
    constraints, bindings = everything(inventory.machine)
    primary = replace(inventory.primary, constraints=constraints, bindings=bindings)
    return Configuration(FACTORY, (primary,))


def _revived(inventory: Inventory, domain: Domain) -> Domain:
    """A saved domain; without resources where the machine lacks them or another one owns it."""
    if domain.control or (inventory.owns(domain.uuid) and _there(inventory, domain)):
        return domain
    return replace(domain, state=State.INACTIVE, bindings=None)


def _there(inventory: Inventory, domain: Domain) -> bool:
    """The machine still has all that the domain was given."""
    machine, given = inventory.machine, domain.bindings
    if given is None:
        return True
    return (
        {v.pid for v in given.vcpus} <= {s.pid for s in machine.strands}
        and set(given.crypto) <= {u.id for u in machine.crypto}
        and set(given.io) <= {b.name for b in machine.buses}
        and all(
            any(r.base <= b.pa and b.pa + b.size <= r.end for r in machine.regions)
            for b in given.blocks
        )
    )


def snapshot(inventory: Inventory, name: str) -> Configuration:
    """The configuration as it stands, with what waits for the control domain."""
    control = pending(inventory) or inventory.primary
    domains = (_kept(control if d.control else d) for d in inventory.sorted_domains())
    return Configuration(
        name,
        tuple(domains),
        tuple(inventory.vds[k] for k in sorted(inventory.vds)),
        tuple(inventory.vsw[k] for k in sorted(inventory.vsw)),
        tuple(inventory.vcc[k] for k in sorted(inventory.vcc)),
    )


_SAVED_AS: Final = {
    State.STARTING: State.ACTIVE,
    State.STOPPING: State.BOUND,
    State.BINDING: State.INACTIVE,
    State.UNBINDING: State.INACTIVE,
}


def _kept(domain: Domain) -> Domain:
    """The domain without what concerns its process or a migration."""
    state = State.INACTIVE if domain.migration else _SAVED_AS.get(domain.state, domain.state)
    return Domain(
        uuid=domain.uuid,
        name=domain.name,
        mac=domain.mac,
        hostid=domain.hostid,
        state=state,
        agent=domain.control,
        constraints=domain.constraints,
        bindings=None if state is State.INACTIVE else domain.bindings,
    )
