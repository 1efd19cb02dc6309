"""How values and tables look (digest 2): columns left-justified, two blanks between, no tail."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lodom.core.units import format_size

VERSION = "VERSION 1.3"
"""First line of ``-p``: 1.2's own number is not recorded; 1.0 and 1.4 are its neighbours."""
RULE = "-" * 78
INDENT = "    "

Document = dict[str, Any]
Columns = Sequence[tuple[str, int]]
Section = Callable[[Document], list[str]]
"""What a report says of one document."""


def row(widths: Iterable[int], cells: Iterable[object]) -> str:
    """Cells padded to their widths; a cell that fills its column pushes the rest right."""
    padded = (
        f"{cell:<{width}}" if len(str(cell)) < width or not width else f"{cell} "
        for width, cell in zip(widths, map(str, cells), strict=True)
    )
    return "".join(padded).rstrip()


def section(title: str, columns: Columns, rows: Iterable[Sequence[object]]) -> list[str]:
    """Title, heading and rows, or nothing when there are no rows."""
    widths = [width for _, width in columns]
    lines = [INDENT + row(widths, cells) for cells in rows]
    if not lines:
        return []
    heading = INDENT + row(widths, [name for name, _ in columns])
    return [title, heading.rstrip(), *(line.rstrip() for line in lines)]


def record(keyword: str, *pairs: tuple[str, object]) -> str:
    """``KEYWORD|attr=value|…``; without a keyword a continuation row."""
    return "|".join([keyword, *(f"{name}={value}" for name, value in pairs)])


def size(number: int | None) -> str:
    """``512M``; nothing for none."""
    return format_size(number) if number else ""


def percent(number: float | None) -> str:
    """``0.5``, ``23``, ``100``: one decimal below ten (digest 2.2); nothing when unknown."""
    if number is None:
        return ""
    rounded = round(number, 1)
    return f"{rounded:.1f}" if rounded < 10 else f"{number:.0f}"


def with_sign(number: float | None) -> str:
    """``0.5%``; nothing when unknown."""
    return f"{percent(number)}%" if number is not None else ""


def uptime(seconds: int | None) -> str:
    """``0s``, ``2m``, ``3d 21h 7m``: units that are not zero, seconds below a minute."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds}s"
    minutes, hours, days = seconds // 60 % 60, seconds // 3600 % 24, seconds // 86400
    units = ((days, "d"), (hours, "h"), (minutes, "m"))
    return " ".join(f"{number}{letter}" for number, letter in units if number)


def cpuset(strands: Iterable[int]) -> str:
    """``(0, 1, 2, 3)``."""
    return "(" + ", ".join(map(str, strands)) + ")"


def numbers(items: Iterable[int]) -> str:
    """``2,3``."""
    return ",".join(map(str, items))


def joined(blocks: Iterable[list[str]]) -> list[str]:
    """Sections with an empty line between; empty sections leave nothing."""
    lines: list[str] = []
    for block in blocks:
        if block:
            lines += ["", *block] if lines else block
    return lines


def reports(documents: Iterable[Document], report: Section) -> list[str]:
    """A report a document, a line of dashes between."""
    lines: list[str] = []
    for document in documents:
        lines += [RULE, *report(document)] if lines else report(document)
    return lines
