"""The one state-machine form: a frozen dataclass with a ``phase``, a table, and a late set.

``advance`` looks up (phase, event type).  A pair in *late* changes nothing; a pair in neither
table is a bug of ours or of the peer's, and raises.  A handler returns the new machine and its
effects; the new phase must be one that the table allows, so generated pictures are true.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar


@dataclass(frozen=True)
class Event:
    """Something that happened; named in the past tense."""


@dataclass(frozen=True)
class Effect:
    """Something to be done by an adapter; named in the imperative."""


class Machine(Protocol):
    """Anything with a phase."""

    @property
    def phase(self) -> Enum:
        """Where the machine stands."""
        ...


M = TypeVar("M", bound=Machine)
Effects = tuple[Effect, ...]
Key = tuple[Enum, type[Event]]


@dataclass(frozen=True)
class Transition(Generic[M]):
    """A handler and the phases it may lead to."""

    handler: Callable[[M, Any], tuple[M, Effects]]
    to: frozenset[Enum]


class UnexpectedEvent(Exception):
    """An event that the phase has no row for."""

    def __init__(self, phase: Enum, event: Event) -> None:
        super().__init__(f"{type(event).__name__} in phase {phase.name.lower()}")
        self.phase = phase
        self.event = event


def advance(
    table: Mapping[Key, Transition[M]], late: Set[Key], machine: M, event: Event
) -> tuple[M, Effects]:
    """The machine after *event*, and what is to be done.

    Raises:
        UnexpectedEvent: (phase, event) is in neither table.
    """
    key = (machine.phase, type(event))
    if key in late:
        return machine, ()
    row = table.get(key)
    if row is None:
        raise UnexpectedEvent(machine.phase, event)
    after, effects = row.handler(machine, event)
    assert after.phase in row.to, (key, after.phase)
    return after, effects
