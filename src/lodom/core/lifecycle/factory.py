"""The configuration of a machine that was never configured: ``factory-default``."""

from lodom.core.alloc.mac import hostid
from lodom.core.model.domain import PRIMARY, Bindings, Block, Constraints, Domain, State, Vcpu
from lodom.core.model.host import Machine
from lodom.core.model.inventory import Inventory, Ownership


def first_inventory(machine: Machine, uuid: str, mac: str) -> Inventory:
    """A machine that was never configured: the control domain owns everything."""
    constraints, bindings = everything(machine)
    primary = Domain(
        uuid=uuid,
        name=PRIMARY,
        mac=mac,
        hostid=hostid(mac),
        state=State.ACTIVE,
        agent=True,
        constraints=constraints,
        bindings=bindings,
    )
    inventory = Inventory(machine).with_domain(primary)
    return inventory.put("ownership", uuid, Ownership(uuid, 1, machine.instance))


def everything(machine: Machine) -> tuple[Constraints, Bindings]:
    """All that the machine has, as asked for by and given to one domain."""
    vcpus = tuple(Vcpu(vid, s.pid) for vid, s in enumerate(sorted(machine.strands)))
    blocks, ra = [], machine.ra_base
    for region in sorted(machine.regions):
        blocks.append(Block(ra, region.base, region.size))
        ra += region.size
    units = tuple(u.id for u in machine.crypto)
    buses = tuple(b.name for b in machine.buses)
    memory = sum(r.size for r in machine.regions)
    return (
        Constraints(vcpu=len(vcpus), memory=memory, mau=len(units), io=buses),
        Bindings(vcpus=vcpus, blocks=tuple(blocks), crypto=units, io=buses),
    )
