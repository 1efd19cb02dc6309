"""``set-vdisk``, ``set-vnet``, ``set-vswitch``, ``panic-domain``: what changes, what is refused."""

import pytest

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.engine import Engine
from lodom.core.errors import (
    GuestUnable,
    InUse,
    InvalidValue,
    NotSupported,
    ObjectUnknown,
    StepFailed,
    WrongState,
)
from lodom.core.model.domain import State
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
    for switch in ("vsw0", "vsw1"):
        host.ldm("add-vswitch", name=switch, ldom="primary")
    host.ldm("add-domain", ldoms=["ldg1"])
    host.ldm("set-vcpu", number=1, ldom="ldg1")
    host.ldm("set-memory", size=GIB, ldom="ldg1")
    host.ldm("add-vdisk", name="disk0", volume="vol1", service="vds0", timeout=7, ldom="ldg1")
    host.ldm("add-vnet", name="net0", switch="vsw0", mtu=9000, ldom="ldg1")
    return host


def started(world, host):
    host.ldm("bind-domain", ldom="ldg1")
    host.ldm("start-domain", ldoms=["ldg1"])
    world.run(seconds=5)


def asked(host):
    return host.engine.inventory.named("ldg1").constraints


# -- disks --------------------------------------------------------------------------------------


def test_set_vdisk_changes_what_it_names(a):
    a.ldm("set-vdisk", name="disk0", volume="vol2", service="vds0", ldom="ldg1")
    assert (asked(a).vdisks[0].volume, asked(a).vdisks[0].timeout) == ("vol2", 7)
    a.ldm("set-vdisk", name="disk0", timeout=0, ldom="ldg1")
    assert (asked(a).vdisks[0].volume, asked(a).vdisks[0].timeout) == ("vol2", 0)


def test_set_vdisk_of_a_running_domain_changes_the_timeout_only(world, a):
    started(world, a)
    a.ldm("set-vdisk", name="disk0", timeout=30, ldom="ldg1")
    assert asked(a).vdisks[0].timeout == 30
    with pytest.raises(WrongState):
        a.ldm("set-vdisk", name="disk0", volume="vol2", service="vds0", ldom="ldg1")


def test_set_vdisk_refuses_what_is_not_there_or_taken(a):
    a.ldm("add-vdisk", name="disk1", volume="vol2", service="vds0", ldom="ldg1")
    with pytest.raises(InUse, match="disk1@ldg1"):
        a.ldm("set-vdisk", name="disk0", volume="vol2", service="vds0", ldom="ldg1")
    for name, volume in (("disk9", "vol2"), ("disk0", "vol9")):
        with pytest.raises(ObjectUnknown):
            a.ldm("set-vdisk", name=name, volume=volume, service="vds0", ldom="ldg1")


def test_what_is_no_back_end_is_refused(a):
    for backend in ("disk.img", "http://host/x", "../x"):
        with pytest.raises(InvalidValue, match="absolute path"):
            a.ldm("add-vdiskserverdevice", backend=backend, volume="v", service="vds0")
    for number, backend in enumerate(("nbd://host/x", "nbd+unix:///x?socket=/s", "rbd:p/i")):
        a.ldm("add-vdiskserverdevice", backend=backend, volume=f"v{number}", service="vds0")


def test_a_read_only_volume_is_shared_and_stays_read_only_then(a):
    vol2 = {"volume": "vol2", "service": "vds0"}
    a.ldm("set-vdiskserverdevice", options=["ro"], **vol2)
    a.ldm("add-domain", ldoms=["ldg2"])
    for ldom in ("ldg1", "ldg2"):
        a.ldm("add-vdisk", name="cd", ldom=ldom, **vol2)
    with pytest.raises(InUse, match="cd@ldg1, cd@ldg2"):
        a.ldm("set-vdiskserverdevice", options=[], **vol2)
    with pytest.raises(InUse, match="cd@ldg1, cd@ldg2, to which it is attached"):
        a.ldm("remove-vdiskserverdevice", **vol2)
    a.ldm("remove-vdisk", name="cd", ldom="ldg2")
    a.ldm("set-vdiskserverdevice", options=[], **vol2)


# -- network ------------------------------------------------------------------------------------


def test_set_vnet_changes_what_it_names(a):
    before = asked(a).vnets[0]
    a.ldm("set-vnet", name="net0", switch="vsw1", mode="hybrid", ldom="ldg1")
    after = asked(a).vnets[0]
    assert (after.switch, after.mode, after.mtu) == ("vsw1", "hybrid", 9000)
    assert (after.mac, after.id) == (before.mac, before.id)
    mac = "00:14:4f:fc:00:01"
    a.ldm("set-vnet", name="net0", mac=mac, mode="", mtu=None, ldom="ldg1")
    after = asked(a).vnets[0]
    assert (after.mac, after.mode, after.mtu) == (mac, "", 0)
    a.ldm("set-vnet", name="net0", mac=mac, ldom="ldg1")


def test_set_vnet_refuses(world, a):
    for changed in ({"switch": "vsw9"}, {"name": "net9"}):
        with pytest.raises(ObjectUnknown):
            a.ldm("set-vnet", **{"name": "net0", "ldom": "ldg1", **changed})
    with pytest.raises(NotSupported, match="VLAN"):
        a.ldm("set-vnet", name="net0", pvid=5, ldom="ldg1")
    with pytest.raises(InvalidValue):
        a.ldm("set-vnet", name="net0", mac="00:14:4f:f8:00:01", ldom="ldg1")
    started(world, a)
    with pytest.raises(WrongState):
        a.ldm("set-vnet", name="net0", mtu=1500, ldom="ldg1")


def test_set_vswitch_changes_record_and_bridge(a):
    a.ldm("set-vswitch", name="vsw0", mode="sc", mtu=9000)
    vsw = a.engine.inventory.vsw["vsw0"]
    assert (vsw.mode, vsw.mtu) == ("sc", 9000)
    a.ldm("set-vswitch", name="vsw0", net_dev="eth9")
    after = a.engine.inventory.vsw["vsw0"]
    assert (after.net_dev, after.mac, after.mtu) == ("eth9", vsw.mac, 9000)
    with pytest.raises(NotSupported, match="first uplink"):
        a.ldm("set-vswitch", name="vsw0", net_dev="eth8")


def test_set_vswitch_under_a_bound_domain_leaves_wire_and_mtu(a):
    a.ldm("bind-domain", ldom="ldg1")
    for changed in ({"mtu": 9000}, {"net_dev": "eth9"}):
        with pytest.raises(InUse, match="ldg1"):
            a.ldm("set-vswitch", name="vsw0", **changed)
    a.ldm("set-vswitch", name="vsw0", mode="sc")
    a.ldm("set-vswitch", name="vsw1", mtu=9000)


def test_a_bridge_that_cannot_be_changed_leaves_the_switch_as_it_was(a):
    before = a.engine.inventory
    engine = Engine(before)
    order = ev.CommandGiven("r1", "set-vswitch", {"name": "vsw0", "net_dev": "eth9"}, {}, 0)
    (make,) = engine.handle(order).effects
    assert isinstance(make, do.MakeSwitch)
    failed = ev.SwitchFailed("r1", "vsw0", "there is no such network device", make.old)
    (answer,) = engine.handle(failed).effects
    assert isinstance(answer, do.Fail)
    assert isinstance(answer.error, StepFailed)
    assert str(answer.error).startswith("Changing virtual switch vsw0 failed: there is no")
    assert engine.inventory == before


# -- panic --------------------------------------------------------------------------------------


def test_a_guest_that_panics_is_started_anew(world, a):
    with pytest.raises(WrongState):
        a.ldm("panic-domain", ldom="ldg1")
    started(world, a)
    d = a.engine.inventory.named("ldg1")
    assert a.ldm("panic-domain", ldom="ldg1") == {}
    world.run(seconds=10)
    again = a.engine.inventory.named("ldg1")
    assert again.state is State.ACTIVE
    assert again.runtime.pid != d.runtime.pid
    assert a.hypervisor.running() == [d.uuid]


def test_a_guest_that_cannot_be_told_to_panic_runs_on(world, a):
    started(world, a)
    engine = Engine(a.engine.inventory)
    uuid = engine.inventory.named("ldg1").uuid
    order = ev.CommandGiven("r1", "panic-domain", {"ldom": "ldg1"}, {}, 0)
    assert engine.handle(order).effects == (do.PanicGuest(uuid),)
    (answer,) = engine.handle(ev.PanicAnswered(uuid, "no NMI")).effects
    assert isinstance(answer, do.Fail)
    assert isinstance(answer.error, GuestUnable)
    assert engine.inventory == a.engine.inventory
