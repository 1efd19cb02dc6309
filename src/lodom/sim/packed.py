"""The world of ``handover`` as one number, and what can happen in it as numbers to add.

Each part of the world that was ever met has a number; a *core* is those numbers side by side, the
budget left out.  What an act does depends on its parts alone, so it is worked out once for each
combination of these, by the production code, and is then the difference of two cores.  The world
given to an act hides all other parts: an act that looked at one would fail.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from lodom.sim.handover import Budget, World
from lodom.sim.happenings import FAULTS, LAST, OWN
from lodom.sim.invariants import CHECKS
from lodom.sim.processes import Act, Group

_BITS: Final = {"marks": 4, "qs": 6, "qt": 6, "to_t": 14, "to_s": 14, "t": 20, "s": 20}
"""Width of each part's number."""
_PARTS: Final = tuple(part for part in _BITS if part != "marks")
KINDS: Final = Budget._fields
_PLENTY: Final = Budget(*(1 for _ in KINDS))


class _Hidden:
    """A part of the world that an act has not named."""

    def __init__(self, *, up: bool = True) -> None:
        self.up = up

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"an act looks at {name!r} of a part that it does not name")


_HIDDEN: Final = _Hidden()
_SIDES: Final = {True: _Hidden(up=True), False: _Hidden(up=False)}


@dataclass
class Outcome:
    """One way that an act can go: what it spends (-1: nothing), what to add to the core."""

    kind: int
    delta: int
    story: str
    count: int = 0
    """In how many states it was followed."""


class Deed(NamedTuple):
    """An act in numbers: the bits that matter, its outcomes by these bits."""

    mask: int
    known: dict[int, list[Outcome]]
    kind: int
    act: Act


class Glance(NamedTuple):
    """A group in numbers."""

    mask: int
    known: dict[int, list[Deed]]
    group: Group


class Packing:
    """The numbering of all parts, and of all that can happen to them."""

    def __init__(self) -> None:
        self._shift: dict[str, int] = {}
        at = 0
        for part, width in _BITS.items():
            self._shift[part] = at
            at += width
        self._numbers: dict[str, dict[Any, int]] = {part: {} for part in _PARTS}
        self._things: dict[str, list[Any]] = {part: [] for part in _PARTS}
        self._deeds: dict[str, Deed] = {}
        self.own = self._glances(OWN)
        self.last = self._glances(LAST)
        self.faults = self._glances(FAULTS)
        self._checks = [(self.mask(parts), set[int](), parts, holds) for parts, holds in CHECKS]

    def _glances(self, groups: Iterable[Group]) -> list[Glance]:
        return [Glance(self.mask(group.parts), {}, group) for group in groups]

    # -- numbers ---------------------------------------------------------------------------------

    def mask(self, parts: Iterable[str]) -> int:
        """The bits of these parts, and of the marks."""
        return sum(((1 << _BITS[p]) - 1) << self._shift[p] for p in ("marks", *parts))

    def _number(self, part: str, thing: Any) -> int:
        numbers = self._numbers[part]
        number = numbers.setdefault(thing, len(numbers))
        if number == len(self._things[part]):
            assert number < 1 << _BITS[part], f"more than {number} different {part}"
            self._things[part].append(thing)
        return number

    def _get(self, core: int, part: str) -> Any:
        number = core >> self._shift[part] & (1 << _BITS[part]) - 1
        return self._things[part][number]

    def pack(self, w: World, parts: Iterable[str] = _PARTS) -> int:
        """The core of a world, or only some parts of it."""
        marks = w.s.up | w.t.up << 1 | w.loaded << 2 | w.ran << 3
        return marks + sum(self._number(p, getattr(w, p)) << self._shift[p] for p in parts)

    def unpack(self, core: int, parts: Iterable[str] = _PARTS, left: Budget = _PLENTY) -> World:
        """The world of a core; what is not among *parts* is hidden."""
        shown: dict[str, Any] = dict.fromkeys(("qs", "qt", "to_t", "to_s"), _HIDDEN)
        shown |= {"s": _SIDES[bool(core & 1)], "t": _SIDES[bool(core & 2)]}
        shown |= {p: self._get(core, p) for p in parts}
        return World(**shown, left=left, loaded=bool(core & 4), ran=bool(core & 8))

    # -- what can happen -------------------------------------------------------------------------

    def deeds(self, glance: Glance, key: int) -> list[Deed]:
        """The acts that a glance at these parts allows."""
        w = self.unpack(key, glance.group.parts)
        acts = glance.group.acts(*(getattr(w, p) for p in glance.group.parts))
        found = glance.known[key] = [self._deed(act) for act in acts]
        return found

    def _deed(self, act: Act) -> Deed:
        deed = self._deeds.get(act.name)
        if deed is None:
            deed = self._deeds[act.name] = Deed(
                self.mask(act.parts), {}, KINDS.index(act.kind) if act.kind else -1, act
            )
        return deed

    def outcomes(self, deed: Deed, key: int) -> list[Outcome]:
        """The outcomes of an act on these parts.

        Raises:
            Violated: it must not happen.
        """
        parts = deed.act.parts
        w = self.unpack(key, parts)
        before = self.pack(w, parts)
        found = []
        for story, after in deed.act.go(w):
            for p in _PARTS:
                assert p in parts or getattr(after, p) is getattr(w, p), f"{deed.act.name}: {p}"
            spent = [k for k, (a, b) in enumerate(zip(w.left, after.left, strict=True)) if a != b]
            kind = spent[0] if spent else -1
            found.append(Outcome(kind, self.pack(after, parts) - before, story))
        deed.known[key] = found
        return found

    def check(self, core: int) -> None:
        """The invariants of every moment.

        Raises:
            Violated: one does not hold.
        """
        for mask, good, parts, holds in self._checks:
            key = core & mask
            if key not in good:
                holds(self.unpack(key, parts))
                good.add(key)

    def told(self) -> Counter[str]:
        """In how many states each thing happened."""
        counts: Counter[str] = Counter()
        for deed in self._deeds.values():
            for outcomes in deed.known.values():
                for o in outcomes:
                    counts[o.story] += o.count
        return counts
