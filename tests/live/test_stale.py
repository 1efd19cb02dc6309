"""Journals of the past: a source, a target, and a machine made from another one's."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from facts_means import A, B, restarted
from machines import Domain, Machine, World, eventually

from lodom.client.http import call
from lodom.core.errors import Kind

pytestmark = [pytest.mark.live, pytest.mark.long]

Make = Callable[..., Domain]


def journal(machine: Machine) -> list[Path]:
    """The files of the machine's journal."""
    return sorted((machine.placed.folder / "state").glob("journal.db*"))


def saved(machine: Machine, to: Path) -> Path:
    """A copy of the journal, in the new folder *to*; its ldmd is started anew."""
    machine.lab.stop(machine.placed)
    to.mkdir()
    for file in journal(machine):
        shutil.copy(file, to)
    machine.start_ldmd()
    return to


def restore(machine: Machine, backup: Path) -> None:
    """Put a journal in the place of the machine's."""
    machine.lab.stop(machine.placed)
    for file in journal(machine):
        file.unlink()
    for file in backup.iterdir():
        shutil.copy(file, machine.placed.folder / "state")
    machine.start_ldmd()


@contextmanager
def restored(machine: Machine, backup: Path, today: Path) -> Iterator[None]:
    """The machine's ldmd has another journal meanwhile; its own is kept in *today*."""
    saved(machine, today)
    try:
        restore(machine, backup)
        yield
    finally:
        restore(machine, today)


def refused(source: Machine, target: Machine, line: str) -> None:
    """Dry run and real one end with this line, and nothing has changed on either machine."""
    before = source.state(), target.state()
    for options, verdict in ((("-n",), "would fail if attempted"), ((), "failed")):
        said = source.tried(*source.migrate_words("ldg1", target, *options))
        assert said.err.splitlines() == [line, f"Domain Migration of LDom ldg1 {verdict}"]
        assert said.code == Kind.REFUSED.exit_code
    assert (source.state(), target.state()) == before


def test_l03_l05_a_machine_with_the_journal_of_yesterday(
    world: World, domains: Make, tmp_path: Path
) -> None:
    """A domain has moved away; its old source, and then its old target, forgets that it has."""
    a, b = world.a, world.b
    free = a.free_memory()
    domains("ldg1")
    a.ldm("bind-domain", "ldg1")
    here = saved(a, tmp_path / "here")
    a.ldm(*a.migrate_words("ldg1", b))
    assert (a.names(), b.names()) == (["primary"], ["primary", "ldg1"])
    there = saved(b, tmp_path / "there")
    b.ldm("unbind-domain", "ldg1")
    world.lab.cut(b.placed)  # else its ldmd asks before anything is started
    with restored(a, here, tmp_path / "a"):
        world.lab.mend(b.placed)
        line = f"{B} knows LDom ldg1 at epoch 2, {A} at epoch 1: this source is stale"
        refused(a, b, line)
        restarted(a)
        eventually(lambda: a.free_memory() == free, "what it held is free")
        refused(a, b, f"{A} is not the owner of LDom ldg1 (epoch 2)")
    b.ldm("bind-domain", "ldg1")
    b.ldm(*b.migrate_words("ldg1", a))
    (shown,) = call("list-domain", {"ldoms": ["ldg1"]}, path=str(a.placed.socket))["domains"]
    world.lab.cut(b.placed)
    with restored(b, there, tmp_path / "b"):
        world.lab.mend(b.placed)
        refused(a, b, f"{B} has LDom ldg1 itself (UUID {shown['uuid']}), bound")
        restarted(b)
        notice = "another machine owns it: it cannot be started here"
        assert notice in b.ldm("list", "-l", "ldg1")
        assert b.row("ldg1")["state"] == "inactive"
        assert a.tried(*a.migrate_words("ldg1", b, "-n")).code == 0
    assert a.tried(*a.migrate_words("ldg1", b, "-n")).code == 0


def test_l02_a_machine_made_from_the_disk_of_another(
    world: World, domains: Make, tmp_path: Path
) -> None:
    """The target's journal is a copy of the source's."""
    a, b = world.a, world.b
    clone = saved(a, tmp_path / "clone")
    with closing(sqlite3.connect(clone / "journal.db")) as db:
        (id,) = db.execute("SELECT value FROM meta WHERE name = 'instance'").fetchone()
    domains("ldg1")
    a.ldm("bind-domain", "ldg1")
    with restored(b, clone, tmp_path / "b"):
        refused(a, b, f"{B} is the source machine itself, or a clone of it (instance {id})")
    assert a.tried(*a.migrate_words("ldg1", b, "-n")).code == 0
