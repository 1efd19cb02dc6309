"""The drawing of the target's memory, as text."""

from dataclasses import replace
from functools import partial

from lodom.core.alloc.memory import place
from lodom.core.model.domain import Block
from lodom.core.model.host import Region
from lodom.core.rules import room
from lodom.core.rules.case import UseFacts
from lodom.core.rules.drawing import draw
from lodom.core.units import GIB, MIB
from rules import clean
from rules.clean import target

SPEC = target(
    regions=(Region(0x100000000, 3 * GIB + 128 * MIB),),
    free=(Region(0x108000000, GIB), Region(0x188000000, GIB)),
    used=(UseFacts(Region(0x148000000, GIB), "ldg7"),),
)


def test_specification_example():
    assert (
        draw(SPEC)
        == """\
Memory of beta
    PA               SIZE     OWNER
    0x100000000      128M     not usable       ##
    0x108000000      1G       free             ....................
    0x148000000      1G       ldg7             ####################
    0x188000000      1G       free             ....................

Memory of LDom ldg-src
    RA               SIZE     PLACE
    0x8000000        2G       does not fit

2G needed, 2G free, largest range 1G.
Unbinding or moving one of these makes room: ldg7.
"""
    )


def test_nobody_alone_makes_room():
    case = target(SPEC, used=(UseFacts(Region(0x148000000, GIB), "primary"),), free=())
    assert draw(case).endswith(
        "2G needed, nothing free, largest range nothing.\n"
        "No single domain makes room; unbind or move several, or free more memory.\n"
    )


def test_blocks_that_fit_show_their_places():
    blocks = (Block(0x48000000, 0, GIB), Block(0x8000000, 0, GIB))
    assert draw(clean.domain(SPEC, blocks=blocks)).endswith(
        "    0x8000000        1G       0x108000000\n    0x48000000       1G       0x188000000\n"
    )


def test_undecided(monkeypatch):
    monkeypatch.setattr(room, "place", partial(place, steps=8))
    at, free = 0, []
    for hole in (50, 29, 83, 49):
        free.append(Region(at, hole * 2 * MIB))
        at += (hole + 1) * 2 * MIB
    sizes = [20, 15, 29, 24, 30, 29, 15, 22, 27]
    blocks = tuple(Block(n * GIB, 0, size * 2 * MIB) for n, size in enumerate(sizes))
    case = clean.domain(target(free=tuple(free), regions=tuple(free)), blocks=blocks)
    assert draw(case).endswith("Whether the blocks fit was not found out in 8 steps.\n")


def test_no_blocks_no_drawing():
    assert draw(replace(clean.domain(blocks=()))) == ""
