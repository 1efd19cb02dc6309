"""Console ports of the first concentrator."""

from lodom.core.alloc.ports import first_free, first_vcc, taken
from lodom.core.model.devices import BoundConsole, Concentrator
from lodom.core.model.domain import Bindings, Domain
from lodom.core.model.host import Machine
from lodom.core.model.inventory import Inventory

VCC = Concentrator("primary-vcc0", "primary", 5000, 5002)


def bound(name, service, port):
    console = BoundConsole(service, name, port)
    return Domain(name, name, "", bindings=Bindings(console=console))


def test_lowest_free_port():
    a, b = bound("a", "primary-vcc0", 5000), bound("b", "other", 5001)
    inventory = Inventory(Machine("m", "i", "p", 1, (), (), 1), domains={"a": a, "b": b})
    used = taken(inventory, "primary-vcc0")
    assert used == {5000: "a"}
    assert first_free(VCC, used) == 5001
    assert first_free(VCC, (5000, 5001, 5002)) is None


def test_first_concentrator_is_the_control_domains():
    vcc = {
        "z": Concentrator("z", "p-uuid", 1, 2),
        "b": Concentrator("b", "primary", 1, 2),
        "a": Concentrator("a", "ldg1", 1, 2),
    }
    machine = Machine("m", "i", "p", 1, (), (), 1)
    inventory = Inventory(machine, domains={"p-uuid": Domain("p-uuid", "primary", "")}, vcc=vcc)
    assert first_vcc(inventory) == vcc["b"]
    assert first_vcc(Inventory(machine)) is None
