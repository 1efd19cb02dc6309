"""Threads and the CPUs they may run on."""

import os
import subprocess
import threading

import pytest

from lodom.core.errors import StepFailed
from lodom.host import pinning


@pytest.fixture
def gone():
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture
def two_threads():
    """Two threads of ours that wait."""
    end, ids, started = threading.Event(), [], threading.Barrier(3)

    def wait():
        ids.append(threading.get_native_id())
        started.wait()
        end.wait()

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    started.wait()
    yield ids
    end.set()
    for thread in threads:
        thread.join()


def test_a_pinned_thread_stays_on_its_cpus(two_threads):
    cpu = max(os.sched_getaffinity(0))
    assert pinning.pin(two_threads[0], [cpu])
    assert pinning.affinity(two_threads[0]) == {cpu}


def test_the_other_threads_leave_the_vcpus_alone():
    """A child with two threads: the one named as a vCPU keeps what it had."""
    code = (
        "import threading,sys\nthreading.Thread(target=sys.stdin.read).start()\nprint(flush=True)"
    )
    with subprocess.Popen(
        ["python3", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        other = next(t for t in pinning.threads(child.pid) if t != child.pid)
        before = pinning.affinity(other)
        cpu = min(before)
        pinning.pin_others(child.pid, [other], [cpu])
        assert pinning.affinity(child.pid) == {cpu}
        assert pinning.affinity(other) == before
        child.stdin.close()


def test_a_thread_that_is_gone_is_no_error(gone):
    assert not pinning.pin(gone, [0])
    assert pinning.affinity(gone) == frozenset()
    assert pinning.threads(gone) == {}


def test_a_cpu_that_does_not_exist_is_named():
    with pytest.raises(StepFailed, match="to CPUs 4000"):
        pinning.pin(threading.get_native_id(), [4000])
