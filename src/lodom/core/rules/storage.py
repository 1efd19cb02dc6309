"""Whether two machines' back ends are the same storage, as far as it can be known."""

from dataclasses import dataclass
from enum import StrEnum

from lodom.core.rules.case import BackendFacts
from lodom.core.units import format_size


class Verdict(StrEnum):
    """What the evidence says."""

    SAME = "same"
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Evidence:
    """The verdict and the fact that it rests on."""

    verdict: Verdict
    why: str


_WORST = (Verdict.OTHER, Verdict.UNKNOWN, Verdict.SAME)


def compare(source: BackendFacts, target: BackendFacts) -> Evidence:
    """The evidence that both are the same storage, with all images below: the worst of each.

    Same: the lock handshake, or an equal WWN, VPD or NVMe identity.  Other: a file that took the
    place of the one in use, identities of one kind that differ, another size, known file systems
    that differ.  All else, a lock not seen included, proves nothing.

    Source: DESIGN section 7; rule R27.
    """
    found = [_compare(source, target)]
    ours, theirs = len(source.layers), len(target.layers)
    if ours != theirs:
        why = f"{ours} images lie below it on one machine, {theirs} on the other"
        found.append(Evidence(Verdict.OTHER, why))
    for number, pair in enumerate(zip(source.layers, target.layers, strict=False), 1):
        layer = _compare(*pair)
        found.append(Evidence(layer.verdict, f"of image {number} below it, {layer.why}"))
    return min(found, key=lambda e: _WORST.index(e.verdict))


def _compare(source: BackendFacts, target: BackendFacts) -> Evidence:
    if source.replaced:  # the handshake would prove that both see what took its place
        return Evidence(Verdict.OTHER, source.replaced)
    if target.handshake:
        return Evidence(Verdict.SAME, "the target saw the source's lock come and go")
    if source.size and target.size and source.size != target.size:
        sizes = f"{format_size(source.size)} and {format_size(target.size)}"
        return Evidence(Verdict.OTHER, f"the sizes differ: {sizes}")
    kinds = {_kind(i) for i in source.ids} & {_kind(i) for i in target.ids}
    equal = set(source.ids) & set(target.ids)
    if equal:
        return Evidence(Verdict.SAME, f"both have {min(equal)}")
    if kinds:
        ours, theirs = (
            next(i for i in facts.ids if _kind(i) == min(kinds)) for facts in (source, target)
        )
        return Evidence(Verdict.OTHER, f"the identities differ: {ours} and {theirs}")
    if source.file_system and target.file_system and source.file_system != target.file_system:
        systems = f"{source.file_system} and {target.file_system}"
        return Evidence(Verdict.OTHER, f"the file systems differ: {systems}")
    return Evidence(Verdict.UNKNOWN, "no identity is known on both sides")


def _kind(identity: str) -> str:
    return identity.partition(".")[0]
