"""Sizes and addresses as people write them: ``1536M``, ``0x8000000``.

Sizes and addresses are plain ``int`` bytes everywhere in Lodom; only this module knows how they
look in text.  Source: ldm-cli digest, 1.4 and 2 (units, "largest unit that divides exactly").
"""

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

_UNITS = {"K": KIB, "M": MIB, "G": GIB}


def parse_size(text: str) -> int:
    """Bytes for ``4G``, ``512m``, ``8192`` (no letter: bytes).

    Raises:
        ValueError: not a whole number with an optional K, M or G, or not positive.
    """
    digits, factor = text, 1
    if text and text[-1].upper() in _UNITS:
        digits, factor = text[:-1], _UNITS[text[-1].upper()]
    if not (digits.isascii() and digits.isdigit()) or int(digits) == 0:
        raise ValueError(text)
    return int(digits) * factor


def format_size(size: int) -> str:
    """The largest unit that divides exactly: ``1G``, ``1536K``, ``5632M``; bytes bare."""
    for letter, factor in (("G", GIB), ("M", MIB), ("K", KIB)):
        if size and size % factor == 0:
            return f"{size // factor}{letter}"
    return str(size)


def round_up(size: int, grain: int) -> int:
    """The smallest multiple of *grain* that is not below *size*."""
    return -(-size // grain) * grain
