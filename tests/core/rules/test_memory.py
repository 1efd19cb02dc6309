"""One change, exactly that finding: memory."""

from functools import partial

from lodom.core.alloc.memory import place
from lodom.core.model.domain import Block
from lodom.core.model.host import Region
from lodom.core.rules import room
from lodom.core.rules.case import UseFacts
from lodom.core.rules.catalogue import judge
from lodom.core.units import GIB, MIB
from rules import clean
from rules.clean import CLEAN, brief, ids, target

SPEC = target(free=(Region(0x108000000, GIB), Region(0x188000000, GIB)))


def test_r12_too_little():
    case = target(free=(Region(0x108000000, GIB),))
    expected = [("R12", "blocker", "Not enough free memory on beta: 2G needed, 1G free")]
    assert brief(case) == expected
    assert brief(clean.domain(case, state="bound")) == expected
    assert ids(clean.domain(case, state="inactive")) == []


def test_r18_specification_example():
    """R18 to R21: 2G in one block, twice 1G free."""
    assert brief(SPEC) == [
        ("R18", "blocker", "Unable to bind 2G memory region at real address 0x8000000")
    ]


def test_r18_is_for_active_domains():
    """A bound domain is bound anew: its blocks may split."""
    assert ids(clean.domain(SPEC, state="bound")) == []


def test_r18_names_the_first_block_too_many():
    blocks = (
        Block(0x8000000, 0, GIB),
        Block(0x48000000, 4 * GIB, GIB // 2),
        Block(0x68000000, 8 * GIB, GIB // 2),
    )
    case = clean.domain(
        target(free=(Region(0, GIB + GIB // 4), Region(2 * GIB, GIB // 2 + GIB // 4))),
        blocks=tuple(reversed(blocks)),
    )
    (finding,) = judge(case)
    assert finding.text == "Unable to bind 512M memory region at real address 0x68000000"
    assert finding.details["block"] == 2


def test_r18_says_what_makes_room():
    used = (UseFacts(Region(0x148000000, GIB), "ldg7"), UseFacts(Region(0, MIB), "primary"))
    (finding,) = judge(target(SPEC, used=used))
    assert finding.remedy == "On beta: ldm unbind-domain ldg7 makes room"
    assert finding.details["room_makers"] == ["ldg7"]


def test_r17_the_limit_is_told(monkeypatch):
    """A search that gives up is a blocker of its own, not a wrong R18."""
    monkeypatch.setattr(room, "place", partial(place, steps=8))
    at, free = 0, []
    for hole in (50, 29, 83, 49):
        free.append(Region(at, hole * 2 * MIB))
        at += (hole + 1) * 2 * MIB
    sizes = [20, 15, 29, 24, 30, 29, 15, 22, 27]
    blocks = tuple(Block(n * GIB, 0, size * 2 * MIB) for n, size in enumerate(sizes))
    assert brief(clean.domain(target(free=tuple(free)), blocks=blocks)) == [
        (
            "R17",
            "blocker",
            "No placement of the 9 memory blocks was found on beta in 8 steps; there may be one",
        )
    ]


def test_l14_block_off_the_page():
    blocks = (Block(0x8000000, 0, 6 * MIB),)
    case = clean.target_machine(clean.domain(blocks=blocks), page=4 * MIB)
    assert brief(case) == [
        (
            "L14",
            "blocker",
            "The 6M memory block at real address 0x8000000 is not a multiple of the 4M pages of "
            "beta",
        )
    ]


def test_clean_case_is_clean():
    assert judge(CLEAN) == ()
