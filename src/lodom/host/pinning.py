"""Which host CPUs the threads of a process may run on (sched_setaffinity)."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from lodom.core.errors import StepFailed
from lodom.host.topology import format_cpu_list


def threads(pid: int) -> dict[int, str]:
    """Thread id to name, of a process; empty when it is gone."""
    found: dict[int, str] = {}
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found[int(task.name)] = (task / "comm").read_text().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        pass  # a thread that ends while we look is no thread to pin
    return found


def affinity(tid: int) -> frozenset[int]:
    """The host CPUs that the thread may run on; empty when it is gone."""
    try:
        return frozenset(os.sched_getaffinity(tid))
    except ProcessLookupError:
        return frozenset()


def pin(tid: int, cpus: Collection[int]) -> bool:
    """Keep the thread on *cpus*; False when it is gone.

    Raises:
        StepFailed: none of the CPUs can be used (off line, outside the cpuset), or not permitted.
    """
    try:
        os.sched_setaffinity(tid, cpus)
    except ProcessLookupError:
        return False
    except (OSError, ValueError) as refused:
        what = f"pinning thread {tid} to CPUs {format_cpu_list(cpus)}"
        raise StepFailed(what=what, reason=str(refused)) from refused
    return True


def pin_others(pid: int, vcpus: Iterable[int], cpus: Collection[int]) -> None:
    """Keep every thread of *pid* that is none of *vcpus* (thread ids) on *cpus*.

    A thread inherits the CPUs of the one that starts it, so threads to come (I/O, migration)
    follow the main thread.

    Raises:
        StepFailed: see ``pin``.
    """
    left = set(vcpus)
    for tid in threads(pid):
        if tid not in left:
            pin(tid, cpus)
