"""Drawings: a machine's strands, memory and switches; two series of arrivals side by side."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from lodom.core.units import format_size
from lodom.lab.watch import TICK_S, Arrivals

WIDTH = 38
"""Of one machine: two fit on a terminal of 80 columns."""
_BAR = 9

Document = Mapping[str, Any]


def machine(name: str, devices: Document, services: Document) -> list[str]:
    """One machine, out of ``list-devices`` and ``list-services``."""
    owners = {s["bound"] or s["held"] for s in devices["vcpu"]} - {""}
    sign = {owner: _sign(owner) for owner in sorted(owners, key=lambda o: (o != "primary", o))}
    legend = ", ".join(f"{letter} {owner}" for owner, letter in sign.items())
    lines = [f"{name} {'-' * (WIDTH - len(name) - 1)}", f"strands      {legend}, . free"]
    for core in sorted({s["core"] for s in devices["vcpu"]}):
        strands = [s for s in devices["vcpu"] if s["core"] == core]
        marks = " ".join(sign.get(s["bound"] or s["held"], ".") for s in strands)
        lines.append(f"  core {core}     {marks}")
    widest = max(block["size"] for block in devices["memory"])
    lines.append("memory        size  owner")
    lines += [_block(block, widest) for block in devices["memory"]]
    switches = [s["name"] for group in services["services"] for s in group["vsw"]]
    lines.append(f"switches     {', '.join(switches) or 'none'}")
    return lines


def _sign(owner: str) -> str:
    return "P" if owner == "primary" else owner.removeprefix("ldg").lstrip("-")[:1] or "g"


def _block(block: Document, widest: int) -> str:
    mark = "#" if block["bound"] else "."
    bar = mark * max(1, block["size"] * _BAR // widest)
    return f"  {block['pa']:<12}{format_size(block['size']):<5} {block['bound'] or 'free':<8}{bar}"


def beside(left: Sequence[str], right: Sequence[str]) -> list[str]:
    """Two drawings next to each other."""
    rows = zip_longest(left, right, fillvalue="")
    return [f"{a:<{WIDTH}}    {b}".rstrip() for a, b in rows]


def timeline(
    counter: Arrivals, probe: Arrivals, since: float, rows: int = 12, step: float = 0.1
) -> list[str]:
    """What came of each in every *step* seconds; a guest that stands still leaves a hole."""
    full = round(step / TICK_S)
    lines = [f"{'':9}{'counter, one open TCP connection':<36}probe every 5 ms"]
    for row in range(rows):
        at = since + row * step
        cells = []
        for arrivals in (counter, probe):
            number = arrivals.came(at) - arrivals.came(at + step)
            cells.append(f"{'|' * min(number, full + 4):<{full + 4}} {number:>3}")
        lines.append(f"{row * step:5.1f} s  {cells[0]:<36}{cells[1]}")
    return lines
