"""``ldm-lab down`` leaves nothing behind, whatever ran."""

import subprocess
from pathlib import Path

import pytest
from machines import World

from conftest import SMALL
from lodom.lab.watch import Heartbeats

pytestmark = pytest.mark.live


def traces() -> dict[str, list[str]]:
    """All of this host that a lab might leave something in."""
    commands = {}
    for proc in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands[proc] = proc.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
    marks = ("lodom.daemon.main", "process=lodom-")
    ip = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    return {
        "processes": sorted(c for c in commands.values() if any(m in c for m in marks)),
        "namespaces": _names("/run/netns"),
        "links": sorted(line.split(": ")[1] for line in ip.splitlines()),
        "mounts": [x for x in Path("/proc/self/mounts").read_text().splitlines() if "lodom" in x],
        "pages": [p.read_text() for p in Path("/sys/kernel/mm/hugepages").glob("*/nr_hugepages")],
        "files": [*_names("/run"), *_names("/etc/netns"), *_names("/dev/shm")],
        "groups": sorted(str(p) for p in Path("/sys/fs/cgroup").glob("**/lodom*")),
    }


def _names(folder: str) -> list[str]:
    path = Path(folder)
    return sorted(f"{folder}/{p.name}" for p in path.iterdir()) if path.is_dir() else []


def test_down_leaves_nothing(world: World) -> None:
    """Not of a running guest with disk and network, either."""
    world.clear()
    world.lab.down()
    try:
        before = traces()
        assert not [x for kind in before.values() for x in kind if "lodom" in x]
        world.lab.up(SMALL)
        with Heartbeats() as beats:
            world.domain("ldg1", disk=1 << 20, vcpus=2).start(beats)
        busy = traces()
        assert len(busy["processes"]) == 3
        assert len(busy["namespaces"]) == len(before["namespaces"]) + 4
        world.lab.down()
        assert traces() == before
    finally:
        world.forget()
        if not world.lab.machines:
            world.lab.up(SMALL)
