"""Who is told what about the size of volumes; who is named as their user."""

import asyncio
import os
from dataclasses import replace

import pytest

from lodom.core.errors import StepFailed
from lodom.core.model.devices import DiskServer, Vdisk, Volume
from lodom.core.model.domain import Constraints, Domain, State
from lodom.core.model.host import Machine
from lodom.core.model.inventory import Inventory
from lodom.daemon import backends
from lodom.host import disks
from lodom.host.locks import ImageLock

MIB = 1 << 20


@pytest.fixture
def inventory(tmp_path):
    """One running domain with a raw file, an image, a URL, and a disk whose volume is gone."""
    raw = tmp_path / "raw"
    raw.touch()
    os.truncate(raw, MIB)
    (tmp_path / "image.qcow2").touch()
    paths = (str(raw), str(tmp_path / "image.qcow2"), "nbd://host/x")
    volumes = tuple(Volume(f"v{n}", path) for n, path in enumerate(paths))
    vdisks = tuple(Vdisk(f"d{n}", f"v{n}", "vds0", n) for n in range(4))
    constraints = Constraints(vdisks=vdisks)
    domain = Domain("u", "ldg1", "", State.ACTIVE, constraints)
    machine = Machine("m", "i", "p", None, (), (), 4096)
    return (
        Inventory(machine)
        .put("domains", "u", domain)
        .put("vds", "vds0", DiskServer("vds0", "primary", volumes))
    )


def test_only_a_change_is_told(inventory, tmp_path):
    told = []

    async def grow(uuid, index, size):
        told.append((uuid, index, size))
        return True

    async def story():
        watch = backends.Sizes(lambda: inventory, grow)
        await watch.look()
        await watch.look()
        os.truncate(tmp_path / "raw", 2 * MIB)
        await watch.look()

    asyncio.run(story())
    assert told == [("u", 0, MIB), ("u", 0, 2 * MIB)]


def test_who_could_not_be_told_is_told_again(inventory):
    tries = []

    async def grow(uuid, index, size):
        tries.append(size)
        if len(tries) == 1:
            raise StepFailed(what="Resizing", reason="no answer")
        return False

    async def story():
        watch = backends.Sizes(lambda: inventory, grow)
        for _ in range(3):
            await watch.look()

    asyncio.run(story())
    assert len(tries) == 2


@pytest.mark.parametrize("change", [{"migration": "m"}, {"state": State.BOUND}])
def test_who_moves_or_does_not_run_is_left_alone(inventory, change):
    moved = inventory.with_domain(replace(inventory.named("ldg1"), **change))

    async def grow(uuid, index, size):
        raise AssertionError

    asyncio.run(backends.Sizes(lambda: moved, grow).look())


FREE = disks.BackendFacts("/top", "file", writable=True)
WRITTEN = ImageLock(held=True, written=True)
READ = ImageLock(held=True, exclusive=True)


@pytest.mark.parametrize(
    ("facts", "read_only", "why"),
    [
        (FREE, False, ""),
        (replace(FREE, writable=False), True, ""),
        (replace(FREE, writable=False), False, "not writable"),
        (replace(FREE, lock=WRITTEN), False, "is in use by another machine"),
        (replace(FREE, lock=WRITTEN), True, ""),
        (replace(FREE, lock=READ), False, "is in use by another machine"),
        (replace(FREE, users=("mounted at /mnt",)), True, "this host: mounted at /mnt"),
        (replace(FREE, odd="holds a qcow2 image"), False, "holds a qcow2"),
        (replace(FREE, layers=(replace(FREE, path="/low", lock=READ),)), False, ""),
        (
            replace(FREE, layers=(replace(FREE, path="/low", lock=WRITTEN),)), True,
            "lies on /low, which is in use by another machine",
        ),
        (
            replace(FREE, layers=(replace(FREE, path="/low", users=("used as swap",)),)), False,
            "lies on /low, which is in use by this host: used as swap",
        ),
    ],
)  # fmt: skip
def test_why_a_back_end_cannot_be_used(facts, read_only, why):
    said = asyncio.run(backends.unusable(facts, read_only=read_only))
    assert said == "" if not why else why in said


def test_a_file_is_one_back_end_under_all_its_names(inventory, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "raw")
    (tmp_path / "hard").hardlink_to(tmp_path / "raw")
    folder = tmp_path / "folder"
    folder.mkdir()
    raw = str(tmp_path / "raw")
    for name in ("link", "hard", "folder/../raw", "raw"):
        given = {"backend": str(tmp_path / name), "volume": "v9", "service": "vds0"}
        seen = asyncio.run(backends.same(inventory, "add-vdiskserverdevice", given))
        assert seen == {raw}, name
    for other in (str(folder), str(tmp_path / "none"), "nbd://host/y", "/\0"):
        given = {"backend": other, "volume": "v9", "service": "vds0"}
        assert not asyncio.run(backends.same(inventory, "add-vdiskserverdevice", given)), other


def test_options_of_a_volume_are_asked_for_its_own_back_end(inventory, tmp_path):
    changed = {"volume": "v0", "service": "vds0", "options": ["excl"]}
    seen = asyncio.run(backends.same(inventory, "set-vdiskserverdevice", changed))
    assert seen == {str(tmp_path / "raw")}
    for none in ({**changed, "volume": "v9"}, {**changed, "service": "vds9"}):
        assert not asyncio.run(backends.same(inventory, "set-vdiskserverdevice", none))
    assert not asyncio.run(backends.same(inventory, "add-domain", {"ldoms": ["x"]}))
