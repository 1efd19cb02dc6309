"""An image as people bring it: a Debian with its own boot loader, kernel, cloud-init and agent.

Nothing of the lab guest is in it.  By the six commands of docs/guests.md it boots from its disk
through the firmware and takes its name, address and password from a NoCloud seed; then it moves
while somebody is logged in on its console.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from machines import World, eventually
from terminal import Console
from test_pages import Page

from conftest import ROOT
from lodom.lab.watch import Probe

pytestmark = [pytest.mark.live, pytest.mark.long]

NAME, ADDRESS = "deb1", "10.97.1.50"
BOOT_S = 400.0
"""On two busy CPUs under software emulation; an idle machine needs about a minute."""
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
def page(world: World, image: Path, tmp_path: Path) -> Iterator[Page]:
    """docs/guests.md, whose images are ours."""
    (tmp_path / "images").symlink_to(image.parent)
    made = Page(world, tmp_path)
    try:
        yield made
    finally:
        made.clear()
        (tmp_path / f"domains/{NAME}.qcow2").unlink(missing_ok=True)


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
    page: Page, capsys: pytest.CaptureFixture[str]
) -> None:
    """Firmware to agent; the seed's host name; the same boot and shell on the other machine."""
    a, b = page.world.a, page.world.b
    page.run("guests.md", "A cloud image")
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
