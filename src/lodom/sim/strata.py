"""Every state that a budget of faults can lead to, all faults together, in small memory.

The states are cut into strata by the budget that is left.  Faults only spend it, so the strata are
visited one after another, richest first, and each state of one is met before any poorer one is
begun.  A core that was met with a budget that is nowhere smaller needs no second visit: all that
can happen with less can happen with more, and what comes of itself asks for no budget.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from lodom.core.fsm import UnexpectedEvent
from lodom.sim.handover import Budget, Violated, World
from lodom.sim.invariants import check_end
from lodom.sim.packed import KINDS, Glance, Packing

Spend = list[Callable[[int], None] | None]
"""By kind of budget: where a core goes that spends it, None if none is left; last: spends none."""
Seeds = dict[int, set[int]]
"""By depth: the cores in which a stratum begins."""

FAULTS: Final = (Violated, UnexpectedEvent, AssertionError)


@dataclass
class Result:
    """What a search saw.

    ``states``: cores; ``visits``: those with the budgets they were visited with; ``depth``: steps
    to the farthest; ``spent``: the faults that lead to the violation, if there is one.
    """

    states: int = 0
    visits: int = 0
    depth: int = 0
    ends: int = 0
    fault: str = ""
    spent: Budget | None = None
    told: Counter[str] = field(default_factory=Counter)


class Search:
    """One search from one world."""

    def __init__(self, start: World) -> None:
        self.result = Result()
        self._packing = Packing()
        self._budget = start.left
        self._pending: dict[Budget, Seeds] = {start.left: {0: {self._packing.pack(start)}}}
        self._strata: list[Budget] = []
        self._met: dict[int, int] = {}
        """Core to the strata (bits by number) in which it was visited."""
        self._same: dict[int, int] = {}
        """One copy of each such number."""

    def run(self) -> Result:
        """Visit everything, or end at the first violation: of those with the fewest faults."""
        while self._pending and not self.result.fault:
            left = max(self._pending, key=lambda left: (sum(left), left))
            try:
                self._stratum(left, self._pending.pop(left))
            except FAULTS as fault:
                self._violated(left, repr(fault))
        self.result.states = len(self._met)
        self.result.told = self._packing.told()
        return self.result

    def _violated(self, left: Budget, why: str) -> None:
        spent = Budget(*(a - b for a, b in zip(self._budget, left, strict=True)))
        self.result.fault, self.result.spent = why, spent

    def _stratum(self, left: Budget, seeds: Seeds) -> None:
        """Breadth first over the cores that have this budget left."""
        richer = 0
        for number, other in enumerate(self._strata):
            if all(a >= b for a, b in zip(other, left, strict=True)):
                richer |= 1 << number
        self._strata.append(left)
        children = self._children(left)
        visited: set[int] = set()
        met, depth = self._met, min(seeds, default=0)
        after: set[int] = set()
        while after or seeds:
            level = (after | seeds.pop(depth, set())) - visited
            level = {core for core in level if not met.get(core, 0) & richer}
            visited |= level
            after = set()
            if level:
                self._expand(level, self._spend(children, depth + 1, after))
                self.result.depth = max(self.result.depth, depth)
            depth += 1
        self.result.visits += len(visited)
        self._note(visited)
        for poorer in filter(None, children):
            for at, cores in poorer.items():
                poorer[at] = cores - visited  # spent for nothing
        self._check_ends_come(visited)

    def _children(self, left: Budget) -> list[Seeds | None]:
        """By kind: the seeds of the stratum with one fault less."""
        poorer: list[Seeds | None] = []
        for kind, have in zip(KINDS, left, strict=True):
            child = left._replace(**{kind: have - 1})
            poorer.append(self._pending.setdefault(child, {}) if have else None)
        return poorer

    def _spend(self, children: list[Seeds | None], depth: int, own: set[int]) -> Spend:
        spend: Spend = [
            None if seeds is None else seeds.setdefault(depth, set()).add for seeds in children
        ]
        return [*spend, own.add]

    def _note(self, visited: Iterable[int]) -> None:
        bit = 1 << len(self._strata) - 1
        for core in visited:
            mark = self._met.get(core, 0) | bit
            self._met[core] = self._same.setdefault(mark, mark)

    # -- one level -------------------------------------------------------------------------------

    def _expand(self, level: Iterable[int], spend: Spend) -> None:
        packing = self._packing
        own, last, faults = packing.own, packing.last, packing.faults
        for core in level:
            packing.check(core)
            if not self._follow(own, core, spend) and not self._follow(last, core, spend):
                self.result.ends += 1
                check_end(packing.unpack(core))
            self._follow(faults, core, spend)

    def _follow(self, glances: list[Glance], core: int, spend: Spend) -> bool:
        """Send on all cores that can come next; whether anything can happen."""
        moves = False
        for glance in glances:
            deeds = glance.known.get(core & glance.mask)
            if deeds is None:
                deeds = self._packing.deeds(glance, core & glance.mask)
            for deed in deeds:
                if spend[deed.kind] is None:
                    continue
                outcomes = deed.known.get(core & deed.mask)
                if outcomes is None:
                    outcomes = self._packing.outcomes(deed, core & deed.mask)
                for o in outcomes:
                    moves = True
                    to = spend[o.kind]
                    if to is not None:
                        o.count += 1
                        to(core + o.delta)
        return moves

    # -- liveness --------------------------------------------------------------------------------

    def _check_ends_come(self, visited: set[int]) -> None:
        """From each state the world, left alone, comes to an end.

        What a state leads to was visited here, or before with a richer budget.

        Raises:
            Violated: it goes round for ever.
        """
        while visited:
            at = visited.pop()
            path = {at}
            while (next_ := self._onward(at)) is not None:
                if next_ in path:
                    raise Violated("never ends")
                if next_ not in visited:
                    break
                visited.remove(next_)
                path.add(next_)
                at = next_

    def _onward(self, core: int) -> int | None:
        """The first thing that happens by itself."""
        packing = self._packing
        for glance in (*packing.own, *packing.last):
            for deed in glance.known[core & glance.mask]:
                for o in deed.known[core & deed.mask]:
                    return core + o.delta
        return None
