"""The specification's example of fragmented memory, with real daemons and a running domain.

As it is written there, and with sizes, addresses and names made up; in the end the domain moves to
a machine where its block fits.
"""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lodom.core.errors import Kind
from lodom.core.model.host import Region
from lodom.core.units import GIB, MIB, format_size
from lodom.host.topology import memory_available
from lodom.lab.demo.stage import Stage
from lodom.lab.lab import PASSWORD, Lab
from lodom.lab.topology import LabMachine, Topology

pytestmark = pytest.mark.live

LOW, PRIMARY = 0x8000000, 256 * MIB


class Example:
    """Source with one block, a target with smaller ranges, another with room enough."""

    def __init__(self, domain: str, names: list[str], block: Region, ranges: list[Region]) -> None:
        self.domain, self.names, self.block, self.ranges = domain, names, block, ranges

    @property
    def topology(self) -> Topology:
        own = Region(LOW, PRIMARY)
        room = Region(self.block.base + 8 * GIB, self.block.size)
        regions = ((own, self.block), (own, *self.ranges), (own, room))
        return Topology(
            tuple(
                LabMachine(name, regions=r, primary_memory=PRIMARY)
                for name, r in zip(self.names, regions, strict=True)
            )
        )


def written() -> Example:
    """The specification's own."""
    return Example(
        "ldg-src", ["dt90-319", "dt212-239", "dt212-240"],
        Region(0x208000000, 2 * GIB), [Region(0x108000000, GIB), Region(0x188000000, GIB)],
    )  # fmt: skip


def made_up(seed: int) -> Example:
    """Another with the same moral: enough memory, in ranges that are all too small."""
    chance = random.Random(seed)
    size = chance.randrange(64, 160) * 4 * MIB
    cut = chance.randrange(size // 4, size // 2) // (2 * MIB) * 2 * MIB
    base = chance.randrange(0x1000, 0x8000) * 2 * MIB
    ranges = [
        Region(base, cut),
        Region(base + cut + chance.randrange(1, 512) * 2 * MIB, size - cut),
    ]
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = ["".join(chance.sample(letters, 7)) for _ in range(4)]
    source = Region(chance.randrange(0x100, 0x8000) * 2 * MIB, size)
    return Example(f"ldg-{names.pop()}", names, source, ranges)


@pytest.fixture(params=[written, lambda: made_up(1), lambda: made_up(2)], ids=["written", "1", "2"])
def example(request: pytest.FixtureRequest) -> Iterator[tuple[Example, Lab]]:
    """The machines, up."""
    if os.geteuid() != 0 or not shutil.which("qemu-system-x86_64"):
        pytest.skip("machines and their domains need root and QEMU")
    found: Example = request.param()
    needed = sum(m.size for m in found.topology.machines)
    if needed > memory_available():
        pytest.skip(f"the machines need {format_size(needed)} of free memory")
    lab = Lab()
    lab.up(found.topology)
    try:
        yield found, lab
    finally:
        lab.down()


def test_a_block_that_has_no_place_together(
    example: tuple[Example, Lab], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Byte for byte the three commands of the specification; then a target where it fits."""
    case, lab = example
    source, small, large = lab.machines
    name, size = case.domain, format_size(case.block.size)
    stage = Stage()
    for words in ("add-domain", "set-vcpu 1", f"set-memory {size}", "bind-domain"):
        stage.ldm(source, *words.split(), name)
    stage.ldm(source, "start-domain", name)

    assert stage.ldm(small, "list-devices", "memory") == (
        "MEMORY\n    PA                   SIZE\n"
        + "".join(f"    {r.base:<#20x} {format_size(r.size)}\n" for r in case.ranges)
    )
    assert stage.ldm(source, "list", "-o", "memory", name) == (
        f"NAME\n{name}\n\nMEMORY\n"
        "    RA               PA               SIZE\n"
        f"    0x8000000        {case.block.base:<#16x} {size}\n"
    )
    failed = Kind.REFUSED.exit_code
    migrate = ("migrate-domain", name, small.machine.name)
    assert stage.ldm_asked(source, PASSWORD, *migrate, status=failed) == (
        "Target Password:\n"
        f"Unable to bind {size} memory region at real address 0x8000000\n"
        f"Domain Migration of LDom {name} failed\n"
    )
    stage.ldm_asked(source, PASSWORD, "migrate-domain", name, large.machine.name)
    arrived = stage.ldm(large, "list", "-o", "memory", name)
    assert f"    0x8000000        {case.block.base + 8 * GIB:<#16x} {size}\n" in arrived
    capsys.readouterr()
