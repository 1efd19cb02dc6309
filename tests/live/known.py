"""What the lab guest has in its memory and on its disk, computed here again (guest/README.md)."""

import struct
from pathlib import Path
from typing import Any

from machines import PAGE, Block, Machine

_MAGIC = 0x4C6F646F6D426C6B
_ALL = 2**64 - 1
_REREADS = 50


def mix(x: int) -> int:
    """splitmix64."""
    x = (x + 0x9E3779B97F4A7C15) & _ALL
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _ALL
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _ALL
    return x ^ x >> 31


def place(blocks: list[Block], gpa: int) -> tuple[Block, int]:
    """The block that holds a guest-physical address, and where: they lie one behind the other."""
    for block in blocks:
        if gpa < block.size:
            return block, gpa
        gpa -= block.size
    raise AssertionError("beyond the last block")


def spoiled(machine: Machine, blocks: list[Block], pattern: dict[str, Any]) -> list[int]:
    """Pages of the guest's pattern that are not in the pool file where *blocks* says."""
    bad = []
    for page, gpa in enumerate(pattern["pages"]):
        block, offset = place(blocks, gpa)
        words = struct.unpack("<512Q", machine.peek(block.pa + offset, PAGE))
        if words != tuple(mix(pattern["seed"] ^ (page << 9 | w)) for w in range(512)):
            bad.append(page)
    return bad


def _whole(data: bytes, number: int) -> bool:
    magic, found, generation, total, *words = struct.unpack("<512Q", data)
    expected = mix(found) ^ generation
    for word in words:
        expected = (expected ^ word) * 0x100000001B3 & _ALL
    return (magic, found, total) == (_MAGIC, number, expected)


def torn(volume: Path) -> list[int]:
    """Blocks of the guest's disk that are neither empty nor whole.

    The guest may be writing one just now, so a block must be bad each time it is read.
    """
    bad = []
    with volume.open("rb", buffering=0) as file:
        for number in range(volume.stat().st_size // PAGE):
            for _ in range(_REREADS):
                file.seek(number * PAGE)
                data = file.read(PAGE)
                if not any(data) or _whole(data, number):
                    break
            else:
                bad.append(number)
    return bad
