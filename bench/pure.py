"""What needs neither root nor QEMU: placement, journal, exploration, lists."""

import gc
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
from questions import PAGE, Question, questions

from lodom.cli.render import render
from lodom.core.alloc.memory import Misfit, place
from lodom.core.model.domain import Bindings, Block, Constraints, Domain, State, Vcpu
from lodom.core.model.host import Machine, Region, Strand
from lodom.core.model.inventory import Change, Inventory
from lodom.core.units import GIB, MIB
from lodom.core.views import Live, view
from lodom.sim.explore import QUICK
from lodom.sim.handover import first
from lodom.sim.strata import Search
from lodom.store.sqlite import Store

PLACEMENT_MS: Final = 100.0
_REPEATS: Final = 3
BUDGET: Final = "crash, network"


@dataclass(frozen=True)
class Measure:
    """One line of the table.  ``limit`` is for the worst; ``notes``: how the answers were."""

    name: str
    unit: str
    median: float
    worst: float
    runs: int
    limit: float | None = None
    notes: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Within the limit."""
        return self.limit is None or self.worst <= self.limit


def measure(
    name: str, unit: str, values: Sequence[float], *, high: bool = False, **more: object
) -> Measure:
    """Median and worst of *values*; *high*: more is better."""
    worst = min(values) if high else max(values)
    return Measure(name, unit, median(values), worst, len(values), **more)  # type: ignore[arg-type]


def _ms(do: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    began = clock()
    do()
    return (clock() - began) * 1e3


# -- placement ----------------------------------------------------------------------------------


def wrong(q: Question, answer: object) -> str:
    """Why *answer* is no answer to the question; empty if it is one, or an honest ``undecided``."""
    if isinstance(answer, Misfit):
        return "a placement exists and was not found" if q.fits else ""
    if not isinstance(answer, tuple):
        return "" if q.fits is not False else "undecided, where it is plain that there is none"
    placed = sorted(zip(answer, q.sizes, strict=True))
    if any(pa % PAGE for pa, _ in placed):
        return "not on a page boundary"
    if any(pa + size > after for (pa, size), (after, _) in pairwise(placed)):
        return "two blocks overlap"
    held = all(
        any(f.base <= pa and pa + size <= f.base + f.size for f in q.free) for pa, size in placed
    )
    return "" if held else "a block lies outside the free ranges"


def placement(asked: Iterable[Question]) -> list[Measure]:
    """By kind, in CPU time, the best of three: other work on the machine does not count."""
    times: dict[str, list[float]] = defaultdict(list)
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    gc.disable()
    try:
        for q in asked:
            spent = []
            for _ in range(_REPEATS):
                began = time.process_time()
                answer = place(q.sizes, q.free, page=PAGE)
                spent.append((time.process_time() - began) * 1e3)
            if why := wrong(q, answer):
                raise AssertionError(f"{q.kind}: {why}: {q.sizes} into {q.free}")
            times[q.kind].append(min(spent))
            answers[q.kind][_said(answer)] += 1
            gc.collect()
    finally:
        gc.enable()
    return [
        measure(f"placement: {k}", "ms", t, limit=PLACEMENT_MS, notes=dict(answers[k]))
        for k, t in times.items()
    ]


def _said(answer: object) -> str:
    if isinstance(answer, tuple):
        return "placed"
    if isinstance(answer, Misfit):
        return "no placement" if answer.sure else "no placement, first block unsure"
    return "undecided"


# -- the rest -----------------------------------------------------------------------------------


def _machine() -> Machine:
    strands = tuple(Strand(n, n // 4, n) for n in range(1024))
    return Machine(
        "bench", "i", "UltraSPARC-T2", 1_165_000_000, strands, (Region(0, 1024 * GIB),), 2 * MIB
    )


def _domain(n: int, memory: int = GIB) -> Domain:
    mac = f"00:14:4f:f8:{n >> 8:02x}:{n & 255:02x}"
    bindings = Bindings((Vcpu(0, 2 * n), Vcpu(1, 2 * n + 1)), (Block(0x8000000, n * GIB, memory),))
    return Domain(f"u{n}", f"ldg{n}", mac, State.BOUND, Constraints(2, memory), bindings)


def journal(folder: Path, commits: int) -> list[Measure]:
    """Commits one after another, each one record of a domain, durable on the disk of *folder*."""
    with TemporaryDirectory(dir=folder) as inside:
        store = Store.open(Path(inside) / "journal.db", fresh_instance="i")
        try:
            times = []
            for n in range(commits):
                change = Change("domains", "u1", None, _domain(1, (n + 1) * MIB))
                times.append(_ms(lambda change=change: store.write([change])))  # type: ignore[misc]
        finally:
            store.close()
    rate = commits / sum(times) * 1e3
    return [
        measure("journal: one durable commit", "ms", times),
        measure("journal: commits in a second", "1/s", [rate], high=True),
    ]


def exploration() -> Measure:
    """States of the hand-over that are visited in a second."""
    rates = []
    for live in (True, False):
        search = Search(first(live, QUICK[BUDGET]))
        began = time.perf_counter()
        result = search.run()
        assert not result.fault, result.fault
        rates.append(result.states / (time.perf_counter() - began))
    return measure(f"exploration: budget {BUDGET}", "states/s", rates, high=True)


def lists(domains: int, runs: int) -> list[Measure]:
    """A list of many domains: made from the inventory, encoded, and printed by ``ldm``."""
    inventory = Inventory(_machine(), domains={f"u{n}": _domain(n) for n in range(domains)})
    document = view("list-domain", {}, inventory, Live())
    encoded = msgspec.json.encode(document)
    assert len(render("list-domain", {}, document)) == domains + 1
    steps: dict[str, Callable[[], object]] = {
        "made": lambda: view("list-domain", {}, inventory, Live()),
        "encoded": lambda: msgspec.json.encode(document),
        "decoded": lambda: msgspec.json.decode(encoded),
        "printed": lambda: render("list-domain", {}, document),
    }
    return [
        measure(f"list of {domains} domains: {name}", "ms", [_ms(do) for _ in range(runs)])
        for name, do in steps.items()
    ]


def everything(folder: Path, *, quick: bool = False) -> list[Measure]:
    """All of it; *quick*: small sizes, to see that it runs."""
    asked = questions(1, blocks=12, ranges=40) if quick else questions(10)
    return [
        *placement(asked),
        *journal(folder, 5 if quick else 500),
        *([] if quick else [exploration()]),
        *lists(20 if quick else 500, 2 if quick else 30),
    ]
