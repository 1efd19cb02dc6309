"""Admitting a domain to the target: its shell, with all that the migration reserves.

Decided from the same facts that the rules judged, on the inventory as it stands at that moment.
Source: rules R04 to R06, R13 to R15, R31, R36 to R38.
"""

from dataclasses import replace

from lodom.core.alloc import crypto, memory, ports, strands
from lodom.core.alloc.regions import free_ranges
from lodom.core.model.devices import BoundConsole, Console
from lodom.core.model.domain import Bindings, Block, Domain, State, Vcpu
from lodom.core.model.inventory import Inventory
from lodom.core.rules.case import DomainFacts


def shell(
    inventory: Inventory, facts: DomainFacts, migration: str, *, whole_cores: bool
) -> Domain | str:
    """The shell of the domain on this machine, or why there is no room after all."""
    constraints = replace(facts.constraints, console=Console())
    domain = Domain(
        uuid=facts.uuid,
        name=facts.target_name,
        mac=facts.mac,
        hostid=facts.hostid,
        constraints=constraints,
        migration=migration,
    )
    if facts.state == State.INACTIVE:
        return domain
    live = facts.state not in (State.BOUND, State.BINDING)
    given = _bindings(inventory, facts, live=live, whole_cores=whole_cores and live)
    if isinstance(given, str):
        return given
    # What answered before the last stop answers after it: the flag need not fall back to t.
    return replace(domain, state=State.BOUND, bindings=given, agent=live and facts.agent.answers)


def _bindings(
    inventory: Inventory, facts: DomainFacts, *, live: bool, whole_cores: bool
) -> Bindings | str:
    grant, units = crypto.choose_for_migration(
        inventory, len(facts.vcpus), facts.crypto, whole_cores=whole_cores
    )
    if isinstance(grant, strands.Shortage):
        return f"{grant.wanted} strands wanted, {grant.free} free"
    blocks = _blocks(inventory, facts, live=live)
    if isinstance(blocks, str):
        return blocks
    console = _console(inventory, facts.target_name)
    if isinstance(console, str):
        return console
    vids = [v.vid for v in sorted(facts.vcpus)]
    return Bindings(
        vcpus=tuple(Vcpu(vid, pid) for vid, pid in zip(vids, grant.strands, strict=True)),
        blocks=blocks,
        crypto=units[: facts.crypto] if facts.crypto <= len(units) else (),
        console=console,
        held=grant.held,
        cpu_dr_off=live and whole_cores,
        platform=facts.platform,
    )


def _blocks(inventory: Inventory, facts: DomainFacts, *, live: bool) -> tuple[Block, ...] | str:
    blocks, free, page = sorted(facts.blocks), free_ranges(inventory), inventory.machine.page
    whole = all(b.size % page == 0 for b in blocks)  # of a running domain L14 has seen to it
    placed = memory.place([b.size for b in blocks], free, page=page) if whole else ()
    if placed and isinstance(placed, tuple):
        return tuple(replace(b, pa=pa) for b, pa in zip(blocks, placed, strict=True))
    if not live:
        # Nothing lies in them yet: a bound domain is bound anew.  Its blocks may split (R18), or
        # grow to whole pages of this machine.
        size, base = sum(b.size for b in blocks), inventory.machine.ra_base
        carved = memory.carve(size, free, page=page, ra_base=base)
        if isinstance(carved, tuple):
            return carved
    return "the memory blocks cannot be placed any more"


def _console(inventory: Inventory, name: str) -> BoundConsole | str | None:
    """Group is the target name, any free port of the control domain's first vcc (R37, R38)."""
    vcc = ports.first_vcc(inventory)
    if vcc is None:
        return "no virtual console concentrator"
    port = ports.first_free(vcc, ports.taken(inventory, vcc.name))
    return BoundConsole(vcc.name, name, port) if port else f"no free port in {vcc.name}"
