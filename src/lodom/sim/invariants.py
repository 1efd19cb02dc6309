"""What must hold in each state of the small world of ``handover``, and in each end."""

from collections.abc import Callable

from lodom.core.migration import source, target
from lodom.core.migration.ownership import may_run
from lodom.core.model.inventory import Ownership
from lodom.sim.handover import SRC, TGT, UUID, Violated, World


def _one_runs(w: World) -> None:
    if w.qs.running and w.ran:
        raise Violated("the source runs again what has run on the target")
    if w.qs.running and w.qt.running:
        raise Violated("two copies run")


def _source_owns(w: World) -> None:
    if w.qs.running and w.s.own and w.s.own.owner != SRC:
        raise Violated("the source runs what it has ceded")
    _starts_only_its_own(w.s.own, SRC)


def _target_owns(w: World) -> None:
    if w.qt.running and not (w.t.own and w.t.own.owner == TGT):
        raise Violated("the target runs what it does not own")
    _starts_only_its_own(w.t.own, TGT)


def _starts_only_its_own(own: Ownership | None, me: str) -> None:
    """Someone, or a boot, tries to set the domain running in the middle of all this."""
    if own and own.owner != me and may_run({UUID: own}, UUID, own.epoch, me):
        raise Violated("a machine that is not the owner may start the domain")


CHECKS: tuple[tuple[tuple[str, ...], Callable[[World], None]], ...] = (
    (("qs", "qt"), _one_runs),
    (("s", "qs"), _source_owns),
    (("t", "qt"), _target_owns),
)
"""What each looks at, and the check: at no moment do two copies run, or one that is not owned."""


def check(w: World) -> None:
    """All of them.

    Raises:
        Violated: one does not hold.
    """
    for _, holds in CHECKS:
        holds(w)


def check_end(w: World) -> None:
    """In the end exactly one copy runs, and nothing stays reserved.

    Raises:
        Violated: otherwise.
    """
    s_phase, t_phase = w.s.row.phase, w.t.row.phase if w.t.row else target.Phase.ENDED
    if s_phase is not source.Phase.ENDED:
        raise Violated(f"the source ends in {s_phase}")
    if t_phase not in (target.Phase.ENDED, target.Phase.GONE):
        raise Violated(f"the target ends in {t_phase}")
    if w.s.held or w.t.held:
        raise Violated("something stays locked or reserved")
    here, there = w.s.own, w.t.own
    assert here is not None
    owner = max((o for o in (here, there) if o), key=lambda o: o.epoch).owner
    side, guest = (w.s, w.qs) if owner == SRC else (w.t, w.qt)
    other, rest = (w.t, w.qt) if owner == SRC else (w.s, w.qs)
    if not side.present or other.present:
        raise Violated("the owner has no domain, or the other still has one")
    if other.row is not None and not other.scrubbed and other.row.phase is not target.Phase.ENDED:
        raise Violated("memory was given back without scrubbing")
    if rest.alive:
        raise Violated("a process is left over")
    if not w.s.row.live:
        return
    if guest.off:
        return
    if side.anew != (not guest.alive):
        raise Violated("not exactly one copy in the end")
    if guest.alive:
        if not guest.running:
            raise Violated("nobody runs the domain")
        if not guest.all_strands:
            raise Violated("strands were not restored")
