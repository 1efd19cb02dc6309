"""An image as people bring it: a Debian with its own boot loader, kernel, cloud-init and agent.

Nothing of the lab guest is in it.  It boots from its disk through the firmware, takes its name,
address and password from a NoCloud seed, and moves while somebody is logged in on its console.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from conftest import ROOT
from machines import World, eventually
from terminal import Console

from lodom.lab.watch import Probe

pytestmark = [pytest.mark.live, pytest.mark.long]

NAME, ADDRESS = "deb1", "10.97.1.50"
BOOT_S = 180.0
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
PROMPT = rf"root@{NAME}:~# $"


@pytest.fixture(scope="module")
def image() -> Path:
    """The image, built anew if what it is made from has changed."""
    missing = [p for p in ("debootstrap", "qemu-img", "genisoimage") if not shutil.which(p)]
    if missing or os.geteuid() != 0:
        pytest.skip(
            f"the Debian image needs root and {', '.join(missing)}: tools/setup.sh --debian"
        )
    done = subprocess.run(
        [ROOT / "guest/debian.sh", "image"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return ROOT / "build/debian/debian.qcow2"


@pytest.fixture
def disks(image: Path, tmp_path: Path) -> Iterator[dict[str, Path]]:
    """The domain's own copy of the image, and its seed."""
    found = {"root": tmp_path / f"{NAME}.qcow2", "seed": tmp_path / "seed.iso"}
    subprocess.run(["cp", "--reflink=auto", "--sparse=always", image, found["root"]], check=True)
    seed = [ROOT / "guest/debian.sh", "seed", NAME, found["seed"], f"{ADDRESS}/24"]
    subprocess.run(seed, check=True)
    yield found
    found["root"].unlink()


@pytest.fixture
def defined(world: World, disks: dict[str, Path]) -> Iterator[World]:
    """The domain, not bound: two disks, one of them only to be read, and no kernel of ours."""
    options = {"root": (), "seed": ("options=ro",)}
    for name, path in disks.items():
        for machine in (world.a, world.b):
            words = (*options[name], str(path), f"{NAME}-{name}@primary-vds0")
            machine.ldm("add-vdsdev", *words)
    for words in ("add-domain", "set-vcpu 1", "set-memory 768M"):
        world.a.ldm(*words.split(), NAME)
    for disk in disks:
        world.a.ldm("add-vdisk", disk, f"{NAME}-{disk}@primary-vds0", NAME)
    world.a.ldm("add-vnet", "vnet0", "primary-vsw0", NAME)
    yield world
    world.remove(NAME)
    for name in disks:
        for machine in (world.a, world.b):
            machine.ldm("remove-vdsdev", f"{NAME}-{name}@primary-vds0")


def log_in(console: Console) -> None:
    """Root's shell; not before cloud-init has set the password and said its last word."""
    console.until(r"Cloud-init v\. .* finished at", within=BOOT_S)
    console.asked("", rf"{NAME} login: $")
    console.asked("root", "Password: $")
    console.asked("lodom", PROMPT, within=60)


def boot_id(console: Console) -> str:
    """What the guest's kernel says."""
    return console.asked("cat /proc/sys/kernel/random/boot_id", UUID)[0]


def test_a_cloud_image_boots_takes_its_seed_and_moves(
    defined: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Firmware to agent; the seed's host name; the same boot and shell on the other machine."""
    a, b = defined.a, defined.b
    a.ldm("bind-domain", NAME)
    a.ldm("start-domain", NAME)
    begin = monotonic()
    with Console(a, NAME) as console:
        eventually(lambda: a.has_up(NAME), "the agent's answer", within=BOOT_S)
        agent_s = monotonic() - begin
        log_in(console)
        assert console.asked("hostname", rf"\n({NAME})\n")
        before = boot_id(console)
        shell = console.asked("kept=$RANDOM; echo $$ $kept", r"\n(\d+ \d+)\n")[1]
    with Probe(ADDRESS) as probe:
        probe.wait(100, within=20)
        begin = monotonic()
        a.migrate(NAME, b)
        seconds = monotonic() - begin
        probe.wait(100, within=20)
        gap = probe.gap(begin, monotonic())
    with Console(b, NAME) as console:
        assert console.asked("echo $$ $kept", r"\n(\d+ \d+)\n")[1] == shell
        assert boot_id(console) == before
        console.asked("sync; echo $((40 + 2))", r"\n42\n")
    eventually(lambda: b.has_up(NAME), "the agent's answer over there")
    assert NAME not in a.names()
    with capsys.disabled():
        print(f"\n  agent after {agent_s:.0f} s, move {seconds:.2f} s, gap {gap * 1000:.0f} ms")
