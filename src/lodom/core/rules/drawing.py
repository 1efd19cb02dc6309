"""A drawing of the target's memory for ``migrate-domain -n -v``: who lies where, what fits."""

from lodom.core.alloc.memory import Misfit, Undecided
from lodom.core.alloc.regions import subtract
from lodom.core.model.host import Region
from lodom.core.rules.case import Case, TargetFacts
from lodom.core.rules.room import blocks_by_ra, placement, room_makers
from lodom.core.units import format_size

_BAR = 40


def draw(case: Case) -> str:
    """The map of the target's memory, then where each block goes or why it does not.

    One row a range, ascending; bars show sizes on one scale.  Empty without blocks.
    """
    blocks = blocks_by_ra(case)
    if not blocks:
        return ""
    answer = placement(case)
    rows = _rows(case.target)
    widest = max([*(r.size for r, _ in rows), *(b.size for b in blocks)])
    lines = [f"Memory of {case.target.machine.name}", f"    {'PA':<16} {'SIZE':<8} OWNER"]
    lines += [_row(region, owner, widest) for region, owner in rows]
    lines += ["", f"Memory of LDom {case.domain.name}", f"    {'RA':<16} {'SIZE':<8} PLACE"]
    for index, block in enumerate(blocks):
        words = _place(answer, index)
        lines.append(f"    {block.ra:<#16x} {format_size(block.size):<8} {words}".rstrip())
    return "\n".join([*lines, *_advice(case, answer)]) + "\n"


def _rows(target: TargetFacts) -> list[tuple[Region, str]]:
    """Every range of the target's memory with its owner; neighbours of one owner apart."""
    rows = [(region, "free") for region in target.free]
    rows += [(use.region, use.owner or use.kind) for use in target.used]
    left = subtract(target.regions, [region for region, _ in rows])
    rows += [(region, "not usable") for region in left]
    return sorted(rows)


def _row(region: Region, owner: str, widest: int) -> str:
    length = max(1, region.size * _BAR // widest)
    bar = ("." if owner == "free" else "#") * length
    return f"    {region.base:<#16x} {format_size(region.size):<8} {owner:<16} {bar}"


def _place(answer: tuple[int, ...] | Misfit | Undecided, index: int) -> str:
    if isinstance(answer, tuple):
        return f"{answer[index]:#x}"
    if isinstance(answer, Misfit) and answer.block == index:
        return "does not fit" if answer.sure else "does not fit (nor may an earlier one)"
    return ""


def _advice(case: Case, answer: tuple[int, ...] | Misfit | Undecided) -> list[str]:
    """What would make room, when there is none."""
    if isinstance(answer, tuple):
        return []
    if isinstance(answer, Undecided):
        return ["", f"Whether the blocks fit was not found out in {answer.steps} steps."]
    lines = ["", f"{format_size(answer.wanted)} needed, {_size(answer.free)} free, largest range"]
    lines[-1] += f" {_size(answer.largest)}."
    makers = room_makers(case.target, [b.size for b in blocks_by_ra(case)])
    if makers:
        lines.append(f"Unbinding or moving one of these makes room: {', '.join(makers)}.")
    else:
        lines.append("No single domain makes room; unbind or move several, or free more memory.")
    return lines


def _size(size: int) -> str:
    return format_size(size) if size else "nothing"
