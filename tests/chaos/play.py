"""One case: a migration, a moment, a fault, and what must hold afterwards."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

import faults
from arena import GUEST, Arena
from cases import MOMENTS, Case
from machines import Machine
from settled import spoiled, wait_settled
from tail import Tail
from wire import judge

from lodom.lab.lab import LabFault

MOMENT_S, COMMAND_S, SETTLE_S = 60.0, 150.0, 120.0
_LATE_REFUSAL = re.compile(r"R4[5-9]|progress|migrat|was not found", re.IGNORECASE)


class Failed(Exception):
    """The case showed something that must not be; the text says what."""


@dataclass
class Outcome:
    """How a case went."""

    case: Case
    said: str = ""
    failure: str = ""
    silence: float = 0.0
    seconds: float = 0.0

    def line(self) -> str:
        """One line for the reader."""
        verdict = f"FAILED: {self.failure}" if self.failure else "ok"
        case = self.case
        return (
            f"seed {case.seed:<6} {case.moment:10} {case.fault:20} {self.said:34} "
            f"silence {self.silence * 1000:6.0f} ms  {self.seconds:5.1f} s  {verdict}"
        )


def play(arena: Arena, case: Case, keep: Path) -> Outcome:
    """Run the case; on failure its logs are kept in the folder *keep*."""
    began = time.monotonic()
    outcome = Outcome(case)
    arena.wire.forget()
    tails = {m.name: Tail(m.placed.log) for m in arena.machines}
    try:
        if case.fault.startswith("stale:"):
            _stale(arena, case, outcome)
        else:
            _disturbed(arena, case, outcome, tails)
        _afterwards(arena, outcome)
    except (Failed, AssertionError, OSError, TimeoutError) as failure:
        outcome.failure = str(failure) or type(failure).__name__
    except BaseException:
        outcome.failure = "interrupted, or the campaign itself is at fault"
        _keep(arena, keep / str(case).replace(":", "-"), tails, outcome)
        raise
    verdict = judge(arena.wire.beats(), time.time())
    outcome.silence = max(outcome.silence, verdict.silence)
    if verdict.faults:
        outcome.failure = f"TWO COPIES: {'; '.join(verdict.faults)} ({outcome.failure})"
    outcome.seconds = time.monotonic() - began
    if outcome.failure:
        _keep(arena, keep / str(case).replace(":", "-"), tails, outcome)
    return outcome


def _disturbed(arena: Arena, case: Case, outcome: Outcome, tails: dict[str, Tail]) -> None:
    source = arena.home()
    scene = faults.Scene(arena, source, arena.away(source))
    faults.ready(scene, case.fault)
    side, words = MOMENTS[case.moment]
    command = source.begin(*source.migrate_words(GUEST, scene.target))
    tail = tails[source.name if side == "source" else scene.target.name]
    try:
        if not tail.wait(words, MOMENT_S):
            raise Failed(f"the moment {case.moment} did not come")
        faults.apply(case.fault, scene)
    finally:
        said = source.end(command, COMMAND_S)
        outcome.said = f"exit {said.code}"
        extra = [(what, source.end(process, COMMAND_S)) for what, process in scene.extra]
        if scene.control:
            scene.control.close()
    for what, ended in extra:
        scene.notes.append(f"{what} exit {ended.code}")
        if what == "second" and ended.code == 0:
            raise Failed("a second migrate of the same domain was done too")
        if ended.code and not _LATE_REFUSAL.search(ended.err):
            raise Failed(f"{what}: an unclear refusal: {ended.err.strip()}")
    if said.code and not said.err.strip():
        raise Failed("ldm failed without a word")
    faults.heal(case.fault, scene)
    off = case.boots == "off"
    if why := wait_settled(arena, SETTLE_S, may_be_off=off):
        raise Failed(f"not at rest after {SETTLE_S:.0f} s: {why} (ldm: {said.err.strip()})")
    late = case.fault == "qemu-kill:target" and owned_first(tails[scene.target.name].text())
    scene.notes += ["struck late"] if late else []
    boots = _where(arena, outcome, source, scene.notes)
    if case.boots == "same" and not late and len(boots) > 1:
        raise Failed(f"the guest was restarted, boots {boots}")


def _where(arena: Arena, outcome: Outcome, source: Machine, notes: list[str]) -> tuple[str, ...]:
    """Tell what became of the guest; the boots that were heard of it."""
    verdict = judge(arena.wire.beats(), time.time())
    home = next(m for m in arena.machines if GUEST in m.names())
    became = "stayed" if home is source else "moved"
    if home.row(GUEST)["state"] == "bound":
        became += " off"
    else:
        outcome.silence = verdict.silence
        became += " restarted" if len(verdict.boots) > 1 else ""
    outcome.said = ", ".join([became, outcome.said, *notes])
    return verdict.boots


def owned_first(log: str) -> bool:
    """The target's process ended after OWNED: the fault came too late for its moment.

    A new boot is right then (docs/handover.md, "QEMU of the target dies").
    """
    owned, gone = log.find('"phase": "owned"'), log.find("GuestGone(")
    return -1 < owned < gone


def _afterwards(arena: Arena, outcome: Outcome) -> None:
    """Nothing is spoiled, and a further migration works."""
    home = next(m for m in arena.machines if GUEST in m.names())
    if home.row(GUEST)["state"] == "bound":
        home.ldm("start-domain", GUEST)
        if why := wait_settled(arena, SETTLE_S):
            raise Failed(f"started again: {why}")
    if why := spoiled(arena):
        raise Failed(why)
    before = outcome.silence
    home.migrate(GUEST, arena.away(home))
    if why := wait_settled(arena, SETTLE_S):
        raise Failed(f"after a further migration: {why}")
    if why := spoiled(arena):
        raise Failed(f"after a further migration: {why}")
    outcome.silence = before


def _stale(arena: Arena, case: Case, outcome: Outcome) -> None:
    """A journal of yesterday on the source, whose domain has moved since."""
    source = arena.home()
    target = arena.away(source)
    backup = arena.lab.root / "yesterday"
    faults.saved_journal(arena, source, backup)
    if why := wait_settled(arena, SETTLE_S):
        raise Failed(why)
    source.migrate(GUEST, target)
    if why := wait_settled(arena, SETTLE_S):
        raise Failed(why)
    if case.fault == "stale:returned":
        target.migrate(GUEST, source)
        if why := wait_settled(arena, SETTLE_S):
            raise Failed(why)
    else:
        arena.new_boot(source)
    if case.fault == "stale:returned":
        _refused_journal(arena, source, backup)
        outcome.said = "refused: older than what runs"
        return
    faults.restore_journal(arena, source, backup)
    said = source.tried(*source.migrate_words(GUEST, target))
    outcome.said = f"exit {said.code}: {said.err.strip().splitlines()[0] if said.err else ''}"
    # A second copy would have been started by now, and be heard after its boot.
    arena.beats.of(GUEST).wait(2000, within=60)
    if not said.code:
        raise Failed("a stale source was believed")
    # What the old journal still lists is not started, and is the administrator's to remove.
    if not source.tried("start-domain", GUEST).code:
        raise Failed("a domain that another machine owns was started")
    source.ldm("remove-domain", GUEST)
    if why := wait_settled(arena, SETTLE_S):
        raise Failed(why)


def _refused_journal(arena: Arena, machine: Machine, backup: Path) -> None:
    """Yesterday's journal beside today's process: ldmd does not start; today's journal mends it."""
    today = arena.lab.root / "today"
    faults.saved_journal(arena, machine, today)
    try:
        faults.restore_journal(arena, machine, backup)
    except LabFault as refusal:
        if "older than what runs here" not in str(refusal):
            raise Failed(f"refused, but not for its age: {refusal}") from refusal
    else:
        raise Failed("a journal older than what runs was believed")
    faults.restore_journal(arena, machine, today)
    if why := wait_settled(arena, SETTLE_S):
        raise Failed(why)


def _keep(arena: Arena, folder: Path, tails: dict[str, Tail], outcome: Outcome) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "outcome").write_text(outcome.line() + "\n")
    for name, tail in tails.items():
        (folder / f"{name}.log").write_text(tail.text())
    for machine in arena.machines:
        shown = [machine.tried(*w.split()) for w in ("list", "list -o status", "list-devices -a")]
        (folder / f"{machine.name}.list").write_text("\n".join(s.out + s.err for s in shown))
    beats = arena.wire.beats()
    (folder / "beats").write_text(
        "".join(f"{b.at:.6f} {b.machine} {b.boot} {b.count}\n" for b in beats[-60000:])
    )
