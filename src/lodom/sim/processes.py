"""What processes and guests do in the small world of ``handover``, of themselves and amiss.

An ``Act`` names the parts of the world that it reads or writes; ``packed`` gives it a world in
which nothing else can be read, and so need not work out the same thing twice.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from lodom.core import events as ev
from lodom.sim.handover import MIG, UUID, Budget, Guest, Side, World, post

Nexts = Iterator[tuple[str, World]]


class Act(NamedTuple):
    """Something that may happen, in any number of ways.

    ``parts``: the fields of ``World`` that it reads or writes; besides, whether a daemon is up and
    the marks ``loaded`` and ``ran`` are there for all.
    """

    name: str
    parts: tuple[str, ...]
    go: Callable[[World], Nexts]
    kind: str = ""
    """The budget that it spends, where all its ways spend the same."""


class Group(NamedTuple):
    """Acts of which a look at a few parts of the world tells which can happen now."""

    parts: tuple[str, ...]
    acts: Callable[..., Iterable[Act]]


# -- the processes ------------------------------------------------------------------------------

UNDER_WAY = ("active", "paused", "device")


class _Hashable(dict[str, int]):
    def __hash__(self) -> int:  # type: ignore[override]
        return 0


_NUMBERS = _Hashable()


def _pauses(w: World) -> Nexts:
    paused = w.qs._replace(copy="paused", running=False)
    yield "copy pauses", w._replace(qs=paused, s=post(w.s, ev.CopyPaused(UUID, MIG)))


def _loads(w: World) -> Nexts:
    qt, t = w.qt._replace(copy="loaded"), post(w.t, ev.IncomingLoaded(UUID, MIG))
    yield "target loads", w._replace(qt=qt, t=t, loaded=True)


def _completes(w: World) -> Nexts:
    qs, s = w.qs._replace(copy="completed"), post(w.s, ev.CopyCompleted(UUID, MIG, _NUMBERS))
    yield "copy completes", w._replace(qs=qs, s=s)


def _source_sees_break(w: World) -> Nexts:
    """The other end has gone: on a stream error the process resumes its guest by itself."""
    failed = w.qs._replace(copy="failed", running=not w.qs.off)
    yield "the source sees its stream broken", w._replace(qs=failed, s=_copy_failed(w.s))


def _copy_failed(s: Side) -> Side:
    return post(s, ev.CopyFailed(UUID, MIG, ""))


def _target_sees_break(w: World) -> Nexts:
    t = post(w.t, ev.IncomingFailed(UUID, MIG, ""))
    yield "the target sees its stream broken", w._replace(qt=w.qt._replace(copy="broken"), t=t)


def _broken_exits(w: World) -> Nexts:
    yield "broken target exits", w._replace(qt=Guest(), t=post(w.t, ev.GuestGone(UUID)))


_PAUSES = Act("copy pauses", ("s", "qs"), _pauses)
_LOADS = Act("target loads", ("t", "qt"), _loads)
_COMPLETES = Act("copy completes", ("s", "qs"), _completes)
_S_BREAKS = Act("source sees break", ("s", "qs"), _source_sees_break)
_T_BREAKS = Act("target sees break", ("t", "qt"), _target_sees_break)
_EXITS = Act("broken target exits", ("t", "qt"), _broken_exits)


def left_alone(qs: Guest, qt: Guest) -> Iterator[Act]:
    """What the two processes do next by themselves."""
    if qs.copy == "active" and qs.running and qt.copy == "incoming":
        yield _PAUSES
    if qs.copy == "device" and qt.copy == "incoming":
        yield _LOADS
    if qs.copy == "device" and qt.copy in ("loaded", "ran"):
        yield _COMPLETES
    if qs.copy in UNDER_WAY and qt.copy in ("none", "broken"):
        yield _S_BREAKS
    if qt.copy == "incoming" and qs.copy in ("failed", "none") and not qs.alive:
        yield _T_BREAKS
    if qt.copy == "broken":
        yield _EXITS


# -- faults of processes and guests -------------------------------------------------------------


def spent_one(w: World, kind: str) -> Budget:
    """The budget after a fault of that kind."""
    return w.left._replace(**{kind: getattr(w.left, kind) - 1})


def _treason(w: World) -> Nexts:
    """What the processes do to a copy under way, as measured."""
    left, qs, qt = spent_one(w, "process"), w.qs, w.qt
    if qs.copy in UNDER_WAY:
        failed = qs._replace(copy="failed", running=not qs.off)
        broken = qt._replace(copy="broken") if qt.copy == "incoming" else qt
        story = "all loaded, but the source resumes by itself"
        if qt.copy != "loaded":
            story = "stream error: the source resumes by itself"
        yield story, w._replace(qs=failed, qt=broken, s=_copy_failed(w.s), left=left)
    if qs.copy == "device" and qt.copy == "incoming":
        s = post(w.s, ev.CopyCompleted(UUID, MIG, _NUMBERS))
        done = qs._replace(copy="completed")
        yield "completed without acknowledgement", w._replace(qs=done, s=s, left=left)


def _source_exits(w: World) -> Nexts:
    qs, qt = w.qs, w.qt
    broken = qt._replace(copy="broken") if qt.copy == "incoming" and qs.copy != "none" else qt
    s = post(w.s, ev.GuestGone(UUID))
    left = spent_one(w, "process")
    yield "source's process exits", w._replace(qs=Guest(off=qs.off), qt=broken, s=s, left=left)


def _target_exits(w: World) -> Nexts:
    t = post(w.t, ev.GuestGone(UUID))
    yield "target's process exits", w._replace(qt=Guest(), t=t, left=spent_one(w, "process"))


_TREASON = Act("treason", ("s", "qs", "qt"), _treason, "process")
_S_EXITS = Act("source's process exits", ("s", "qs", "qt"), _source_exits, "process")
_T_EXITS = Act("target's process exits", ("t", "qt"), _target_exits, "process")


def misdeeds(qs: Guest, qt: Guest) -> Iterator[Act]:
    """What they can do amiss."""
    if qs.copy in UNDER_WAY:
        yield _TREASON
    if qs.alive:
        yield _S_EXITS
    if qt.alive:
        yield _T_EXITS


def _guest(w: World) -> Nexts:
    left, off = spent_one(w, "guest"), w.qs._replace(running=False, off=True)
    for news in (ev.GuestPoweredOff(UUID), ev.GuestPanicked(UUID)):
        s = post(w.s, news)
        yield f"guest: {type(news).__name__}", w._replace(qs=off, s=s, left=left)
    yield "guest: GuestRebooted", w._replace(s=post(w.s, ev.GuestRebooted(UUID)), left=left)


def _moved_guest(w: World) -> Nexts:
    """The same on its new machine; it is an ordinary domain there, or becomes one."""
    left, off = spent_one(w, "guest"), w.qt._replace(running=False, off=True)
    for news in (ev.GuestPoweredOff(UUID), ev.GuestPanicked(UUID)):
        t = post(w.t, news)
        yield f"moved guest: {type(news).__name__}", w._replace(qt=off, t=t, left=left)
    t = post(w.t, ev.GuestRebooted(UUID))
    yield "moved guest: GuestRebooted", w._replace(t=t, left=left)


GUEST = Act("guest", ("s", "qs"), _guest, "guest")
MOVED = Act("moved guest", ("t", "qt"), _moved_guest, "guest")
