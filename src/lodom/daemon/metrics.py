"""Prometheus metrics: what a machine is, read off the inventory when asked, and what was counted.

``TABLE`` is the one list of names; docs/reference/metrics.md is made from it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from lodom import __version__
from lodom.core.alloc.regions import free_ranges
from lodom.core.alloc.strands import free_strands
from lodom.core.history import MIGRATION, Entry
from lodom.core.model.domain import State
from lodom.core.model.inventory import Inventory
from lodom.core.news import moving

GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"


@dataclass(frozen=True)
class Metric:
    """One metric: its name as a scrape shows it (a histogram: without _bucket, _sum, _count)."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


TABLE: Final = tuple(
    Metric(*row)
    for row in (
        ("lodom_up", GAUGE, (), "1: ldmd answers"),
        ("lodom_info", GAUGE, ("machine", "release", "rules", "accelerator"), "1, with what runs"),
        ("lodom_start_time_seconds", GAUGE, (), "When ldmd was started, wall clock"),
        ("lodom_journal_sequence", GAUGE, (), "Writes of the journal in all its life"),
        ("lodom_domains", GAUGE, ("state",), "Domains in a state, the control domain too"),
        ("lodom_strands", GAUGE, ("state",), "Strands: bound, held until a reboot (R06), free"),
        ("lodom_memory_bytes", GAUGE, ("state",), "Domain memory: bound, being scrubbed, free"),
        ("lodom_domain_strands", GAUGE, ("domain",), "Strands that a domain is bound to"),
        ("lodom_domain_memory_bytes", GAUGE, ("domain",), "Memory that a domain is bound to"),
        ("lodom_domain_utilization_percent", GAUGE, ("domain",), "Mean load of its strands"),
        ("lodom_domains_storage_differs", GAUGE, (), "Domains that were forced onto other storage"),
        ("lodom_migrations_under_way", GAUGE, ("role",), "Migrations that have not ended"),
        ("lodom_migrations_in_doubt", GAUGE, (), "Hand-overs in doubt: flag e"),
        ("lodom_migrations_total", COUNTER, ("role", "result"), "Migrations that ended"),
        ("lodom_migration_seconds", HISTOGRAM, ("role",), "Whole time of those that ended well"),
        ("lodom_migration_phase_seconds", HISTOGRAM, ("role", "phase"), "Time spent in a phase"),
        ("lodom_migration_downtime_seconds", HISTOGRAM, (), "How long a guest stood still, source"),
        (
            "lodom_migration_bytes_total",
            COUNTER,
            ("role",),
            "Bytes sent (source), received (target)",
        ),
        ("lodom_migration_refusals_total", COUNTER, ("rule",), "Migrations refused, by each rule"),
        ("lodom_commands_total", COUNTER, ("verb", "exit"), "Commands that change, by exit code"),
        ("lodom_command_seconds", HISTOGRAM, ("verb",), "How long such a command took"),
    )
)
BY_NAME: Final = {metric.name: metric for metric in TABLE}
BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
"""Seconds; a pause is told from a long one at the low end, a copy at the high end."""


class Metrics:
    """Counts, and answers a scrape."""

    def __init__(
        self,
        inventory: Callable[[], Inventory],
        load: Callable[[], Mapping[str, float]],
        sequence: Callable[[], int],
        started: float,
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._made: dict[str, Any] = {}
        for m in TABLE:
            if m.kind == COUNTER:
                self._made[m.name] = Counter(m.name, m.help, m.labels, registry=self._registry)
            elif m.kind == HISTOGRAM:
                self._made[m.name] = Histogram(
                    m.name, m.help, m.labels, registry=self._registry, buckets=BUCKETS
                )
        self._registry.register(_Now(inventory, load, sequence, started))

    def text(self) -> bytes:
        """The answer to a scrape."""
        return generate_latest(self._registry)

    def refused(self, rules: Iterable[str]) -> None:
        """A migration was refused by *rules*."""
        for rule in sorted(set(rules)):
            self._made["lodom_migration_refusals_total"].labels(rule).inc()

    def ended(self, entry: Entry) -> None:
        """A command or a migration has ended."""
        if entry.kind != MIGRATION:
            verb = entry.command.split()[1]
            self._made["lodom_commands_total"].labels(verb, str(entry.exit)).inc()
            self._made["lodom_command_seconds"].labels(verb).observe(entry.seconds)
            return
        self._made["lodom_migrations_total"].labels(entry.role, entry.ended).inc()
        for phase, seconds in entry.phases:
            self._made["lodom_migration_phase_seconds"].labels(entry.role, phase).observe(seconds)
        if entry.ended == "done":
            self._made["lodom_migration_seconds"].labels(entry.role).observe(entry.seconds)
        if "downtime_ms" in entry.numbers:
            seconds = entry.numbers["downtime_ms"] / 1000
            self._made["lodom_migration_downtime_seconds"].observe(seconds)
        sent = entry.numbers.get("transferred", 0)
        self._made["lodom_migration_bytes_total"].labels(entry.role).inc(sent)


class _Now(Collector):
    """The gauges, made when asked."""

    def __init__(
        self,
        inventory: Callable[[], Inventory],
        load: Callable[[], Mapping[str, float]],
        sequence: Callable[[], int],
        started: float,
    ) -> None:
        self._inventory, self._load = inventory, load
        self._sequence, self._started = sequence, started

    def describe(self) -> list[Any]:
        """Nothing: no clash is possible, and collecting needs a machine."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family a gauge of ``TABLE``."""
        values = self._values(self._inventory())
        for metric in TABLE:
            if metric.kind == GAUGE:
                family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
                for labels, value in values[metric.name].items():
                    family.add_metric(labels, value)
                yield family

    def _values(self, inventory: Inventory) -> dict[str, dict[tuple[str, ...], float]]:
        machine, shown = inventory.machine, moving(inventory).values()
        domains = [d for d in inventory.domains.values() if d.bindings]
        load = self._load()
        what = (machine.name, __version__, machine.rules, machine.hypervisor.accelerator)
        states: dict[tuple[str, ...], float] = {(s.value,): 0.0 for s in State}
        for d in inventory.domains.values():
            states[d.state.value,] += 1
        return {
            "lodom_up": {(): 1},
            "lodom_info": {what: 1},
            "lodom_start_time_seconds": {(): self._started},
            "lodom_journal_sequence": {(): self._sequence()},
            "lodom_domains": states,
            "lodom_strands": {
                ("bound",): sum(len(d.bound.vcpus) for d in domains),
                ("held",): sum(len(d.bound.held) for d in domains),
                ("free",): len(free_strands(inventory)),
            },
            "lodom_memory_bytes": {
                ("bound",): sum(b.size for d in domains for b in d.bound.blocks),
                ("scrubbing",): sum(f.region.size for f in inventory.dirty.values()),
                ("free",): sum(r.size for r in free_ranges(inventory)),
            },
            "lodom_domain_strands": {(d.name,): len(d.bound.vcpus) for d in domains},
            "lodom_domain_memory_bytes": {
                (d.name,): sum(b.size for b in d.bound.blocks) for d in domains
            },
            "lodom_domain_utilization_percent": {
                (d.name,): load[d.uuid] for d in domains if d.uuid in load
            },
            "lodom_domains_storage_differs": {
                (): sum(d.storage_differs for d in inventory.domains.values())
            },
            "lodom_migrations_under_way": {
                ("source",): len(inventory.outgoing),
                ("target",): len(inventory.incoming),
            },
            "lodom_migrations_in_doubt": {(): sum(m.flag == "e" for m in shown)},
        }
