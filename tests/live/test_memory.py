"""Every page arrives: both machines' pool files compared while the guest stands still on both."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
from failpoint import link_lost_before
from machines import PAGE, Block, Domain, Machine, World, eventually
from test_cancel import copying, slow_link

from lodom.core.units import MIB
from lodom.lab.watch import Heartbeats

pytestmark = pytest.mark.live
__all__ = ["slow_link"]

Make = Callable[..., Domain]


def unequal(a: Machine, here: list[Block], b: Machine, there: list[Block]) -> list[int]:
    """Numbers of the domain's pages that differ between the two machines."""
    left, right = a.memory(here), b.memory(there)
    if left == right:
        return []
    pages = range(len(left) // PAGE)
    return [
        n for n in pages if left[n * PAGE : n * PAGE + PAGE] != right[n * PAGE : n * PAGE + PAGE]
    ]


def logged(machine: Machine, word: str) -> Callable[[], bool]:
    """The machine's ldmd has logged *word* since now."""
    path = machine.placed.folder / "log/ldmd.log"
    begin = path.stat().st_size

    def seen() -> bool:
        with path.open("rb") as log:
            log.seek(begin)
            return word.encode() in log.read()

    return seen


@pytest.mark.parametrize("cancelled_before", [False, True])
@pytest.mark.usefixtures("slow_link")
def test_page_by_page(world: World, domains: Make, cancelled_before: bool) -> None:
    """The target's free memory was full of 0xAA, or of what a cancelled copy left there.

    Both ldmds are stopped while the last bytes are on their way, so that the hand-over stays in
    doubt until the pages were compared.
    """
    a, b = world.a, world.b
    domain = domains("ldg1", vcpus=2)
    for block in b.free_memory():
        b.fill(block, 0xAA)
    with Heartbeats() as beats:
        boot = domain.start(beats)
        here = a.blocks("ldg1")
        places = []
        if cancelled_before:
            ldm = a.begin(*a.migrate_words("ldg1", b))
            eventually(lambda: copying(world, "ldg1"), "the copy")
            places.append(b.blocks("ldg1"))
            a.ldm("cancel-operation", "migration", "ldg1")
            assert a.end(ldm).code != 0
            eventually(lambda: a.row("ldg1")["flags"] == "-n----", "an ordinary domain again")
            eventually(lambda: b.free_strands() == 12, "the target is free again")
        ldm = a.begin(*a.migrate_words("ldg1", b))
        last_bytes = logged(a, "FinishCopy(")
        eventually(lambda: copying(world, "ldg1"), "the copy")
        places.append(b.blocks("ldg1"))
        eventually(last_bytes, "the last bytes", within=60)
        for machine in (a, b):
            machine.kill_ldmd(signal.SIGSTOP)
        stopped = monotonic()
        try:
            eventually(lambda: not unequal(a, here, b, places[-1]), "all pages are equal")
            assert beats.of("ldg1").came(stopped) == 0, "it ran while its pages were compared"
        finally:
            for machine in (a, b):
                machine.kill_ldmd(signal.SIGCONT)
        assert a.end(ldm).code == 0
        assert all(place == places[0] for place in places), "the same blocks both times"
        assert beats.boots("ldg1") == [boot]
        # The frame that was on its way when the guest stopped may come again.
        assert beats.repeated("ldg1") <= 1
        assert (a.names(), b.row("ldg1")["state"]) == (["primary"], "active")


@pytest.mark.usefixtures("slow_link")
@pytest.mark.long
def test_page_by_page_where_a_small_block_comes_first(
    world: World, domains: Make, tmp_path: Path
) -> None:
    """Several rounds, with a dirtier in both blocks; the hand-over is in doubt meanwhile.

    QEMU under emulation counts a block's dirty pages as if the block lay first (argv.py).
    """
    a, b = world.a, world.b
    domain = domains("ldg1", memory="64M")
    a.ldm("bind-domain", "ldg1")
    world.spare("between", "64M")
    a.ldm("add-memory", "128M", "ldg1")
    here = a.blocks("ldg1")
    assert [block.size // MIB for block in here] == [64, 128]
    with Heartbeats() as beats, link_lost_before(a, "Cede", tmp_path) as cut:
        boot = domain.start(beats)
        assert domain.status.say("dirty 5 64") == "ok"
        cut.with_name("armed").touch()
        ldm = a.begin(*a.migrate_words("ldg1", b, "--json"))
        eventually(cut.exists, "the hand-over", within=60)
        assert unequal(a, here, b, b.blocks("ldg1")) == []
        world.lab.mend(a.placed)
        said = a.end(ldm)
        assert said.code == 0, said
        assert json.loads(said.out)["numbers"]["round"] > 2
        assert beats.boots("ldg1") == [boot]
