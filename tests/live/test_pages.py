"""The commands of docs/storage.md and docs/guests.md, run in their order.

``alpha# COMMAND`` is run on the lab's first machine, ``beta#`` on the second, ``both#`` on each; a
block behind a paragraph ``*Not run here: REASON*`` is not.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import World

from conftest import ROOT
from lodom.lab.watch import Heartbeats

_BLOCK = re.compile(r"(\*Not run here: [^*]+\*\n\n)?```console\n(.*?)^```", re.M | re.S)
_COMMAND = re.compile(r"^(alpha|beta|both)# ((?:\\\n|[^\n])*(?:(?<=<<END)\n(?:.*\n)*?END)?)$", re.M)


def commands(page: str, section: str = "") -> list[tuple[str, str]]:
    """(machine or ``both``, command) of a page, or of one of its sections, in their order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    if section:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    run = [body for skipped, body in _BLOCK.findall(text) if not skipped]
    return [(host, words) for body in run for host, words in _COMMAND.findall(body)]


class Page:
    """Runs commands of a page; its folders are below *folder*, its machines those of the lab."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.volumes = folder / "domains"
        self.volumes.mkdir()
        self._before = {m.name: m.ldm("list-services", "-p") for m in (world.a, world.b)}

    def run(self, page: str, section: str = "") -> None:
        """All commands; each must succeed."""
        found = commands(page, section)
        assert found
        for host, words in found:
            for machine in (self.world.a, self.world.b):
                if host in ("both", "alpha" if machine is self.world.a else "beta"):
                    self.type(machine.placed, words)

    def type(self, placed: object, words: str) -> None:
        """One command in the machine's network namespace, with its ``ldm``."""
        words = words.replace("/root/password", str(self.world.a.password))
        words = words.replace("/srv", str(self.folder))
        for name, machine in (("alpha", self.world.a), ("beta", self.world.b)):
            words = re.sub(rf"\b{name}\b", machine.name, words)
        done = subprocess.run(
            ["ip", "netns", "exec", placed.namespace, "bash", "-c", words],
            env={
                **os.environ,
                "LODOM_SOCKET": str(placed.socket),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (words, done)

    def clear(self) -> None:
        """Domains and volumes that the page made are gone."""
        for machine in (self.world.a, self.world.b):
            for name in machine.names():
                if name != "primary":
                    self.world.remove(name)
            for name in re.findall(r"^\|vol=([^|]+)", machine.ldm("list-services", "-p"), re.M):
                machine.tried("remove-vdsdev", f"{name}@primary-vds0")
            assert machine.ldm("list-services", "-p") == self._before[machine.name]


@pytest.fixture
def page(world: World, tmp_path: Path) -> Iterator[Page]:
    """A page to be run."""
    made = Page(world, tmp_path)
    try:
        yield made
    finally:
        made.clear()


@pytest.mark.parametrize("name", ["storage.md", "guests.md"])
def test_every_command_is_found(name: str) -> None:
    """No line of a block is left out by the way the page is read."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    for _, body in _BLOCK.findall(text):
        assert _COMMAND.sub("", body).strip() == ""
    prompts = re.findall(r"^(?:alpha|beta|both)# ", text, re.M)
    skipped = [body for why, body in _BLOCK.findall(text) if why]
    left_out = sum(len(_COMMAND.findall(body)) for body in skipped)
    assert len(prompts) == len(commands(name)) + left_out


@pytest.mark.live
def test_storage(page: Page) -> None:
    """The whole page; the domain at its end has one of each kind."""
    if not shutil.which("qemu-nbd"):
        pytest.skip("needs qemu-nbd: tools/setup.sh")
    (page.volumes / "tools.iso").write_bytes(bytes(1 << 20))
    try:
        page.run("storage.md")
        rows = page.world.a.ldm("list-bindings", "ldg1")
        assert [f"vol{n}@primary-vds0" in rows for n in (1, 2, 3)] == [True] * 3
    finally:
        if (pid := page.volumes / "vol3.pid").exists():
            os.kill(int(pid.read_text()), 15)


@pytest.mark.live
def test_an_installation_and_its_firmware(page: Page, guest: tuple[Path, Path]) -> None:
    """The CD is booted, first by SeaBIOS; UEFI has another boot."""
    missing = [p for p in ("genisoimage", "apt-get") if not shutil.which(p)]
    if missing:
        pytest.skip(f"a boot CD needs {', '.join(missing)}: tools/setup.sh --debian")
    words = "console=ttyS0 quiet no_timer_check lodom.name=new1 lodom.heartbeat=10.97.1.254:7999"
    iso = [ROOT / "guest/iso.sh", page.volumes / "install.iso", *words.split()]
    subprocess.run([*iso, "lodom.ip=10.97.1.62/24"], check=True)
    with Heartbeats() as beats:
        page.run("guests.md", "An installation from CD")
        beats.first("new1", within=60)
    page.run("guests.md", "Firmware")
    stores = page.world.a.placed.folder / "state/uefi"
    assert len(list(stores.iterdir())) >= 1


@pytest.mark.live
def test_a_domain_of_libvirt(page: Page) -> None:
    shutil.copy(ROOT / "tests/cli/libvirt/cloud.xml", page.volumes / "web1.xml")
    page.run("guests.md", "A domain of libvirt")
    assert "web1" in page.world.a.names()
