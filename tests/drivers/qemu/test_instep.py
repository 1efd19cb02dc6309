"""Threads of another process: halted, and seen to be at rest."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from lodom.drivers.qemu import instep
from lodom.drivers.qemu.process import Process

pytestmark = pytest.mark.live

TOY = """
import ctypes, os, sys, threading

libc, job = ctypes.CDLL(None), threading.Semaphore(0)

def named(name, work):
    def run():
        libc.prctl(15, name.encode(), 0, 0, 0)
        work()
    threading.Thread(target=run, daemon=True).start()

def lead():
    for line in sys.stdin:
        job.release()
        beyond.acquire()

def send():
    while job.acquire():
        os.write(1, b"x" * (1 << 17))  # more than a pipe takes

beyond = threading.Semaphore(0)
named("mig/src/send_0", send)
named("mig/src/main", lead)
threading.Event().wait()
"""
"""Two threads like those of a copy: each line in makes one write out, longer than the pipe."""


@pytest.fixture
def toy() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(
        [sys.executable, "-c", TOY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as made:
        try:
            yield made
        finally:
            made.kill()


async def leader(process: Process) -> int:
    deadline = time.monotonic() + 10
    while not (found := instep.leader(process)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    return found


def order(toy: "subprocess.Popen[bytes]") -> None:
    assert toy.stdin is not None
    toy.stdin.write(b"\n")
    toy.stdin.flush()


def test_a_writer_is_not_at_rest_until_it_is_read(toy: "subprocess.Popen[bytes]") -> None:
    async def story() -> None:
        process = Process(toy.pid)
        await leader(process)
        order(toy)
        assert toy.stdout is not None
        first = toy.stdout.read(1)
        assert not await instep.at_rest(process, 0.2)
        assert len(first + toy.stdout.read((1 << 17) - 1)) == 1 << 17
        assert await instep.at_rest(process, 10)
        process.release()

    asyncio.run(story())


def test_a_halted_leader_hands_out_nothing_until_it_goes_on(
    toy: "subprocess.Popen[bytes]",
) -> None:
    async def story() -> None:
        process = Process(toy.pid)
        thread = await leader(process)
        assert toy.stdout is not None
        async with instep.halted(thread):
            assert process.state(thread) == "t"
            order(toy)
            assert not await instep.at_rest(process, 0.1), "halted is not at rest"
        assert len(await asyncio.to_thread(toy.stdout.read, 1 << 17)) == 1 << 17
        process.release()

    asyncio.run(story())


def test_a_thread_that_is_gone_is_no_obstacle(toy: "subprocess.Popen[bytes]") -> None:
    async def story() -> None:
        process = Process(toy.pid)
        thread = await leader(process)
        toy.kill()
        assert await process.wait_gone(10)
        assert instep.leader(process) == 0
        async with instep.halted(thread):
            assert await instep.at_rest(process, 1)

    asyncio.run(story())
