"""Copies between two drivers on loopback, each with a pool of its own."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sides import LIMIT_S, MIB, POOL, SPEC, UUID, Copy, Side

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.model.domain import Vcpu
from lodom.core.model.guest import GuestSpec

pytestmark = pytest.mark.live

Play = Callable[[Any], None]
PAGE = 4096


def unlike(one: bytes, other: bytes) -> int:
    """How many pages differ."""
    assert len(one) == len(other)
    return sum(one[i : i + PAGE] != other[i : i + PAGE] for i in range(0, len(one), PAGE))


def fill(side: Side, *, but: GuestSpec | None = None) -> None:
    """Fill the pool with old bytes; the blocks of *but* stay scrubbed."""
    with side.pool.open("r+b") as pool:
        for _ in range(POOL // MIB):
            pool.write(b"\xaa" * MIB)
        for block in but.blocks if but else ():
            pool.seek(block.pa)
            pool.write(bytes(block.size))


def test_a_guest_moves(play: Play, booting: GuestSpec) -> None:
    """Every page arrives, nothing beside its blocks is written, and it goes on there.

    HANDOVER, "The ordinary way": completed and postmigrate here, completed and paused there.
    """

    async def story(a: Side, b: Side) -> None:
        await a.run(booting, agent=True)
        cpus = ((10, 0), (11, 1))
        three = tuple(Vcpu(v, 10) for v in range(3))
        await a.driver.perform(do.SetVcpus(UUID, three, cpus))
        await a.driver.perform(do.SetVcpus(UUID, three[:1], cpus))
        copy = Copy(replace(booting, plugged=(0, 1, 2), strands=((0, (0,)),)))
        fill(b, but=copy.spec)
        done = await copy.through(a, b)
        assert done.numbers["transferred"] > 0
        assert unlike(a.memory(booting), b.memory(copy.spec)) == 0
        inside = sum(block.size for block in copy.spec.blocks)
        assert b.pool.read_bytes().count(b"\xaa" * PAGE) >= (POOL - inside) // PAGE
        await a.driver.perform(do.DestroyGuest(UUID))
        await b.driver.perform(do.RunGuest(UUID, 2))
        await b.until(ev.GuestRunning)
        await b.driver.perform(do.AnnounceGuest(UUID))
        assert (await b.until(ev.AgentChanged)).answers
        await b.driver.perform(do.SetVcpus(UUID, three, cpus))
        assert b.seen[-1] == ev.VcpusSet(UUID, (0, 1, 2), (0, 1, 2))
        [found] = await b.restart()
        assert (found.home, found.status) == (copy.id, "running")

    play(story)


@pytest.mark.parametrize("machine_type", ["pc-q35-8.2", "pc-q35-10.0"])
def test_a_dirty_pool_does_not_spoil_the_guest(
    play: Play, booting: GuestSpec, machine_type: str
) -> None:
    """Pages that are zero on the source are written too, should scrubbing ever have failed.

    By itself QEMU leaves the old bytes there with machine types from 9.0 on.
    """
    spec = replace(booting, platform=replace(booting.platform, machine_type=machine_type))

    async def story(a: Side, b: Side) -> None:
        await a.run(spec, agent=True)
        copy = Copy(spec)
        fill(b)
        await copy.through(a, b)
        assert unlike(a.memory(spec), b.memory(copy.spec)) == 0

    play(story)


def test_crypto_units_are_out_during_the_copy(play: Play, booting: GuestSpec) -> None:
    """They cannot move: taken out on the source, there again when the guest runs, both sides."""
    spec = replace(booting, crypto=2)

    count = "echo units=$(cat /sys/bus/pci/devices/*/device | grep -c 0x1054)"

    async def story(a: Side, b: Side) -> None:
        await a.run(spec, agent=True)
        await a.type(count, "units=2")
        copy = Copy(spec)
        await copy.through(a, b)
        await a.driver.perform(do.DestroyGuest(UUID))
        await b.driver.perform(do.RunGuest(UUID, 2))
        await b.until(ev.GuestRunning)
        await b.type(f"while {count} && sleep 1; do :; done", "units=2")

    play(story)


def test_a_target_with_fewer_free_units(play: Play, booting: GuestSpec) -> None:
    """One unit of two is to be had: the guest arrives, and finds one."""
    count = "echo units=$(cat /sys/bus/pci/devices/*/device | grep -c 0x1054)"

    async def story(a: Side, b: Side) -> None:
        await a.run(replace(booting, crypto=2, crypto_ports=2), agent=True)
        copy = Copy(replace(booting, crypto=1, crypto_ports=2))
        await copy.through(a, b)
        await a.driver.perform(do.DestroyGuest(UUID))
        await b.driver.perform(do.RunGuest(UUID, 2))
        await b.until(ev.GuestRunning)
        await b.type(f"while {count} && sleep 1; do :; done", "units=1")

    play(story)


def test_the_key_is_seen_nowhere(play: Play) -> None:
    """Not in a command line, an environment, a log or a file once the streams are up."""

    async def story(a: Side, b: Side) -> None:
        here = (await a.run()).pid
        copy = Copy(SPEC)
        there = await copy.begin(a, b)
        await a.until(ev.CopyPaused)
        files = [p for f in (a.folder, b.folder) for p in f.rglob("*") if p.is_file()]
        procs = [Path(f"/proc/{p}/{f}") for p in (here, there) for f in ("cmdline", "environ")]
        holders = [
            path
            for path in (*files, *procs)
            if path.name != "pool" and copy.secret.encode() in path.read_bytes()
        ]
        assert holders == []
        assert copy.secret not in repr(do.Incoming(copy.id, 2, copy.secret))
        await a.driver.perform(do.CancelCopy(UUID, copy.id))
        await a.until(ev.CopyCancelled)

    play(story)


def test_a_wrong_key_is_refused(play: Play) -> None:
    """The copy fails; the guest runs on."""

    async def story(a: Side, b: Side) -> None:
        await a.run()
        copy = Copy(SPEC)
        there = await b.launch(copy.spec, copy.id, do.Incoming(copy.id, 2, copy.secret))
        order = do.StartCopy(UUID, copy.id, "127.0.0.1", there.port, 2, "00" * 32)
        await a.driver.perform(order)
        assert (await a.until(ev.CopyFailed)).migration == copy.id
        [found] = await a.restart()
        assert found.status == "running"

    play(story)


def test_a_copy_without_key_is_never_begun(play: Play) -> None:
    """No plain-text stream, neither way."""

    async def story(a: Side, b: Side) -> None:
        await a.run()
        await a.driver.perform(do.StartCopy(UUID, "m1", "127.0.0.1", 1, 2, ""))
        assert "no key" in (await a.until(ev.CopyFailed)).reason
        await b.driver.perform(do.LaunchGuest(SPEC, "m1", do.Incoming("m1", 2, "")))
        assert "no key" in (await b.until(ev.GuestLaunchFailed)).reason

    play(story)


def test_a_copy_is_cancelled_before_the_last_bytes(play: Play) -> None:
    """In pre-switchover the guest stands; cancelled, it runs again; the next copy works."""

    async def story(a: Side, b: Side) -> None:
        await a.run()
        copy = Copy(SPEC)
        await copy.begin(a, b)
        await a.until(ev.CopyPaused)
        await a.driver.perform(do.CancelCopy(UUID, copy.id))
        await a.until(ev.CopyCancelled)
        await a.driver.perform(do.RunGuest(UUID, 1))
        await a.until(ev.GuestRunning)
        await b.until(ev.IncomingFailed)
        await b.driver.perform(do.DestroyGuest(UUID))
        await Copy(SPEC).through(a, b)

    play(story)


@asynccontextmanager
async def relay(
    port: int, through: int, pace: float = 0.0
) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """A port before *port* that passes on the first *through* connections, and no byte of others.

    *pace*: seconds for each 64 KiB.  The event: there was such another one.
    """
    held, streams, taken = asyncio.Event(), list[asyncio.StreamWriter](), 0

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(pace)
        writer.close()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        streams.append(writer)
        taken += 1
        if taken > through:
            held.set()
            return
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], held
    finally:
        server.close()
        for writer in streams:
            writer.close()


def test_streams_that_are_busy_are_cancelled(play: Play) -> None:
    """QEMU 10.0 dies of it when its main loop speaks on a stream that is being written to."""

    async def story(a: Side, b: Side) -> None:
        fill(a)
        here = (await a.run()).pid
        for _ in range(10):
            copy = Copy(SPEC)
            there = await b.launch(copy.spec, copy.id, do.Incoming(copy.id, 4, copy.secret))
            async with relay(there.port, 9, pace=0.05) as (port, _):
                order = do.StartCopy(UUID, copy.id, "127.0.0.1", port, 4, copy.secret)
                await a.driver.perform(order)
                while (await a.until(ev.CopyProgressed)).numbers["transferred"] < 4 * MIB:
                    pass
                await a.driver.perform(do.CancelCopy(UUID, copy.id, port))
                await a.until(ev.CopyCancelled)
            await b.driver.perform(do.DestroyGuest(UUID))
        await Copy(SPEC).through(a, b)
        assert [e.pid for e in a.seen if isinstance(e, ev.GuestLaunched)] == [here]
        assert ev.GuestGone not in map(type, a.seen)

    play(story)


@pytest.mark.parametrize("through", [0, 1, 2])
def test_a_target_that_falls_silent_is_given_up(play: Play, through: int) -> None:
    """Before TLS or between its streams QEMU waits for ever; the next copy works all the same.

    Before TLS the guest stands still with it: that ends by itself.
    """

    async def story(a: Side, b: Side) -> None:
        await a.run()
        copy = Copy(SPEC)
        there = await b.launch(copy.spec, copy.id, do.Incoming(copy.id, 2, copy.secret))
        async with relay(there.port, through) as (port, held):
            order = do.StartCopy(UUID, copy.id, "127.0.0.1", port, 2, copy.secret)
            await a.driver.perform(order)
            async with asyncio.timeout(LIMIT_S):
                await held.wait()
            if through == 0:
                assert "did not answer" in (await a.until(ev.CopyFailed)).reason
            await a.driver.perform(do.CancelCopy(UUID, copy.id, port))
            await a.until(ev.CopyCancelled)
        await b.driver.perform(do.DestroyGuest(UUID))
        await Copy(SPEC).through(a, b)

    play(story)


def test_a_target_that_cannot_be_reached_is_given_up(play: Play) -> None:
    """Its port swallows every call; the next copy need not wait until TCP gives up."""

    async def story(a: Side, b: Side) -> None:
        await a.run()
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            port = full.getsockname()[1]
            callers = [socket.socket() for _ in range(4)]
            for caller in callers:
                caller.setblocking(False)
                caller.connect_ex(full.getsockname())
            copy = Copy(SPEC)
            order = do.StartCopy(UUID, copy.id, "127.0.0.1", port, 2, copy.secret)
            await a.driver.perform(order)
            calls = len(calling(port))
            async with asyncio.timeout(LIMIT_S):
                while len(calling(port)) == calls:  # noqa: ASYNC110 - a call has no event
                    await asyncio.sleep(0.01)
            await a.driver.perform(do.CancelCopy(UUID, copy.id, port))
            await a.until(ev.CopyCancelled)
            await Copy(SPEC).through(a, b)
            for caller in callers:
                caller.close()

    play(story)


def calling(port: int) -> list[str]:
    """Connections of this host to *port* that nobody has answered yet (SYN_SENT)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[2].endswith(f":{port:04X}") and row[3] == "02"]


def test_a_target_that_dies_does_not_break_the_streams(play: Play) -> None:
    """A break at the wrong moment makes QEMU on the source hang for ever (see ``held``).

    So none is seen there, whatever it still sends, until its own copy is cancelled.
    """

    async def story(a: Side, b: Side) -> None:
        here = (await a.run()).pid
        copy = Copy(SPEC)
        there = await b.launch(copy.spec, copy.id, do.Incoming(copy.id, 8, copy.secret))
        order = do.StartCopy(UUID, copy.id, "127.0.0.1", there.port, 8, copy.secret)
        await a.driver.perform(order)
        await b.until(ev.CopyProgressed)
        await a.until(ev.CopyPaused)
        streams = taken(there.port)
        assert len(streams) == 9, "eight, and the main one"
        os.kill(there.pid, signal.SIGKILL)
        await b.until(ev.GuestGone)
        await a.driver.perform(do.FinishCopy(UUID, copy.id))
        assert taken(there.port) == streams
        await a.driver.perform(do.CancelCopy(UUID, copy.id, there.port))
        await a.until(ev.CopyCancelled, limit=5.0)
        assert ev.CopyFailed not in map(type, a.seen)
        await a.driver.perform(do.RunGuest(UUID, 1))
        await a.until(ev.GuestRunning)
        async with asyncio.timeout(5):
            while taken(there.port):  # noqa: ASYNC110 - that they are let go has no event
                await asyncio.sleep(0.01)
        assert here == a.seen[0].pid, "it was never started anew"
        await Copy(SPEC).through(a, b)

    play(story)


def taken(port: int) -> set[str]:
    """Who is connected to *port* of this host and was not hung up on (ESTABLISHED, CLOSE_WAIT)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {r[2] for r in rows if r[1].endswith(f":{port:04X}") and r[3] in ("01", "08")}


def test_a_restarted_ldmd_goes_on_with_the_copy(play: Play) -> None:
    """Both sides find the copy under way, know whose it is, and see it to its end."""

    async def story(a: Side, b: Side) -> None:
        await a.run()
        copy = Copy(SPEC)
        await copy.begin(a, b)
        await a.until(ev.CopyPaused)
        [here], [there] = await a.restart(), await b.restart()
        assert (here.home, here.status, here.copy) == ("home", "paused", "paused")
        assert (there.home, there.status, there.copy) == (copy.id, "inmigrate", "active")
        await a.driver.perform(do.FinishCopy(UUID, copy.id))
        assert (await a.until(ev.CopyCompleted)).migration == copy.id
        assert (await b.until(ev.IncomingLoaded)).migration == copy.id
        [here], [there] = await a.restart(), await b.restart()
        assert (here.status, here.copy) == ("postmigrate", "completed")
        assert (there.status, there.copy) == ("paused", "completed")

    play(story)


def test_a_target_that_is_silent_when_ldmd_starts_still_tells_that_it_has_all(play: Play) -> None:
    """Nobody followed its copy from then on: the guest stood still until the source gave up."""

    async def story(a: Side, b: Side) -> None:
        await a.run()
        copy = Copy(SPEC)
        pid = await copy.begin(a, b)
        await a.until(ev.CopyPaused)
        os.kill(pid, signal.SIGSTOP)
        await b.driver.close()
        b.driver = b.new_driver(answer_s=0.5)
        assert [f.pid for f in await b.driver.find()] == [pid]
        os.kill(pid, signal.SIGCONT)
        await a.driver.perform(do.FinishCopy(UUID, copy.id))
        assert (await b.until(ev.IncomingLoaded, limit=30.0)).migration == copy.id

    play(story)


def test_a_frozen_process_is_cancelled_when_it_answers_again(play: Play) -> None:
    """No answer is not cancelled: CopyCancelled comes only from the process itself."""

    async def story(a: Side, b: Side) -> None:
        pid = (await a.run()).pid
        await a.driver.close()
        a.driver = a.new_driver(answer_s=1.0)
        await a.driver.find()
        copy = Copy(SPEC)
        await copy.begin(a, b)
        await a.until(ev.CopyPaused)
        os.kill(pid, signal.SIGSTOP)
        await a.driver.perform(do.CancelCopy(UUID, copy.id))
        await b.driver.perform(do.DestroyGuest(UUID))
        with pytest.raises(AssertionError, match="no CopyCancelled"):
            await a.until(ev.CopyCancelled, limit=5.0)  # its sockets are shut meanwhile
        os.kill(pid, signal.SIGCONT)
        await a.until(ev.CopyCancelled)
        await a.driver.perform(do.RunGuest(UUID, 1))
        await a.until(ev.GuestRunning)

    play(story)
