"""The domain's process on the source hangs while its migration is given up: a way out."""

import os
import signal
from collections.abc import Callable
from select import select

import pytest
from machines import BOOT_S, Domain, World, eventually
from test_cancel import copying, slow_link
from test_in_doubt import settled

from lodom.core.errors import GuestHangs
from lodom.core.migration.steps import DOUBT_S
from lodom.lab.watch import Heartbeats

pytestmark = [pytest.mark.live, pytest.mark.long]
__all__ = ["slow_link"]


@pytest.mark.usefixtures("slow_link")
def test_a_process_that_hangs_is_ended_on_consent(
    world: World, domains: Callable[..., Domain]
) -> None:
    """Stopped in the middle of the copy; what waits is answered, other orders are taken."""
    a, b = world.a, world.b
    domain = domains("ldg1")
    with Heartbeats() as beats:
        boot = domain.start(beats)
        (pid,) = a.qemus("ldg1")
        ldm = a.begin(*a.migrate_words("ldg1", b))
        eventually(lambda: copying(world, "ldg1"), "the copy")
        hung = os.pidfd_open(pid)
        signal.pidfd_send_signal(hung, signal.SIGSTOP)
        cancel = a.begin("cancel-operation", "migration", "ldg1")
        for command in (ldm, cancel):
            said = a.end(command, within=DOUBT_S + 30)
            assert said.code == GuestHangs.kind.exit_code, said
            assert "does not answer (flag e)" in said.err
        assert a.row("ldg1")["flags"][5] == "e"
        a.ldm("add-domain", "ldg9")
        a.ldm("remove-domain", "ldg9")
        told = a.ldm("recover-domain", "ldg1")
        assert f"end process {pid} (SIGKILL)" in told
        assert not select([hung], [], [], 0)[0], "told only"
        assert "started here anew" in a.ldm("recover-domain", "-y", "ldg1")
        assert select([hung], [], [], 20)[0], "the process is gone"
        os.close(hung)
        anew = beats.first("ldg1", within=BOOT_S, unlike=boot)
        eventually(lambda: a.row("ldg1")["flags"] == "-n----", "an ordinary domain", within=BOOT_S)
        eventually(lambda: settled(a, b), "the target is free", within=30)
        assert (beats.boots("ldg1"), b.qemus("ldg1")) == ([boot, anew], [])
