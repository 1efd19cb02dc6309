"""Bad input and trouble: a clear sentence, the documented exit code, and nothing has changed."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machines import Domain, Machine, World

from lodom.core.errors import Kind
from lodom.lab.watch import Heartbeats

pytestmark = pytest.mark.live

Make = Callable[..., Domain]
ROOT = Path(__file__).parents[2]

ITSELF = (
    r"^dt90-319 is the source machine itself, or a clone of it \(instance \w+\)\n"
    r"Domain Migration of LDom ldg1 (failed|would fail if attempted)\n"
)

CASES = [
    ("start-domain nosuch", Kind.NOT_FOUND, r'LDom "nosuch" was not found'),
    ("list nosuch", Kind.NOT_FOUND, r'LDom "nosuch" was not found'),
    ("add-domain ldg1", Kind.WRONG_STATE, r'"ldg1" already exists'),
    ("set-memory 12Q ldg1", Kind.INVALID, r"12Q"),
    ("set-memory -1 ldg1", Kind.INVALID, r"-1"),
    ("add-vcpu none ldg1", Kind.INVALID, r"none"),
    ("frobnicate ldg1", Kind.INVALID, r"frobnicate"),
    ("add-vdisk vdisk9 nosuch@primary-vds0 ldg1", Kind.NOT_FOUND, r"nosuch"),
    ("start-domain ldg1", Kind.WRONG_STATE, r"ldg1"),
    ("migrate-domain -p {password} nosuch dt212-239", Kind.NOT_FOUND, r'"nosuch" was not found'),
    ("migrate-domain -p {wrong} ldg1 dt212-239", Kind.DENIED, r"Invalid password or user"),
    ("migrate-domain -p {password} ldg1 10.97.0.77", Kind.PEER, r"Failed to establish connection"),
    ("migrate-domain -p {password} ldg1 10.97.0.2", Kind.PEER, r"is not trusted"),
    *(
        (f"migrate-domain -p {{password}} {words}", Kind.REFUSED, ITSELF)
        for words in ("ldg1 dt90-319", "ldg1 localhost", "-n ldg1 10.97.0.1:other")
    ),
]


@pytest.mark.parametrize(("words", "kind", "text"), CASES, ids=[c[0][:40] for c in CASES])
def test_a_refusal_changes_nothing(
    world: World, domains: Make, tmp_path: Path, words: str, kind: Kind, text: str
) -> None:
    domains("ldg1")
    wrong = tmp_path / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("wrong\n")
    before = world.a.state(), world.b.state()
    filled = words.format(password=world.a.password, wrong=wrong)
    said = world.a.tried(*filled.split())
    assert re.search(text, said.err), said
    assert said.code == kind.exit_code, said
    assert (world.a.state(), world.b.state()) == before


@pytest.fixture
def old_target(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """The second machine under an ldmd that speaks only a version before the first."""
    shutil.copytree(ROOT / "src", tmp_path / "src")
    server = tmp_path / "src/lodom/peer/server.py"
    text = server.read_text()
    assert text.count("VERSIONS = (1,)") == 1
    server.write_text(text.replace("VERSIONS = (1,)", "VERSIONS = (0,)"))
    world.b.kill_ldmd()
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", str(tmp_path / "src"))
        world.b.start_ldmd()
    try:
        yield world.b
    finally:
        world.b.kill_ldmd()
        world.b.start_ldmd()


def test_an_older_target(world: World, domains: Make, old_target: Machine) -> None:
    """Refused before anything is sent, and both sides' versions are named."""
    domains("ldg1")
    before = world.a.state(), old_target.state()
    for options in ((), ("-n",)):
        said = world.a.tried(*world.a.migrate_words("ldg1", old_target, *options))
        assert said.code == Kind.PEER.exit_code, said
        assert re.search(r"Target dt212-239 speaks protocol 0, this machine 1", said.err), said
    assert (world.a.state(), old_target.state()) == before


def test_more_memory_than_there_is(world: World, domains: Make) -> None:
    """It can be asked for, it cannot be bound; the refusal says how much is free."""
    domains("ldg1", memory="64G")
    before = world.a.state()
    said = world.a.tried("bind-domain", "ldg1")
    assert said.code == Kind.NO_ROOM.exit_code
    assert re.search(r"Not enough free memory .* 64G wanted, 1280M free", said.err)
    assert world.a.state() == before


def test_a_volume_that_is_gone(world: World, domains: Make) -> None:
    """Bind names the missing file."""
    domain = domains("ldg1", disk=1 << 20)
    assert domain.volume
    domain.volume.unlink()
    before = world.a.state()
    said = world.a.tried("bind-domain", "ldg1")
    assert said.code in {k.exit_code for k in Kind if k is not Kind.BUG}, said
    assert str(domain.volume) in said.err
    assert world.a.state() == before
    domain.volume.touch()


def test_a_volume_in_use(world: World, domains: Make) -> None:
    """A second domain cannot have a volume that another one writes."""
    first = domains("ldg1", disk=1 << 20)
    domains("ldg2")
    with Heartbeats() as beats:
        first.start(beats)
        before = world.a.state()[0]
        said = world.a.tried("add-vdisk", "vdisk0", "ldg1@primary-vds0", "ldg2")
        assert said.code == Kind.WRONG_STATE.exit_code, said
        assert re.search(r"ldg1.* in use by", said.err), said
        assert world.a.state()[0] == before
        with first.counter() as counter:
            counter.wait(20, within=10)


def test_qemu_that_does_not_start(world: World, domains: Make) -> None:
    """Its own words are shown, and the domain stays bound without a process."""
    domains("ldg1")
    world.a.ldm("set-variable", "machine-type=pc-q35-nonsense", "ldg1")
    world.a.ldm("bind-domain", "ldg1")
    before = world.a.state()
    said = world.a.tried("start-domain", "ldg1")
    assert said.code == Kind.FAILED.exit_code, said
    assert "unsupported machine type" in said.err
    assert world.a.qemus("ldg1") == []
    assert world.a.state() == before


BAD_FILES = {
    "no TOML": ("[machine\n", r"{file}.*line 1"),
    "unknown key": ('[machine]\nname = "a"\nnmae = "b"\n', r"{file}.*3.*nmae"),
    "wrong type": ('[strands]\ncores = "many"\n', r"{file}.*2.*cores"),
    "bad size": ('[memory]\nbacking = "tmpfs"\nsize = "1Q"\n', r"{file}.*3.*size"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_malformed_machine_file(tmp_path: Path, name: str) -> None:
    """File, line and key are named."""
    text, expected = BAD_FILES[name]
    path = tmp_path / "machine.toml"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "lodom.daemon.main", "--config", path],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert re.search(expected.format(file=re.escape(str(path))), said), said
    assert done.returncode == 1
    assert os.listdir(tmp_path) == ["machine.toml"]
