"""The target is lost for ever after the hand-over: ``ldm recover-domain`` ends the doubt.

And when the lost target comes back after all, it does not run a second copy.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from select import select

import pytest
from failpoint import link_lost_before
from machines import BOOT_S, Domain, Machine, World, eventually
from test_in_doubt import settled

from lodom.core.errors import Kind
from lodom.core.migration.steps import DOUBT_S
from lodom.lab.watch import Heartbeats

pytestmark = [pytest.mark.live, pytest.mark.long]

Make = Callable[..., Domain]


def lose(machine: Machine) -> None:
    """The machine goes, with its ldmd and the domain's process, in one moment."""
    fds = [os.pidfd_open(p) for p in (machine.lab.pid(machine.placed), *machine.qemus("ldg1")) if p]
    for fd in fds:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    for fd in fds:
        assert select([fd], [], [], 10)[0]
        os.close(fd)


@pytest.mark.parametrize("lost", ["Cede", "Owned"])
def test_the_target_is_gone_for_ever(
    world: World, domains: Make, tmp_path: Path, lost: str
) -> None:
    """Whether it never heard of the hand-over, or ran the domain before it was lost."""
    a, b = world.a, world.b
    domain = domains("ldg1", vcpus=2, disk=4 << 20)
    with (
        Heartbeats() as beats,
        link_lost_before(a if lost == "Cede" else b, lost, tmp_path) as cut,
    ):
        boot = domain.start(beats)
        cut.with_name("armed").touch()
        ldm = a.begin(*a.migrate_words("ldg1", b))
        eventually(cut.exists, "the hand-over", within=60)
        lose(b)
        assert a.end(ldm, within=DOUBT_S + 30).code == Kind.PEER.exit_code
        assert a.row("ldg1")["flags"][5] == "e"
        asked = a.tried("recover-domain", "ldg1")
        assert (asked.code, "ldm recover-domain -y ldg1" in asked.err) == (0, True), asked
        assert a.row("ldg1")["flags"][5] == "e", "told only"
        done = a.tried("recover-domain", "-y", "ldg1")
        assert (done.code, "LDom ldg1 is started here anew" in done.out) == (0, True), done
        # The target may have run it, so the memory here may be older than the disk: another boot.
        anew = beats.first("ldg1", within=BOOT_S, unlike=boot)
        eventually(lambda: a.row("ldg1")["flags"] == "-n----", "an ordinary domain", within=BOOT_S)
        assert "no hand-over of it is in doubt" in a.ldm("recover-domain", "ldg1")
        # The lost machine is found again.
        for machine in (a, b):
            world.lab.mend(machine.placed)
        with domain.counter() as counter:
            b.start_ldmd()
            eventually(lambda: settled(a, b), "the target gives it up", within=60)
            counter.wait(100, within=10)
            assert counter.unbroken
        said = domain.status.read()
        assert (said["cpus"], said["disk"]["bad"], said["disk"]["errors"]) == (2, 0, 0)
        assert (beats.boots("ldg1"), b.qemus("ldg1")) == ([boot, anew], [])
        assert len(a.qemus("ldg1")) == 1
