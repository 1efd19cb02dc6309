"""Storage that people have: images in chains, loop devices, NBD; sizes that change; other users."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machines import Domain, Machine, World, eventually
from terminal import Console

from lodom.core.units import MIB
from lodom.lab.watch import Heartbeats

pytestmark = pytest.mark.live

Make = Callable[..., Domain]
Export = Callable[..., None]
SERVICE = "primary-vds0"


def run(*words: str | Path) -> str:
    """What a tool prints."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def export(world: World) -> Iterator[Export]:
    """Exports back ends under a name on machines; taken back when their domains are gone."""
    made = []

    def add(backend: str | Path, name: str, *machines: Machine, options: str = "") -> None:
        for machine in machines or (world.a, world.b):
            words = (f"options={options}",) if options else ()
            machine.ldm("add-vdsdev", "-f", *words, str(backend), f"{name}@{SERVICE}")
            made.append((machine, name))

    yield add
    for machine, name in made:
        machine.tried("remove-vdsdev", f"{name}@{SERVICE}")


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A loop device over a file of 16 MiB."""
    file = tmp_path / "loop.img"
    file.touch()
    os.truncate(file, 16 * MIB)
    done = subprocess.run(
        ["losetup", "--find", "--show", file], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no loop device here: {done.stderr.strip()}")
    yield done.stdout.strip(), file
    run("losetup", "-d", done.stdout.strip())


def give(machine: Machine, ldom: str, *volumes: str) -> None:
    """Disks on the volumes, in their order."""
    for volume in volumes:
        machine.ldm("add-vdisk", volume, f"{volume}@{SERVICE}", ldom)


def sectors(console: Console, disk: str) -> int:
    """The size of a disk as the guest's kernel has it."""
    return int(console.asked(f"cat /sys/block/{disk}/size; echo end", r"\n(\d+)\s+end")[1])


def test_a_chain_of_images_is_compared_image_by_image(
    world: World, export: Export, domains: Make, tmp_path: Path
) -> None:
    """One chain seen by both is the same; a missing image and another chain are findings."""
    base, top = tmp_path / "base.img", tmp_path / "top.qcow2"
    base.touch()
    os.truncate(base, 16 * MIB)
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b"]
    run(*create, base, top)
    export(top, "chain")
    made = domains("ldg1", args="lodom.disk=1")
    give(world.a, "ldg1", "chain")
    dry = [*world.a.migrate_words("ldg1", world.b, "-n", "-v")]
    with Heartbeats() as beats:
        made.start(beats)
        assert "R27" not in world.a.ldm(*dry)
        world.a.migrate("ldg1", world.b)
        verified = made.status.read()["disk"]["verified"]
        eventually(lambda: made.status.read()["disk"]["verified"] > verified, "the disk")
        assert made.status.read()["disk"]["bad"] == 0
    # It comes back to a machine that exports other chains under the name.
    dry = [*world.b.migrate_words("ldg1", world.a, "-n", "-v")]
    for backing, finding in ((base, "R27.*other storage"), (tmp_path / "gone", "R26.*gone")):
        other = tmp_path / f"{finding[:3]}.qcow2"
        if not backing.exists():
            shutil.copy(base, backing)
        run(*create, backing, other)
        (tmp_path / "gone").unlink(missing_ok=True)
        world.a.ldm("remove-vdsdev", f"chain@{SERVICE}")
        target = other if "R26" in finding else base
        world.a.ldm("add-vdsdev", str(target), f"chain@{SERVICE}")
        said = world.b.tried(*dry)
        assert said.code != 0
        assert re.search(finding, said.out + said.err), said


def test_a_volume_that_grows_grows_in_the_guest(
    world: World, export: Export, domains: Make, loop: tuple[str, Path], tmp_path: Path
) -> None:
    """A file and a block device, under a running guest, without a command to ldm."""
    device, behind = loop
    file = tmp_path / "file.img"
    file.touch()
    os.truncate(file, 16 * MIB)
    export(file, "file")
    export(device, "device")
    made = domains("ldg1")
    give(world.a, "ldg1", "file", "device")
    with Heartbeats() as beats:
        made.start(beats)
        with Console(world.a, "ldg1") as console:
            assert [sectors(console, d) for d in ("vda", "vdb")] == [32768, 32768]
            os.truncate(file, 24 * MIB)
            os.truncate(behind, 32 * MIB)
            run("losetup", "-c", device)
            eventually(lambda: sectors(console, "vda") == 49152, "the file's size", within=15)
            eventually(lambda: sectors(console, "vdb") == 65536, "the device's size", within=15)
        world.a.migrate("ldg1", world.b)
        os.truncate(file, 40 * MIB)
        with Console(world.b, "ldg1") as console:
            eventually(lambda: sectors(console, "vda") == 81920, "its size, moved", within=15)


def test_a_volume_in_use_names_its_user(
    world: World, export: Export, domains: Make, loop: tuple[str, Path], tmp_path: Path
) -> None:
    """Another domain, a mount: bind and start refuse, and nothing has changed."""
    device, _ = loop
    file = tmp_path / "file.img"
    file.touch()
    os.truncate(file, 16 * MIB)
    for name in ("one", "two"):
        export(file, name)
    export(device, "device")
    made = [domains("ldg1"), domains("ldg2")]
    give(world.a, "ldg1", "one", "device")
    give(world.a, "ldg2", "two")
    world.a.ldm("bind-domain", "ldg2")
    with Heartbeats() as beats:
        made[0].start(beats)
        (pid,) = world.a.qemus("ldg1")
        said = world.a.tried("start-domain", "ldg2")
        assert f"{file} is in use by lodom-ldg1 (process {pid})" in said.err
        world.a.ldm("unbind-domain", "ldg2")
        said = world.a.tried("bind-domain", "ldg2")
        assert said.code != 0
        assert f"{file} is in use by lodom-ldg1 (process {pid})" in said.err
        assert world.a.row("ldg2")["state"] == "inactive"
    world.a.ldm("stop-domain", "-f", "ldg1")
    run("mkfs.ext4", "-q", device)
    where = tmp_path / "mounted"
    where.mkdir()
    run("mount", device, where)
    try:
        said = world.a.tried("start-domain", "ldg1")
        assert said.code != 0
        # What is mounted in another mount namespace than ldmd's has no name for it.
        use = f"{device} is in use by this host: (mounted at {where}|claimed by the kernel)"
        assert re.search(use, said.err), said
        assert world.a.row("ldg1")["state"] == "bound"
    finally:
        run("umount", where)
    world.a.ldm("start-domain", "ldg1")


def test_one_iso_serves_many_domains(
    world: World, export: Export, domains: Make, tmp_path: Path
) -> None:
    """A read-only volume is nobody's; it can be written again when one is left."""
    iso = tmp_path / "install.iso"
    iso.write_bytes(bytes(MIB))
    export(iso, "iso", options="ro")
    for name in ("ldg1", "ldg2"):
        domains(name)
        give(world.a, name, "iso")
        world.a.ldm("bind-domain", name)
        world.a.ldm("start-domain", name)
    world.a.migrate("ldg1", world.b)
    world.a.ldm("migrate-domain", *world.a.migrate_words("ldg2", world.b)[1:])
    assert {"ldg1", "ldg2"} <= set(world.b.names())
    said = world.b.tried("set-vdsdev", "options=", f"iso@{SERVICE}")
    assert said.code != 0


@pytest.fixture
def nbd(world: World, tmp_path: Path) -> Iterator[str]:
    """An NBD server on the first machine, for both; the URL of its export."""
    if not shutil.which("qemu-nbd"):
        pytest.skip("needs qemu-nbd: tools/setup.sh")
    file, pid = tmp_path / "nbd.img", tmp_path / "nbd.pid"
    file.touch()
    os.truncate(file, 16 * MIB)
    placed = world.a.placed
    world.a.in_namespace(
        "qemu-nbd", "--fork", "--persistent", "--shared=8", "--format=raw", "--cache=none",
        "--export-name=disk", f"--bind={placed.address}", f"--pid-file={pid}", str(file),
    )  # fmt: skip
    server = int(pid.read_text())
    yield f"nbd://{placed.address}/disk"
    os.kill(server, 15)


def test_a_disk_over_nbd_moves(world: World, export: Export, domains: Make, nbd: str) -> None:
    """Through QEMU's own driver; sameness cannot be known; a dead server is named at bind."""
    export(nbd, "net")
    made = domains("ldg1", args="lodom.disk=1")
    give(world.a, "ldg1", "net")
    with Heartbeats() as beats:
        made.start(beats)
        said = world.a.tried(*world.a.migrate_words("ldg1", world.b, "-n", "-v"))
        assert (said.code, "cannot be known" in said.out + said.err) == (0, True), said
        world.a.migrate("ldg1", world.b)
        verified = made.status.read()["disk"]["verified"]
        eventually(lambda: made.status.read()["disk"]["verified"] > verified, "the disk")
        status = made.status.read()["disk"]
        assert (status["bad"], status["errors"]) == (0, 0)
        assert len(beats.boots("ldg1")) == 1


@pytest.mark.parametrize(
    ("backend", "why"),
    [("nbd://127.0.0.1:9/none", "Connection refused"), ("rbd:pool/image:id=lodom", "rbd")],
)
def test_a_back_end_that_cannot_be_reached_is_refused(
    world: World, export: Export, domains: Make, backend: str, why: str
) -> None:
    """At bind, with the reason; the domain stays inactive."""
    export(backend, "net", world.a)
    domains("ldg1")
    give(world.a, "ldg1", "net")
    said = world.a.tried("bind-domain", "ldg1")
    assert said.code != 0
    assert why in said.err, said
    assert world.a.row("ldg1")["state"] == "inactive"
