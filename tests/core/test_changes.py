"""``set-vdisk``, ``set-vnet``, ``set-vswitch``, ``panic-domain``: what changes, what is refused."""

from dataclasses import replace

import pytest

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.commands.lifecycle import each
from lodom.core.commands.services import add_vdsdev, set_vdsdev
from lodom.core.engine import Engine
from lodom.core.errors import (
    Busy,
    DomainUnknown,
    GuestUnable,
    InUse,
    InvalidValue,
    NotSupported,
    ObjectUnknown,
    StepFailed,
    WrongState,
)
from lodom.core.model.domain import State
from lodom.core.model.inventory import Ownership
from lodom.core.units import GIB
from lodom.daemon import ids
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
    for wire in ("eth8", ""):
        a.ldm("set-vswitch", name="vsw0", net_dev=wire)
        assert a.engine.inventory.vsw["vsw0"].net_dev == wire


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


def given(engine, request, verb, **arguments):
    return engine.handle(ev.CommandGiven(request, verb, arguments, ids.fresh(), 0)).effects


def test_nothing_comes_to_depend_on_a_switch_whose_bridge_may_yet_fail(a):
    engine = Engine(a.engine.inventory)
    (make,) = given(engine, "r1", "add-vswitch", name="vsw7", ldom="primary")
    assert isinstance(make, do.MakeSwitch)
    on = {"name": "net7", "switch": "vsw7", "ldom": "ldg1"}
    for verb, arguments in (
        ("add-vnet", on),
        ("set-vnet", {**on, "name": "net0"}),
        ("set-vswitch", {"name": "vsw7", "mtu": 9000}),
        ("remove-vswitch", {"name": "vsw7"}),
    ):
        (answer,) = given(engine, "r2", verb, **arguments)
        assert isinstance(answer, do.Fail)
        assert "the bridge of virtual switch vsw7 is being changed" in str(answer.error)
    (answer,) = engine.handle(ev.SwitchMade("r1", "vsw7", ("br0 has MTU 1400",))).effects
    assert answer == do.Reply("r1", {"warnings": ["br0 has MTU 1400"]})
    (answer,) = given(engine, "r3", "add-vnet", **on)
    assert isinstance(answer, do.Reply)


def test_no_domain_is_bound_while_the_bridge_of_its_switch_changes(a):
    engine = Engine(a.engine.inventory)
    given(engine, "r1", "set-vswitch", name="vsw0", net_dev="eth9")
    (answer,) = given(engine, "r2", "bind-domain", ldom="ldg1")
    assert isinstance(answer, do.Fail)
    assert isinstance(answer.error, Busy)


def test_a_new_switch_that_fails_goes_unless_a_device_has_come_to_use_it(a):
    engine = Engine(a.engine.inventory)
    before = engine.inventory
    given(engine, "r1", "add-vswitch", name="vsw7", ldom="primary")
    failed = ev.SwitchFailed("r1", "vsw7", "no such device")
    (answer,) = engine.handle(failed).effects
    assert str(answer.error) == "Adding virtual switch vsw7 failed: no such device"
    assert engine.inventory == before
    given(engine, "r2", "add-vswitch", name="vsw7", ldom="primary")
    d = engine.inventory.named("ldg1")
    moved = replace(d.constraints.vnets[0], switch="vsw7")
    domain = replace(d, constraints=replace(d.constraints, vnets=(moved,)))
    engine.inventory = engine.inventory.put("domains", d.uuid, domain)
    (answer,) = engine.handle(replace(failed, request="r2")).effects
    assert "it stays, without a bridge, for net0@ldg1: ldm set-vsw" in str(answer.error)
    assert "vsw7" in engine.inventory.vsw


def test_a_switch_without_net_dev_takes_the_one_of_machine_toml(a):
    inventory = a.engine.inventory
    machine = replace(inventory.machine, uplinks={"vsw7": "eth7"})
    engine = Engine(replace(inventory, machine=machine))
    for request, words, wire in (("r1", {}, "eth7"), ("r2", {"net_dev": ""}, "")):
        (make,) = given(engine, request, "add-vswitch", name="vsw7", ldom="primary", **words)
        assert make.net_dev == wire
        engine.handle(ev.SwitchMade(request, "vsw7"))
        given(engine, "r3", "remove-vswitch", name="vsw7")
        engine.handle(ev.SwitchGone("r3", "vsw7"))


def test_a_removed_switch_ends_when_its_bridge_has_gone(a):
    engine = Engine(a.engine.inventory)
    (remove,) = given(engine, "r1", "remove-vswitch", name="vsw1")
    assert remove == do.RemoveSwitch("r1", "vsw1")
    assert "vsw1" not in engine.inventory.vsw
    assert engine.handle(ev.SwitchGone("r1", "vsw1")).effects == (do.Reply("r1", {}),)
    given(engine, "r2", "add-vswitch", name="vsw1", ldom="primary")
    engine.handle(ev.SwitchMade("r2", "vsw1"))
    given(engine, "r3", "remove-vswitch", name="vsw1")
    (answer,) = engine.handle(ev.SwitchGone("r3", "vsw1", "no permission")).effects
    assert isinstance(answer, do.Fail)
    assert "Removing the bridge of virtual switch vsw1 failed: no permission" in str(answer.error)


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


def test_what_an_old_journal_lists_and_another_machine_owns_is_not_begun(a):
    """Refused at once, with the way out; nothing is reserved and no process is begun."""
    engine = Engine(a.engine.inventory)
    uuid = engine.inventory.named("ldg1").uuid
    engine.inventory = engine.inventory.put("ownership", uuid, Ownership(uuid, 2, "elsewhere"))
    before = engine.inventory
    d = replace(before.named("ldg1"), state=State.BOUND)
    for order, inventory in (
        (ev.CommandGiven("1", "bind-domain", {"ldom": "ldg1"}, {}, 0), before),
        (ev.CommandGiven("2", "start-domain", {"ldoms": ["ldg1"]}, {}, 0), before.with_domain(d)),
    ):
        engine.inventory = inventory
        (answer,) = engine.handle(order).effects
        assert isinstance(answer, do.Fail)
        assert isinstance(answer.error, WrongState)
        assert "ldm remove-domain" in str(answer.error)
        assert engine.inventory == inventory


# -- MAC address and host id --------------------------------------------------------------------


def test_set_domain_changes_address_and_host_id_of_a_stopped_domain(world, a):
    a.ldm("set-domain", ldom="ldg1", mac="00:14:4f:fc:00:77", hostid=0x5)
    d = a.engine.inventory.named("ldg1")
    assert (d.mac, d.hostid) == ("00:14:4f:fc:00:77", 0x5)
    a.ldm("set-domain", ldom="ldg1", mac="00:14:4f:fc:00:77")  # its own is no collision
    with pytest.raises(InvalidValue, match="mac-addr"):
        a.ldm("set-domain", ldom="ldg1", mac="01:00:00:00:00:00")
    started(world, a)
    with pytest.raises(WrongState, match="only while it is stopped"):
        a.ldm("set-domain", ldom="ldg1", hostid=6)
    assert a.engine.inventory.named("ldg1").hostid == 5


def test_one_command_names_a_new_domain_once(a):
    with pytest.raises(InvalidValue, match="named twice"):
        a.ldm("add-domain", ldoms=["d2", "d2"])
    assert a.engine.inventory.find("d2") is None


def test_several_domains_are_all_there_or_nothing_is_begun(a):
    order = ev.CommandGiven(
        "r", "start-domain", {"ldoms": ["ldg1", "nosuch"]}, ids.fresh(1), ids.now()
    )
    with pytest.raises(DomainUnknown, match="nosuch"):
        each(a.engine.inventory, order)


def test_the_control_domain_has_a_host_id(a):
    primary = a.engine.inventory.named("primary")
    assert primary.hostid >> 24 == 0x84
    assert f"{primary.hostid & 0xFFFFFF:06x}" == primary.mac.replace(":", "")[6:]


# -- memory -------------------------------------------------------------------------------------


def test_the_constraint_keeps_what_was_asked_and_the_binding_is_of_whole_pages(a):
    a.ldm("set-memory", size=3 << 20, ldom="ldg1")
    assert asked(a).memory == 3 << 20
    a.ldm("bind-domain", ldom="ldg1")
    bound = a.engine.inventory.named("ldg1").bound.blocks
    assert sum(b.size for b in bound) == 4 << 20


def test_memory_added_behind_a_block_makes_it_longer(a):
    a.ldm("bind-domain", ldom="ldg1")
    for _ in range(200):  # more than a domain may have blocks
        a.ldm("add-memory", size=2 << 20, ldom="ldg1")
    assert len(a.engine.inventory.named("ldg1").bound.blocks) == 1


def test_no_domain_has_more_memory_than_there_are_addresses(a):
    with pytest.raises(InvalidValue, match="a domain can have 65536G"):
        a.ldm("set-memory", size=1 << 70, ldom="ldg1")
    assert asked(a).memory == GIB


# -- volumes ------------------------------------------------------------------------------------


def exported(host, volume, **how):
    host.ldm("add-vdiskserverdevice", backend="/vol1", volume=volume, service="vds0", **how)


def test_an_exclusive_back_end_is_exported_once(a):
    with pytest.raises(InUse, match="vol1@vds0"):
        exported(a, "again", options=["excl"], force=True)
    exported(a, "again", force=True)
    with pytest.raises(InUse, match="vol1@vds0"):
        a.ldm("set-vdiskserverdevice", volume="again", service="vds0", options=["excl"])
    a.ldm("remove-vdiskserverdevice", volume="again", service="vds0")
    a.ldm("set-vdiskserverdevice", volume="vol1", service="vds0", options=["excl"])
    with pytest.raises(InUse, match="for one alone"):
        exported(a, "again", force=True)


def test_a_back_end_under_another_name_is_the_same(a):
    names = {"verb": "add-vdiskserverdevice", "fresh": {}}
    wanted = {"backend": "/link", "volume": "again", "service": "vds0"}

    def order(**how):
        return ev.CommandGiven(request="r", arguments={**wanted, **how}, same={"/vol1"}, **names)

    with pytest.raises(InUse, match="vol1@vds0; -f exports it a second time"):
        add_vdsdev(a.engine.inventory, order())
    with pytest.raises(InUse, match="vol1@vds0, and options=excl"):
        add_vdsdev(a.engine.inventory, order(force=True, options=["excl"]))
    twice = add_vdsdev(a.engine.inventory, order(force=True)).inventory
    alone = replace(order(options=["excl"]), verb="set-vdiskserverdevice")
    with pytest.raises(InUse, match="vol1@vds0"):
        set_vdsdev(twice, alone)


def test_a_volume_of_the_same_name_in_another_server_is_another_export(a):
    a.ldm("add-vdiskserver", name="vds1", ldom="primary")
    wanted = {"volume": "vol1", "service": "vds1"}
    a.ldm("add-vdiskserverdevice", backend="/vol1", force=True, **wanted)
    with pytest.raises(InUse, match="vol1@vds0"):
        a.ldm("set-vdiskserverdevice", options=["excl"], **wanted)


@pytest.mark.parametrize("verb", ["add", "set"])
def test_slices_are_refused_by_name(a, verb):
    backend = {"backend": "/other"} if verb == "add" else {}
    volume = "vol9" if verb == "add" else "vol1"
    with pytest.raises(NotSupported, match="options=slice"):
        a.ldm(
            f"{verb}-vdiskserverdevice", volume=volume, service="vds0", options=["slice"], **backend
        )
