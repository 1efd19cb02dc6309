"""A guest's life on a real QEMU."""

import asyncio
import fcntl
import os
import signal
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sides import LIMIT_S, MIB, SPEC, UUID, Side

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.model.domain import Vcpu
from lodom.core.model.guest import GuestDisk, GuestNic, GuestSpec

pytestmark = pytest.mark.live

Play = Callable[[Any], None]
CPUS = ((10, 0), (11, 1))
"""(strand, host CPU)."""


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_a_guest_runs_only_by_the_journal(play: Play) -> None:
    """RunGuest of a machine that is not the owner leaves the guest stopped, and says so."""

    async def story(a: Side, _: Side) -> None:
        await a.launch()
        a.owner = False
        await a.driver.perform(do.RunGuest(UUID, 1))
        refused = await a.until(ev.GuestRunFailed)
        assert (refused.reason, refused.paused) == ("another machine owns the domain", True)
        a.owner = True
        await a.driver.perform(do.RunGuest(UUID, 1))
        await a.until(ev.GuestRunning)

    play(story)


def test_the_process_has_a_user_of_its_own_and_no_rights(play: Play) -> None:
    """Unprivileged, without capabilities, filtered, in a session of its own; sockets are ours."""

    async def story(a: Side, _: Side) -> None:
        pid = (await a.run()).pid
        facts = status(pid)
        assert set(facts["Uid"].split()) <= {str(u) for u in a.users}
        assert set(facts["Gid"].split()) == set(facts["Uid"].split())
        assert (int(facts["CapEff"], 16), facts["NoNewPrivs"], facts["Seccomp"]) == (0, "1", "2")
        assert os.getsid(pid) == pid
        folder = a.folder / "run" / UUID
        modes = {p.name: p.stat().st_mode & 0o77 for p in (folder, *folder.iterdir())}
        assert set(modes.values()) == {0}, modes

    play(story)


def test_threads_are_pinned_to_their_strands(play: Play) -> None:
    """vCPU threads to their CPUs, all others to the service CPUs."""

    async def story(a: Side, _: Side) -> None:
        a.tcg_threads = "multi"
        await a.restart()
        pid = (await a.run()).pid
        names = {int(t.name): (t / "comm").read_text() for t in Path(f"/proc/{pid}/task").iterdir()}
        cpus = {name: os.sched_getaffinity(t) for t, name in names.items() if "CPU" in name}
        assert {name[3:5].strip("/ "): c for name, c in cpus.items()} == {"0": {0}, "1": {1}}
        others = {tuple(os.sched_getaffinity(t)) for t, name in names.items() if "CPU" not in name}
        assert others == {(0,)}
        assert set(a.driver.usage(UUID)) == {0, 1}

    play(story)


def test_a_thread_of_several_strands_is_pinned_to_them_all(play: Play) -> None:
    """Emulation in one thread: the CPUs of all strands, its time in equal shares."""

    async def story(a: Side, _: Side) -> None:
        a.tcg_threads = "single"
        await a.restart()
        pid = (await a.run()).pid
        tasks = Path(f"/proc/{pid}/task").iterdir()
        [cpus] = [int(t.name) for t in tasks if "CPU" in (t / "comm").read_text()]
        assert os.sched_getaffinity(cpus) == {0, 1}
        async with asyncio.timeout(LIMIT_S):
            while not (usage := a.driver.usage(UUID))[0]:  # noqa: ASYNC110 - CPU time has no event
                await asyncio.sleep(0.01)
        assert set(usage) == {0, 1}
        assert usage[0] == usage[1]

    play(story)


def test_a_failed_launch_leaves_nothing(play: Play) -> None:
    """QEMU's own words, no process, no folder."""

    async def story(a: Side, _: Side) -> None:
        platform = replace(SPEC.platform, machine_type="pc-q35-99.9")
        await a.driver.perform(do.LaunchGuest(replace(SPEC, platform=platform)))
        failed = await a.until(ev.GuestLaunchFailed)
        assert "unsupported machine type" in failed.reason
        assert list((a.folder / "run").iterdir()) == []

    play(story)


def test_a_death_is_told_once_and_cleaned_up(play: Play) -> None:
    """A killed process: GuestGone, and its folder is gone; to destroy it again is no error."""

    async def story(a: Side, _: Side) -> None:
        pid = (await a.run()).pid
        os.kill(pid, signal.SIGKILL)
        await a.until(ev.GuestGone)
        assert not (a.folder / "run" / UUID).exists()
        await a.driver.perform(do.DestroyGuest(UUID))
        assert [type(e) for e in a.seen].count(ev.GuestGone) == 2

    play(story)


def test_a_guest_is_found_again(play: Play) -> None:
    """After a restart the same process, watched as before; a repeated launch is no second one."""

    async def story(a: Side, _: Side) -> None:
        first = await a.run()
        found = await a.restart()
        told = ev.GuestFound(UUID, first.pid, first.started, "home", "running", "none", ())
        assert found == [told]
        assert (await a.launch()).pid == first.pid
        os.kill(first.pid, signal.SIGKILL)
        await a.until(ev.GuestGone)
        assert await a.restart() == []

    play(story)


def test_no_answer_is_not_gone(play: Play) -> None:
    """A process that is stopped by a signal is found as running, and answers later."""

    async def story(a: Side, _: Side) -> None:
        pid = (await a.run()).pid
        await a.driver.close()
        os.kill(pid, signal.SIGSTOP)
        a.driver = a.new_driver(answer_s=0.5)
        [found] = await a.driver.find()
        assert (found.pid, found.home, found.status) == (pid, "home", "running")
        os.kill(pid, signal.SIGCONT)
        await a.driver.perform(do.RunGuest(UUID, 1))
        await a.until(ev.GuestRunning)
        assert set(a.driver.usage(UUID)) == {0, 1}
        assert ev.GuestGone(UUID) not in a.seen

    play(story)


def test_a_process_that_is_stopped_over_several_starts_of_ldmd_is_not_gone(play: Play) -> None:
    """Calls that it does not take fill its queue: the third start took it for gone."""

    async def story(a: Side, _: Side) -> None:
        pid = (await a.run()).pid
        os.kill(pid, signal.SIGSTOP)
        for _ in range(4):
            await a.driver.close()
            a.driver = a.new_driver(answer_s=0.5)
            assert [f.pid for f in await a.driver.find()] == [pid]
        os.kill(pid, signal.SIGCONT)
        [found] = await a.restart()
        assert (found.pid, found.status) == (pid, "running")

    play(story)


def test_a_disk_is_locked_and_a_nic_is_handed_over(play: Play, tmp_path: Path) -> None:
    """A second guest on the same writable disk cannot start; a tap arrives as a descriptor."""
    image = tmp_path / "disk"
    image.touch(mode=0o600)
    os.truncate(image, MIB)
    disks = (GuestDisk("vdisk0", 0, str(image)), GuestDisk("vdisk9", 9, str(image), read_only=True))
    nic = GuestNic("vnet0", 0, "00:14:4f:f8:00:01", "vsw0")

    async def tap(nic: GuestNic, uuid: str) -> int:
        fd = os.open("/dev/net/tun", os.O_RDWR)
        # TUNSETIFF: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR; it goes with its last descriptor.
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH14x", b"ldtest%d", 0x5002))
        return fd

    async def story(a: Side, b: Side) -> None:
        a.taps = tap
        before = len(os.listdir("/proc/self/fd"))
        await a.run(replace(SPEC, disks=disks[:1], nics=(nic,)))
        assert "ldtest0" in Path("/proc/net/dev").read_text()
        await b.driver.perform(do.LaunchGuest(replace(SPEC, disks=disks)))
        assert "lock" in (await b.until(ev.GuestLaunchFailed)).reason
        await a.driver.perform(do.DestroyGuest(UUID))
        await a.until(ev.GuestGone)
        assert "ldtest0" not in Path("/proc/net/dev").read_text()
        assert len(os.listdir("/proc/self/fd")) == before

    play(story)


def test_the_guest_has_a_will_of_its_own(play: Play, booting: GuestSpec) -> None:
    """Reboot, reboot that ends the process, panic: each is told in core's words."""

    async def story(a: Side, _: Side) -> None:
        await a.run(booting, agent=True)
        async with a.typed("reboot -f"):
            assert (await a.until(ev.GuestRebooted)).ended is False
        while not (await a.until(ev.AgentChanged)).answers:
            pass
        await a.driver.perform(do.SetRebootAction(UUID, stop=True))
        async with a.typed("reboot -f"):
            assert (await a.until(ev.GuestRebooted)).ended is True
        await a.driver.perform(do.DestroyGuest(UUID))
        await a.run(booting, agent=True)
        async with a.typed("echo c >/proc/sysrq-trigger"):
            await a.until(ev.GuestPanicked)

    play(story)


def test_the_guest_is_asked_to_power_off(play: Play, booting: GuestSpec) -> None:
    """Through the agent; its process stands until it is destroyed.  Without agent: refused."""

    async def story(a: Side, b: Side) -> None:
        await a.run(booting, agent=True)
        await a.driver.perform(do.ShutDownGuest(UUID))
        await a.until(ev.GuestPoweredOff)
        [found] = await a.restart()
        assert found.status == "shutdown"
        await b.run()
        await b.driver.perform(do.ShutDownGuest(UUID))
        assert (await b.until(ev.GuestRefused)).reason == "no guest agent answers"

    play(story)


def test_cpus_come_and_go(play: Play, booting: GuestSpec) -> None:
    """CPU DR: grow by a new slot, shrink to one, threads follow; the slots stay plugged."""

    async def story(a: Side, _: Side) -> None:
        pid = (await a.run(booting, agent=True)).pid
        for vcpus in (((0, 10), (1, 11), (2, 11)), ((0, 10),), ((0, 11), (2, 11))):
            order = tuple(Vcpu(*v) for v in vcpus)
            await a.driver.perform(do.SetVcpus(UUID, order, CPUS))
            assert a.seen[-1] == ev.VcpusSet(UUID, tuple(v for v, _ in vcpus), (0, 1, 2))
        tasks = Path(f"/proc/{pid}/task").iterdir()
        cpus = {int(t.name) for t in tasks if "CPU" in (t / "comm").read_text()}
        assert {frozenset(os.sched_getaffinity(t)) for t in cpus} == {frozenset({1})}
        [_found] = await a.restart()
        await a.driver.perform(do.SetVcpus(UUID, (Vcpu(0, 10), Vcpu(5, 11)), CPUS))
        refused = a.seen[-1]
        assert isinstance(refused, ev.VcpusRefused)
        assert "no such virtual cpu slot" in refused.reasons[0][1]

    play(story)


def test_a_bound_thread_holds_its_cpu(play: Play, booting: GuestSpec) -> None:
    """R11: a user thread bound to a CPU that must go; refused, and the guest is as before."""

    async def story(a: Side, _: Side) -> None:
        await a.run(booting, agent=True)
        await a.type("taskset 2 sleep 1000 & echo bou''nd", "bound")
        blockers = await a.driver.removal_blockers(UUID, frozenset({1}))
        assert blockers == ((1, "cpu has bound thread"),)
        await a.driver.perform(do.SetVcpus(UUID, (Vcpu(0, 10),), CPUS))
        assert a.seen[-1] == ev.VcpusRefused(UUID, blockers)
        everything = (Vcpu(0, 10), Vcpu(1, 11))
        await a.driver.perform(do.SetVcpus(UUID, everything, CPUS))
        assert a.seen[-1] == ev.VcpusSet(UUID, (0, 1), (0, 1))

    play(story)


def test_an_agent_that_was_slow_is_met_again(play: Play, booting: GuestSpec) -> None:
    """It has its port open all the time, so no event tells that it answers again."""

    async def story(a: Side, _: Side) -> None:
        pid = (await a.run(booting, agent=True)).pid
        await a.type("killall -STOP qemu-ga; echo it sl''eeps", "it sleeps")
        await a.driver.close()
        a.driver = a.new_driver(answer_s=0.5, agent_s=0.5)
        await a.driver.find()
        assert not (await a.until(ev.AgentChanged)).answers
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(3.0)  # longer than any answer of it is waited for
        os.kill(pid, signal.SIGCONT)
        await a.type("killall -CONT qemu-ga")
        assert (await a.until(ev.AgentChanged)).answers

    play(story)


def test_no_agent_no_cpu_dr(play: Play) -> None:
    """Without an agent nothing is changed."""

    async def story(a: Side, _: Side) -> None:
        await a.run()
        await a.driver.perform(do.SetVcpus(UUID, (Vcpu(0, 10),), CPUS))
        assert a.seen[-1] == ev.VcpusRefused(UUID, ((-1, "no guest agent answers"),))

    play(story)


def test_what_the_machine_can_run(play: Play) -> None:
    """Versioned types only, a model with its features, a digest of the firmware."""

    async def story(a: Side, _: Side) -> None:
        able = await a.driver.capabilities()
        assert able.default_machine_type in able.machine_types
        assert "q35" not in able.machine_types
        assert "sse2" in able.cpu_features
        assert able.firmware["bios"].startswith("sha256:")

    play(story)
