"""Disks and network devices of a running domain: taken at once, or given back; found again."""

from dataclasses import replace

import pytest

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.commands.devices import BOOT_S
from lodom.core.engine import Engine
from lodom.core.errors import Busy, DeviceKept, InUse, StepFailed, WrongState
from lodom.core.lifecycle.spec import ports
from lodom.core.units import GIB
from lodom.sim.world import World


@pytest.fixture
def world():
    return World(seed=1)


@pytest.fixture
def a(world):
    host = world.hosts["a"]
    host.ldm("set-memory", size=GIB, ldom="primary")
    host.ldm("set-vcpu", number=8, ldom="primary")
    host.ldm("add-vdiskserver", name="vds0", ldom="primary")
    for volume in ("vol1", "vol2"):
        host.ldm("add-vdiskserverdevice", backend=f"/{volume}", volume=volume, service="vds0")
    host.ldm("add-vswitch", name="vsw0", ldom="primary")
    host.ldm("add-domain", ldoms=["ldg1"])
    host.ldm("set-vcpu", number=1, ldom="ldg1")
    host.ldm("set-memory", size=GIB, ldom="ldg1")
    host.ldm("bind-domain", ldom="ldg1")
    host.ldm("start-domain", ldoms=["ldg1"])
    world.run(seconds=5)
    return host


DISK = {"name": "disk0", "volume": "vol1", "service": "vds0", "ldom": "ldg1"}
NET = {"name": "net0", "switch": "vsw0", "ldom": "ldg1"}


def domain(host):
    return host.engine.inventory.named("ldg1")


def places(host):
    return host.hypervisor.guests[domain(host).uuid].places


def test_devices_come_and_go(a):
    a.ldm("add-vdisk", **DISK)
    a.ldm("add-vnet", **NET)
    assert places(a) == {"disk0", "nic0"}
    a.ldm("remove-vdisk", name="disk0", ldom="ldg1")
    assert (places(a), domain(a).constraints.vdisks) == ({"nic0"}, ())
    a.ldm("remove-vnet", name="net0", ldom="ldg1")
    assert (places(a), domain(a).constraints.vnets) == (set(), ())


def test_a_plug_that_fails_is_undone(a):
    a.refusing = 1.0
    with pytest.raises(StepFailed, match="Adding disk0 to LDom ldg1 failed: is in use"):
        a.ldm("add-vdisk", **DISK)
    assert (places(a), domain(a).constraints.vdisks) == (set(), ())


def test_a_device_that_the_guest_keeps_stays(a):
    a.ldm("add-vdisk", **DISK)
    before = domain(a)
    a.refusing = 1.0
    with pytest.raises(DeviceKept, match="LDom ldg1 keeps disk0: the guest keeps it"):
        a.ldm("remove-vdisk", name="disk0", ldom="ldg1")
    assert domain(a) == before


def test_what_is_under_way_is_taken_and_alone(a):
    """The volume is nobody else's, and no second change of the domain's devices begins."""
    a.ldm("add-domain", ldoms=["ldg2"])

    def given(verb, **arguments):
        return engine.handle(ev.CommandGiven(verb, verb, arguments, {"macs": ["00:14:4f:f8:0:1"]}))

    engine = Engine(a.engine.inventory)
    (plug,) = given("add-vdisk", **DISK).effects
    assert (plug.uuid, plug.device.place) == (domain(a).uuid, "disk0")
    (other,) = given("add-vdisk", **{**DISK, "ldom": "ldg2"}).effects
    assert isinstance(other.error, InUse)
    (second,) = given("add-vnet", **NET).effects
    assert isinstance(second.error, Busy)
    (reply,) = engine.handle(ev.DevicePlugged(plug.uuid, "disk0")).effects
    assert reply == do.Reply("add-vdisk")
    (plug,) = given("add-vnet", **NET).effects
    assert isinstance(plug, do.PlugDevice)


@pytest.mark.parametrize(
    ("found", "kept", "cleared"),
    [((), (), ("disk0",)), (("disk0",), ("disk0",), ()), (("disk0", "nic3"), ("disk0",), ("nic3",)),
     (None, ("disk0",), ())],
)  # fmt: skip
def test_after_a_restart_the_process_decides(a, found, kept, cleared):
    """What it lacks was not plugged or has been let go; what it has besides is taken away."""
    a.ldm("add-vdisk", **DISK)
    engine = Engine(a.engine.inventory)
    uuid = domain(a).uuid
    process = ev.GuestFound(uuid, 1, 1, "home", "running", "none", found)
    batch = engine.recover({uuid: process})
    assert tuple(d.name for d in engine.inventory.named("ldg1").constraints.vdisks) == kept
    gone = [e for e in batch.effects if isinstance(e, do.UnplugDevice)]
    assert gone == [do.UnplugDevice(uuid, place, force=True) for place in cleared]


def test_a_device_that_the_guest_throws_out_is_not_asked_for_any_more(a):
    a.ldm("add-vdisk", **DISK)
    a.post(ev.DeviceUnplugged(domain(a).uuid, "disk0"))
    a.world.run(seconds=1)
    assert domain(a).constraints.vdisks == ()


def test_no_port_no_device(a):
    """Beyond the ports of the process, or in a process that an earlier release started."""
    with pytest.raises(WrongState, match="places for ids below 3; stop and start it"):
        a.ldm("add-vdisk", **DISK, id=9)
    d = domain(a)
    old = replace(d, runtime=replace(d.runtime, disk_ports=0))
    a.engine.inventory = a.engine.inventory.with_domain(old)
    with pytest.raises(WrongState, match="earlier release"):
        a.ldm("add-vdisk", **DISK)


def test_set_vnet_names_what_needs_a_stop(a):
    a.ldm("add-vnet", **NET)
    a.ldm("set-vnet", name="net0", ldom="ldg1", switch="vsw0")
    with pytest.raises(WrongState, match="mtu of net0 changes only while it is stopped"):
        a.ldm("set-vnet", name="net0", ldom="ldg1", mtu=9000)


@pytest.mark.parametrize(
    ("indexes", "wanted"), [((), 3), ((3,), 7), ((4,), 8), ((0, 12), 16), ((23,), 24)]
)
def test_ports_with_room_to_spare(indexes, wanted):
    assert ports(indexes, 3) == wanted


def test_nothing_is_plugged_while_the_system_may_boot(a):
    """The agent says when it is up; without one it has a minute."""
    a.post(ev.AgentChanged(domain(a).uuid, answers=False))
    a.world.run(seconds=1)
    with pytest.raises(WrongState, match=r"was started \d+ s ago .* or 60 s after its start"):
        a.ldm("add-vdisk", **DISK)
    assert (places(a), domain(a).constraints.vdisks) == (set(), ())
    a.world.run(seconds=BOOT_S)
    a.ldm("add-vdisk", **DISK)
    assert places(a) == {"disk0"}


@pytest.mark.parametrize("taken", [True, False])
def test_who_adds_a_device_hears_whether_the_guest_took_it(a, taken):
    engine = Engine(a.engine.inventory)
    order = ev.CommandGiven("r", "add-vdisk", DISK, {}, int(a.world.now))
    (plug,) = engine.handle(order).effects
    (reply,) = engine.handle(ev.DevicePlugged(plug.uuid, "disk0", taken)).effects
    told = reply.result.get("warnings", [])
    assert [("has not taken disk0 yet" in text) for text in told] == [True] * (not taken)
    assert len(engine.inventory.named("ldg1").constraints.vdisks) == 1
