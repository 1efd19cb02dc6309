"""CPU DR, planned: what to plug, take off line, bring on line and pin.  Pure.

Plugged slots are always 0 to n-1 without a gap: a guest numbers its CPUs in the order in which
they appear, so slot and logical number stay the same.  Under TCG a slot never goes away again
(a removed one makes every later migration hang), so a slot without a strand is parked: off line
in the guest, and its thread on the strands of the others.
"""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from lodom.core.model.domain import Vcpu

_MOST = 1 << 13
"""CPUs that Linux can count to; a guest's list is not trusted beyond."""

PROBE = r"""
grep -sE '^(Name|VmSize|Cpus_allowed_list):' /proc/[0-9]*/task/[0-9]*/status
find /sys/fs/cgroup /dev/cpuset '(' -name cpuset.cpus.partition -o -name cpuset.cpu_exclusive ')' \
  2>/dev/null | while read -r f; do
  d="${f%/*}" is=""
  read -r is 2>/dev/null <"$f"
  case "${f##*.}:$is" in
    partition:root*|partition:isolated*) f="$d/cpuset.cpus.effective" ;;
    cpu_exclusive:1) [ -e "$d/../cpuset.cpu_exclusive" ] || continue; f="$d/cpuset.cpus" ;;
    *) continue ;;
  esac
  read -r list 2>/dev/null <"$f" && echo "@ $list"
done
exit 0
"""
"""Shell for the guest: each thread's binding, then each exclusive CPU set as ``@ LIST``.

A guest has a cgroup for each of its services: none costs a process.
"""


@dataclass(frozen=True)
class Change:
    """What turns the guest's CPUs into the wanted ones; all ascending."""

    plug: tuple[int, ...]
    online: tuple[int, ...]
    offline: tuple[int, ...]


def plan(wanted: Iterable[int], plugged: Iterable[int], online: Iterable[int]) -> Change:
    """The change from the slots *plugged* and *online* to exactly *wanted* on line."""
    goal, have, up = set(wanted), set(plugged), set(online)
    needed = set(range(max(goal | have) + 1))
    return Change(
        plug=tuple(sorted(needed - have)),
        online=tuple(sorted(goal - up)),
        offline=tuple(sorted(up - goal)),
    )


def pinning(
    vcpus: Sequence[Vcpu], cpus: Iterable[tuple[int, int]], plugged: Iterable[int]
) -> dict[int, tuple[int, ...]]:
    """The host CPUs of each plugged slot; parked slots share those of the others."""
    host = dict(cpus)
    own = {v.vid: (host[v.pid],) for v in vcpus}
    shared = tuple(sorted({cpu for (cpu,) in own.values()}))
    return {slot: own.get(slot, shared) for slot in sorted(plugged)}


def cpu_list(text: str) -> frozenset[int]:
    """The CPUs of a kernel list such as ``0-3,8``.

    Raises:
        ValueError: it is none.
    """
    cpus: set[int] = set()
    for part in text.strip().split(","):
        if part:
            low, _, high = part.partition("-")
            if int(high or low) >= _MOST:
                raise ValueError(text[:80])
            cpus.update(range(int(low), int(high or low) + 1))
    return frozenset(cpus)


def blockers(
    report: str, online: AbstractSet[int], leaving: AbstractSet[int]
) -> tuple[tuple[int, str], ...]:
    """Why CPUs of *leaving* cannot go: (slot, words), ascending; empty when all can.

    A user thread whose every on-line CPU leaves is bound to them; kernel threads (no VmSize) do
    not count.  Words of the original: ``dr_cpu.c`` of illumos.

    Raises:
        ValueError: *report* is not what ``PROBE`` prints.
    """
    staying = online - leaving
    bound: dict[int, int] = {}
    for allowed in _user_threads(report):
        if not allowed & staying:
            for cpu in allowed & leaving:
                bound[cpu] = bound.get(cpu, 0) + 1
    reasons = [
        (cpu, f"cpu has bound thread{'s' if count > 1 else ''}") for cpu, count in bound.items()
    ]
    sets = [cpu_list(line[2:]) for line in report.splitlines() if line.startswith("@ ")]
    for number, members in enumerate(sets, start=1):
        if members & leaving and not members & staying:
            last = max(members & leaving)
            reasons.append((last, f"last online cpu in processor set {number}"))
    return tuple(sorted(reasons))


def _user_threads(report: str) -> list[frozenset[int]]:
    """The CPUs that each user thread may run on."""
    threads: dict[str, dict[str, str]] = {}
    for line in report.splitlines():
        path, colon, rest = line.partition(":")
        if path.startswith("/proc/") and colon:
            key, _, value = rest.partition(":")
            threads.setdefault(path, {})[key] = value
    if not threads:
        raise ValueError("no thread in the report")
    return [
        cpu_list(facts["Cpus_allowed_list"])
        for facts in threads.values()
        if "VmSize" in facts and "Cpus_allowed_list" in facts
    ]
