"""ldmd is killed in the middle of a copy and started again: it ends well by itself."""

import signal
from collections.abc import Callable

import pytest
from machines import Domain, World, eventually
from test_cancel import copying, slow_link

from lodom.lab.watch import Heartbeats

pytestmark = pytest.mark.live
__all__ = ["slow_link"]

Make = Callable[..., Domain]


@pytest.mark.parametrize("side", [pytest.param("source", marks=pytest.mark.long), "target"])
@pytest.mark.usefixtures("slow_link")
def test_killed_during_the_copy(world: World, domains: Make, side: str) -> None:
    """In the end one machine has it, with all its strands; the guest noticed nothing."""
    a, b = world.a, world.b
    domain = domains("ldg1", vcpus=2)
    with Heartbeats() as beats:
        boot = domain.start(beats)
        with domain.counter() as counter:
            ldm = a.begin(*a.migrate_words("ldg1", b))
            eventually(lambda: copying(world, "ldg1"), "the copy")
            killed = a if side == "source" else b
            killed.kill_ldmd(signal.SIGKILL)
            killed.start_ldmd()
            a.end(ldm, within=90)

            def settled() -> bool:
                where = [m for m in (a, b) if "ldg1" in m.names()]
                return len(where) == 1 and where[0].row("ldg1")["flags"] == "-n----"

            eventually(settled, "one machine has it", within=90)
            eventually(lambda: domain.status.read()["cpus"] == 2, "its strands are back")
            counter.wait(100, within=10)
            assert counter.unbroken
        assert beats.boots("ldg1") == [boot]
        # The frame that was on its way when the guest stopped may come again.
        assert beats.repeated("ldg1") <= 1
        assert len(a.qemus("ldg1")) + len(b.qemus("ldg1")) == 1
