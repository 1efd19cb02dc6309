"""Every command that changes something: what must stand before it is accepted, and its arguments.

Given on machine ``a`` of the simulation's estate, where ``ldg0`` runs with one strand, 512 MiB, a
disk and a network, and the control domain has the services.
"""

from lodom.core.units import MIB
from lodom.sim.operators import VCC, VDS, VSW

NEW = ("add-domain", {"ldoms": ["new"]})
NEW_VCPU = ("set-vcpu", {"ldom": "new", "number": 1})
NEW_MEMORY = ("set-memory", {"ldom": "new", "size": 256 * MIB})
NEW_BOUND = (NEW, NEW_VCPU, NEW_MEMORY, ("bind-domain", {"ldom": "new"}))
STOP = ("stop-domain", {"ldoms": ["ldg0"], "force": True})
OFF = (STOP, ("unbind-domain", {"ldom": "ldg0"}))
SAVED = ("add-spconfig", {"name": "one"})
VOLUME = {"service": VDS, "volume": "vol9"}
VOL9 = ("add-vdiskserverdevice", {**VOLUME, "backend": "/vols/vol9"})
BOOT = ("set-variable", {"ldom": "ldg0", "variables": (("boot-args", "quiet"),)})
VSW1 = ("add-vswitch", {"name": "vsw1", "ldom": "primary"})
FREE_BUS = ("remove-io", {"ldom": "primary", "bus": "pci_0"})

EVERY = {
    "add-domain": ((), NEW[1]),
    "set-domain": ((), {"ldom": "ldg0", "failure_policy": "stop"}),
    "remove-domain": ((NEW,), {"ldoms": ["new"]}),
    "set-variable": ((), BOOT[1]),
    "add-variable": ((), {"ldom": "ldg0", "variables": (("auto-boot?", "true"),)}),
    "remove-variable": ((BOOT,), {"ldom": "ldg0", "names": ("boot-args",)}),
    "add-vcpu": ((), {"ldom": "ldg0", "number": 1}),
    "set-vcpu": ((), {"ldom": "ldg0", "number": 3}),
    "remove-vcpu": ((("set-vcpu", {"ldom": "ldg0", "number": 3}),), {"ldom": "ldg0", "number": 1}),
    "add-memory": ((NEW,), {"ldom": "new", "size": 64 * MIB}),
    "set-memory": ((), {"ldom": "primary", "size": 768 * MIB}),
    "remove-memory": ((NEW, NEW_MEMORY), {"ldom": "new", "size": 64 * MIB}),
    "add-mau": ((NEW,), {"ldom": "new", "number": 1}),
    "set-mau": ((), {"ldom": "primary", "number": 0}),
    "remove-mau": ((NEW, ("set-mau", {"ldom": "new", "number": 1})), {"ldom": "new", "number": 1}),
    "add-vdiskserver": ((), {"name": "vds1", "ldom": "primary"}),
    "remove-vdiskserver": (
        (("add-vdiskserver", {"name": "vds1", "ldom": "primary"}),),
        {"name": "vds1"},
    ),
    "add-vdiskserverdevice": ((), VOL9[1]),
    "set-vdiskserverdevice": ((VOL9,), {**VOLUME, "options": ("ro",)}),
    "remove-vdiskserverdevice": ((VOL9,), VOLUME),
    "add-vswitch": ((), VSW1[1]),
    "set-vswitch": ((VSW1,), {"name": "vsw1", "mtu": 9000}),
    "remove-vswitch": ((VSW1,), {"name": "vsw1"}),
    "add-vconscon": ((), {"name": "vcc1", "low": 6000, "high": 6003, "ldom": "primary"}),
    "set-vconscon": ((), {"name": VCC, "low": 5000, "high": 5200}),
    "remove-vconscon": (
        (("add-vconscon", {"name": "vcc1", "low": 6000, "high": 6003, "ldom": "primary"}),),
        {"name": "vcc1"},
    ),
    "add-vdisk": ((NEW,), {"ldom": "new", "name": "vdisk0", "volume": "vol1", "service": VDS}),
    "set-vdisk": (OFF, {"ldom": "ldg0", "name": "vdisk0", "timeout": 5}),
    "remove-vdisk": (OFF, {"ldom": "ldg0", "name": "vdisk0"}),
    "add-vnet": ((NEW,), {"ldom": "new", "name": "vnet0", "switch": VSW}),
    "set-vnet": (OFF, {"ldom": "ldg0", "name": "vnet0", "mtu": 9000}),
    "remove-vnet": (OFF, {"ldom": "ldg0", "name": "vnet0"}),
    "set-vconsole": ((NEW,), {"ldom": "new", "port": 5050}),
    "bind-domain": (NEW_BOUND[:-1], {"ldom": "new"}),
    "unbind-domain": (NEW_BOUND, {"ldom": "new"}),
    "start-domain": (NEW_BOUND, {"ldoms": ["new"]}),
    "stop-domain": ((), {"ldoms": ["ldg0"]}),
    "stop-guests": ((), {"timeout": 30}),
    "start-guests": ((("stop-guests", {"timeout": 30}),), {}),
    "panic-domain": ((), {"ldom": "ldg0"}),
    "add-io": ((FREE_BUS,), {"ldom": "primary", "bus": "pci_0"}),
    "remove-io": ((), {"ldom": "primary", "bus": "pci_0"}),
    "add-spconfig": ((), SAVED[1]),
    "set-spconfig": ((SAVED,), {"name": "one"}),
    "remove-spconfig": ((SAVED,), {"name": "one"}),
    "migrate-domain": ((), {"ldom": "ldg0", "host": "b"}),
    "cancel-operation": (
        (("set-memory", {"ldom": "primary", "size": 768 * MIB}),),
        {"ldom": "primary", "operation": "reconf"},
    ),
    "recover-domain": ((), {"ldom": "ldg0", "yes": True}),
}
"""Verb to the orders before it, and its arguments."""
