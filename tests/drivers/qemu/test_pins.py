"""Threads of a guest that are no virtual CPUs stay on the control domain's strands."""

import asyncio
import os
import subprocess
from pathlib import Path

from lodom.drivers.qemu.guest import Guest
from lodom.drivers.qemu.process import Process
from lodom.drivers.qemu.settings import Settings


def test_they_follow_what_the_control_domain_has_now(tmp_path: Path) -> None:
    """ldm-setup gives most of a machine away while ldmd runs, and before there is any guest."""
    every = tuple(sorted(os.sched_getaffinity(0)))
    has = {"cpus": every}

    async def story(pid: int) -> None:
        process = Process(pid)
        settings = Settings(service_cpus=lambda: has["cpus"])
        guest = Guest("u", tmp_path, process, settings, lambda _: None)
        guest.pin()
        assert process.affinity(pid) == every
        has["cpus"] = every[:1]
        guest.pin()
        assert process.affinity(pid) == every[:1]
        process.kill()
        await process.wait_gone()

    with subprocess.Popen(["sleep", "60"]) as other:
        asyncio.run(story(other.pid))
