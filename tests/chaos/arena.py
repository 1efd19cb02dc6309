"""Two machines of the lab with one guest between them, and the means to hurt them."""

import json
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select

import shim
from machines import LIMIT_S, Machine, World, _processes_in, eventually
from wire import Wire

from lodom.core.units import MIB
from lodom.lab.lab import BOOT, Lab
from lodom.lab.topology import LabMachine, Placed, Topology
from lodom.lab.watch import Heartbeats, Status

REPOSITORY = Path(__file__).parents[2]
GUEST, OTHER = "ldg1", "ldg2"
VCPUS = 3
STATE_MIB = 16
"""Size of each machine's state file system, so that it can be filled."""
FREE = 1024 * MIB
STRANDS = 12
SMALL = Topology(
    tuple(
        LabMachine(name, memory=FREE + 256 * MIB, primary_memory=256 * MIB)
        for name in ("dt90-319", "dt212-239")
    )
)


class SmallDisks(Lab):
    """The lab, with the state of each machine on a small file system of its own, under the shim."""

    def _configure(self, p: Placed) -> None:
        super()._configure(p)
        shim.prepare(p.folder)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={STATE_MIB}M,mode=700", "lodom-state"]
        subprocess.run([*mount, p.folder / "state"], check=True)

    def down(self) -> None:
        """Nothing is left, the small file systems included."""
        for p in self.machines:
            self.stop(p)
            if (p.folder / "state").is_mount():
                subprocess.run(["umount", p.folder / "state"], check=True)
        super().down()


def fill(folder: Path, limit: int = STATE_MIB * MIB) -> Path:
    """Leave no byte free in *folder*; the file to be removed afterwards.

    Only a small file system of its own is ever filled, never the one of the host.
    """
    disk = os.statvfs(folder)
    size = disk.f_blocks * disk.f_frsize
    if not folder.is_mount() or size > limit:
        raise RuntimeError(f"{folder} is not a small file system of its own")
    filler = folder / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        for _ in range(limit // 4096 + 1):
            file.write(bytes(4096))
    return filler


class Arena:
    """Up once for many cases; made anew after a failed one."""

    def __init__(self) -> None:
        self.lab = SmallDisks()
        os.environ["LD_PRELOAD"] = str(shim.build(REPOSITORY / "build/chaos"))
        try:
            self.lab.up(SMALL)
            for p in self.lab.machines:
                shim.keep(p.folder, "users")
            self.beats = Heartbeats()
            self.wire = Wire(GUEST, range(2))
            self._populate()
        except BaseException:
            self.down()
            raise

    def _populate(self) -> None:
        built = REPOSITORY / "build/guest"
        self.world = World(self.lab, (built / "vmlinuz", built / "initrd"))
        self.machines = self.world.a, self.world.b
        # Writes enough for a copy of some rounds, so that each moment of it can be met.
        args = "lodom.dirty=20:16"
        self.guest = self.world.domain(GUEST, vcpus=VCPUS, disk=16 * MIB, args=args)
        self.guest.start(self.beats)
        for words in ("add-domain", "set-vcpu 1", "set-memory 64M", "bind-domain"):
            self.world.b.ldm(*words.split(), OTHER)

    def down(self) -> None:
        """Nothing is left."""
        os.environ.pop("LD_PRELOAD", None)
        for witness in ("beats", "wire"):
            if hasattr(self, witness):
                getattr(self, witness).close()
        for machine in SMALL.machines:
            for pid in _processes_in(f"lodom-{machine.name}"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        self.lab.down()

    @property
    def status(self) -> Status:
        """The guest's own words about itself."""
        return self.guest.status

    def home(self) -> Machine:
        """The machine that the guest is heard from."""
        since = time.time() - 5
        eventually(lambda: self.wire.last(since), "the guest is heard")
        beat = self.wire.last(since)
        assert beat
        return self.machines[beat.machine]

    def away(self, machine: Machine) -> Machine:
        """The other machine."""
        return self.machines[1 - self.machines.index(machine)]

    # -- ldmd ------------------------------------------------------------------------------------

    def start_ldmd(self, machine: Machine) -> None:
        """Start it again, under the boot id that the machine has now."""
        self.lab.start(machine.placed)

    def new_boot(self, machine: Machine) -> None:
        """From now on the machine's ldmd sees another boot id."""
        (machine.placed.folder / BOOT).write_text(f"{uuid.uuid4()}\n")

    def qemus(self, machine: Machine) -> list[int]:
        """All hypervisor processes of the machine, whatever they run."""
        found = []
        for pid in _processes_in(machine.placed.namespace):
            with suppress(OSError):
                if b"qemu-system" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                    found.append(pid)
        return found

    def lose_power(self, machine: Machine) -> None:
        """The daemon, all its guests and all unsynced state end in one moment.

        The next boot has another id.
        """
        pids = [self.lab.pid(machine.placed), *self.qemus(machine)]
        kill_all([p for p in pids if p], signal.SIGKILL)
        shim.lose_unsynced(machine.placed.folder)
        self.new_boot(machine)

    @contextmanager
    def full_disk(self, machine: Machine) -> Iterator[None]:
        """The file system of its state has no byte left meanwhile."""
        filler = fill(machine.placed.folder / "state")
        try:
            yield
        finally:
            filler.unlink()

    # -- what is there ---------------------------------------------------------------------------

    def taps(self, machine: Machine) -> int:
        """How many taps the machine has."""
        shown = subprocess.run(
            ["ip", "-n", machine.placed.namespace, "-j", "-d", "link", "show", "type", "tun"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        return len([link for link in json.loads(shown or "[]") if link])

    def consoles(self, machine: Machine) -> int:
        """How many console ports listen."""
        shown = subprocess.run(
            ["ip", "netns", "exec", machine.placed.namespace, "ss", "-Hltn"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        ports = [int(n) for n in re.findall(r":(\d+) +\S+:\*", shown)]
        return len([p for p in ports if 5000 <= p <= 5100])

    def dirty(self, machine: Machine) -> str:
        """The first free range whose bytes in the pool file are not all zero; empty if none."""
        for block in machine.free_memory():
            path, offset = machine._at(block.pa, block.size)
            with path.open("rb") as file:
                file.seek(offset)
                for at in range(0, block.size, 4 * MIB):
                    data = file.read(min(4 * MIB, block.size - at))
                    if data.count(0) != len(data):
                        return f"{block.pa + at:#x} of {machine.name} is free and not zero"
        return ""


def kill_all(pids: list[int], number: signal.Signals) -> None:
    """Signal processes at once; after SIGKILL, wait until they are gone."""
    fds = []
    for pid in pids:
        with suppress(ProcessLookupError):
            fds.append(os.pidfd_open(pid))
    try:
        for fd in fds:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
        if number == signal.SIGKILL:
            for fd in fds:
                assert select([fd], [], [], LIMIT_S)[0], "a killed process does not end"
    finally:
        for fd in fds:
            os.close(fd)
