"""The link is lost between CEDED and the answer: each side says what it knows, and it ends."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from failpoint import link_lost_before
from machines import Domain, Machine, World, eventually

from lodom.core.errors import Kind
from lodom.core.migration.steps import DOUBT_S, LEASE_S, RESEND_MAX_S
from lodom.lab.watch import Heartbeats

pytestmark = pytest.mark.live

Make = Callable[..., Domain]
VCPUS = 2
REFUSED = ("start-domain", "stop-domain", "unbind-domain", "remove-domain", "add-vcpu 1")


def in_doubt(a: Machine, b: Machine) -> None:
    """The source says what it knows, and refuses what would be a guess."""
    assert a.row("ldg1")["flags"][5] == "e"
    shown = a.ldm("list", "-o", "status", "ldg1")
    assert re.search(r"OPERATION +PROGRESS +TARGET\n +migration +error +dt212-239", shown), shown
    told = a.ldm("recover-domain", "ldg1")
    for words in (
        r"LDom ldg1 was handed over to dt212-239", r"CEDED, epoch \d+ belongs to",
        r"Process here: +stopped, complete, never run since", r"has not answered",
        r"If the target comes back, the two end this by themselves",
        r"The one safe action: take LDom ldg1 back .* ONLY IF dt212-239 is off for ever",
    ):  # fmt: skip
        assert re.search(words, told), told
    for words in REFUSED:
        said = a.tried(*words.split(), "ldg1")
        assert said.code, words
        assert "ldg1" in said.err, (words, said)
    said = a.tried("cancel-operation", "migration", "ldg1")
    assert said.code
    assert "handed over to the target" in said.err, said
    assert a.row("ldg1")["flags"][5] == "e"
    assert "ldg1" in b.names()


def settled(on: Machine, other: Machine) -> bool:
    """One machine has it, without a flag and with its process; the other has nothing."""
    if "ldg1" not in on.names() or "ldg1" in other.names():
        return False
    return on.row("ldg1")["flags"] == "-n----" and not other.qemus("ldg1")


def whole(domain: Domain, on: Machine, beats: Heartbeats, boot: str) -> None:
    """The guest of that boot goes on with all its strands, and never ran twice."""
    beats.of("ldg1").wait(100, within=10)
    eventually(lambda: domain.status.read()["cpus"] == VCPUS, "its strands are back")
    assert beats.boots("ldg1") == [boot]
    # The frame that was on its way when the guest stopped may come again.
    assert beats.repeated("ldg1") <= 1
    assert len(on.qemus("ldg1")) == 1


@pytest.mark.long
@pytest.mark.parametrize("lost", ["Cede", "Owned"])
def test_it_ends_by_itself(world: World, domains: Make, tmp_path: Path, lost: str) -> None:
    """The order to take it over is lost, or the answer that it was taken."""
    a, b = world.a, world.b
    domain = domains("ldg1", vcpus=VCPUS)
    cutter = a if lost == "Cede" else b
    with Heartbeats() as beats, link_lost_before(cutter, lost, tmp_path) as cut:
        boot = domain.start(beats)
        cut.with_name("armed").touch()
        ldm = a.begin(*a.migrate_words("ldg1", b))
        eventually(cut.exists, "the hand-over", within=60)
        said = a.end(ldm, within=DOUBT_S + 30)
        assert said.code == Kind.PEER.exit_code, said
        assert "No answer from dt212-239 since LDom ldg1 was handed over" in said.err
        in_doubt(a, b)
        if lost == "Cede":
            # The target has all and was told nothing: it waits, and nobody runs the guest.
            assert b.row("ldg1")["flags"][5] == "t"
            shown = b.ldm("list", "-o", "status", "ldg1")
            assert re.search(r"SOURCE\n +migration +\d+% +dt90-319", shown), shown
        else:
            # The target owns it and runs it; only the source does not know.
            assert b.row("ldg1")["state"] == "active"
            beats.of("ldg1").wait(100, within=10)
        world.lab.mend(cutter.placed)
        eventually(lambda: settled(b, a), "it ended by itself", within=RESEND_MAX_S + 15)
        whole(domain, b, beats, boot)


@pytest.mark.long
def test_the_target_has_given_it_back(world: World, domains: Make, tmp_path: Path) -> None:
    """The link comes back after the target's lease: it says no, and the source goes on."""
    a, b = world.a, world.b
    domain = domains("ldg1", vcpus=VCPUS)
    there = b.state()
    with Heartbeats() as beats, link_lost_before(a, "Cede", tmp_path) as cut:
        boot = domain.start(beats)
        cut.with_name("armed").touch()
        ldm = a.begin(*a.migrate_words("ldg1", b))
        eventually(cut.exists, "the hand-over", within=60)
        assert a.end(ldm, within=DOUBT_S + 30).code == Kind.PEER.exit_code
        eventually(lambda: b.state() == there, "the lease is over", within=LEASE_S + 10)
        assert a.row("ldg1")["flags"][5] == "e"
        world.lab.mend(a.placed)
        eventually(lambda: settled(a, b), "the source goes on", within=RESEND_MAX_S + 15)
        whole(domain, a, beats, boot)
