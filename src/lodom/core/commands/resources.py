"""``add-``, ``set-`` and ``remove-`` of strands, memory and crypto units.

On an inactive domain they edit what is asked for; on a bound one they take and give back at once;
on an active one strands are added and removed in the running guest (CPU DR) and the rest is
refused, as in 1.2.
"""

from dataclasses import replace

from lodom.core.alloc import crypto, memory, strands
from lodom.core.commands.form import Step, command, done, number
from lodom.core.effects import SetVcpus
from lodom.core.errors import CpuReconfigurationDisabled, InvalidValue, WrongState
from lodom.core.events import CommandGiven
from lodom.core.lifecycle import binding
from lodom.core.model.domain import Block, Domain, State, Vcpu
from lodom.core.model.host import MAX_MEMORY
from lodom.core.model.inventory import Inventory
from lodom.core.units import format_size, round_up


def _wanted(order: CommandGiven, have: int, amount: int, what: str) -> int:
    """The new amount that add, set or remove leads to.

    Raises:
        InvalidValue: more is to be removed than there is.
    """
    verb = order.verb.partition("-")[0]
    new = {"add": have + amount, "set": amount, "remove": have - amount}[verb]
    if new < 0:
        raise InvalidValue(what=what, value=str(amount), why=f"the domain has {have}")
    return new


def _changeable(domain: Domain, *, active: bool) -> None:
    allowed = {State.INACTIVE, State.BOUND} | ({State.ACTIVE} if active else set())
    if domain.state not in allowed and not domain.control:
        raise WrongState(name=domain.name, why=f"is {domain.state}; stop it first")


# -- strands ------------------------------------------------------------------------------------


@command("add-vcpu")
@command("set-vcpu")
@command("remove-vcpu")
def vcpu(inventory: Inventory, order: CommandGiven) -> Step:
    """Change the number of strands of a domain."""
    domain = inventory.named(order.arguments["ldom"])
    _changeable(domain, active=True)
    have = len(domain.bindings.vcpus) if domain.bindings else domain.constraints.vcpu
    new = _wanted(order, have, number(order, "number"), "number of CPUs")
    if domain.bindings is None:
        return done(_ask(inventory, domain, vcpu=new), order)
    if new < 1:
        raise InvalidValue(what="number of CPUs", value=str(new), why="a bound domain keeps one")
    if domain.bindings.cpu_dr_off and domain.state is State.ACTIVE:
        raise CpuReconfigurationDisabled(name=domain.name)
    kept = _kept(inventory, domain, new)
    _units_in_reach(inventory, domain, kept)
    more = binding.grant_strands(inventory, new - len(kept), own=(v.pid for v in kept))
    used = {v.vid for v in kept}
    vids = (vid for vid in range(len(inventory.machine.strands) + new) if vid not in used)
    vcpus = tuple(sorted((*kept, *(Vcpu(vid, pid) for pid, vid in zip(more, vids, strict=False)))))
    if domain.state is not State.ACTIVE or domain.control:
        if not domain.control:  # slots of a domain that does not run are numbered anew
            vcpus = tuple(Vcpu(vid, v.pid) for vid, v in enumerate(vcpus))
        return done(_bind(_ask(inventory, domain, vcpu=new), domain, vcpus=vcpus), order)
    return _reconfigure(inventory, order, domain, vcpus)


def _kept(inventory: Inventory, domain: Domain, new: int) -> tuple[Vcpu, ...]:
    vcpus = domain.bound.vcpus
    surplus = max(0, len(vcpus) - new)
    cores = crypto.cores_of(inventory.machine, domain.bound.crypto)
    gone = strands.give_back(inventory.machine, vcpus, surplus, keep_cores=cores)
    return tuple(v for v in vcpus if v not in gone)


def _units_in_reach(inventory: Inventory, domain: Domain, kept: tuple[Vcpu, ...]) -> None:
    lost = crypto.out_of_reach(inventory.machine, domain.bound.crypto, (v.pid for v in kept))
    if lost:
        raise WrongState(
            name=domain.name,
            why=f"would lose the cores of its crypto units {', '.join(map(str, lost))}; "
            "remove those first (remove-mau)",
        )


def _reconfigure(
    inventory: Inventory, order: CommandGiven, domain: Domain, vcpus: tuple[Vcpu, ...]
) -> Step:
    """CPU DR.  New strands are the domain's from here on, old ones until the guest let them go."""
    platform = domain.bound.platform
    if platform and len(vcpus) > platform.max_vcpus:
        raise InvalidValue(
            what="number of CPUs",
            value=str(len(vcpus)),
            why=f"the running guest was started for at most {platform.max_vcpus}",
        )
    union = tuple(sorted({*domain.bound.vcpus, *vcpus}))
    change = SetVcpus(domain.uuid, vcpus, binding.cpu_map(inventory))
    inventory = _bind(inventory, domain, vcpus=union)
    return Step(inventory, (change,), waits=domain.uuid)


# -- memory -------------------------------------------------------------------------------------


@command("add-memory")
@command("set-memory")
@command("remove-memory")
def change_memory(inventory: Inventory, order: CommandGiven) -> Step:
    """Change the memory of a domain that does not run; sizes are rounded up to the pool's page."""
    domain = inventory.named(order.arguments["ldom"])
    _changeable(domain, active=False)
    page = inventory.machine.page
    have = (
        sum(b.size for b in domain.bindings.blocks)
        if domain.bindings
        else domain.constraints.memory
    )
    amount = number(order, "size")
    if domain.bindings:  # what is asked of an inactive domain is kept as it was asked
        amount = round_up(amount, page)
    new = _wanted(order, have, amount, "memory size")
    if new > MAX_MEMORY:
        why = f"a domain can have {format_size(MAX_MEMORY)}"
        raise InvalidValue(what="memory size", value=format_size(new), why=why)
    inventory = _ask(inventory, domain, memory=new)
    if domain.bindings is None:
        return done(inventory, order)
    if new < page:
        raise InvalidValue(
            what="memory size", value=format_size(new), why="a bound domain keeps some"
        )
    blocks = domain.bindings.blocks
    if new >= have:
        more = binding.grant_memory(inventory, new - have, blocks) if new > have else ()
        blocks = memory.joined((*blocks, *more))
        return done(_bind(inventory, domain, blocks=blocks), order)
    kept = memory.trim(blocks, have - new, page=page)
    inventory = _bind(inventory, domain, blocks=kept)
    gone = _difference(blocks, kept)
    inventory, effects = binding.freed(inventory, gone)
    return Step(inventory, effects, waits=f"scrub:{order.request}")


def _difference(blocks: tuple[Block, ...], kept: tuple[Block, ...]) -> list[Block]:
    stays = {b.ra: b.size for b in kept}
    cut = ((b, stays.get(b.ra, 0)) for b in blocks)
    return [Block(b.ra + k, b.pa + k, b.size - k) for b, k in cut if k < b.size]


# -- crypto units -------------------------------------------------------------------------------


@command("add-mau")
@command("set-mau")
@command("remove-mau")
def mau(inventory: Inventory, order: CommandGiven) -> Step:
    """Change the crypto units of a domain that does not run, or of the control domain."""
    domain = inventory.named(order.arguments["ldom"])
    _changeable(domain, active=False)
    have = len(domain.bindings.crypto) if domain.bindings else domain.constraints.mau
    new = _wanted(order, have, number(order, "number"), "number of crypto units")
    inventory = _ask(inventory, domain, mau=new)
    if domain.bindings is None:
        return done(inventory, order)
    units = domain.bindings.crypto[:new]
    more = binding.grant_crypto(inventory, (v.pid for v in domain.bindings.vcpus), new - len(units))
    return done(_bind(inventory, domain, crypto=tuple(sorted((*units, *more)))), order)


def _ask(inventory: Inventory, domain: Domain, **changed: int) -> Inventory:
    constraints = replace(domain.constraints, **changed)  # type: ignore[arg-type]
    return inventory.with_domain(replace(domain, constraints=constraints))


def _bind(inventory: Inventory, domain: Domain, **changed: object) -> Inventory:
    domain = inventory.domains[domain.uuid]
    bindings = replace(domain.bound, **changed)  # type: ignore[arg-type]
    return inventory.with_domain(replace(domain, bindings=bindings))
