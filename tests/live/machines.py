"""The lab as its tests use it: commands typed, pool files read, processes found in /proc.

What a check asserts of a guest is seen from outside: in the pool *file*, in /proc, on the network.
``ldm`` is asked only for what it claims (which addresses, which strands).
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from select import select
from time import monotonic
from typing import Any, NamedTuple

import pytest

from lodom.cli import main as cli
from lodom.core.units import parse_size
from lodom.host.pinning import affinity, threads
from lodom.host.topology import parse_cpu_list
from lodom.lab.lab import BOOT, Lab
from lodom.lab.topology import Placed
from lodom.lab.watch import Counter, Heartbeats, Status

PAGE = 4096
BOOT_S = 30.0
"""How long a test waits for a guest to come up."""
LIMIT_S = 60.0
"""How long a command may take."""


class Block(NamedTuple):
    """One memory block as ``ldm list -o memory`` shows it."""

    ra: int
    pa: int
    size: int


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


def eventually(done: Callable[[], Any], what: str, *, within: float = 20.0) -> None:
    """Wait for what has no event: ask until *done*, at most *within* seconds."""
    deadline = monotonic() + within

    def is_done() -> bool:
        # A guest that cannot be reached has not done it yet.
        with suppress(OSError):
            return bool(done())
        return False

    while not is_done():
        assert monotonic() < deadline, f"not within {within:g} s: {what}"
        select([], [], [], 0.05)


FLAGS = (
    {"starting": "s", "stopping": "s"}, {"normal": "n", "transition": "t"},
    {"delayed-reconfiguration": "d"}, {"control": "c"}, {"vio-service": "v"},
    {"migration-source": "s", "migration-target": "t", "migration-error": "e"},
)  # fmt: skip
"""The words of each position of FLAGS."""


_STANDS = r"^DOMAIN\|name=.*\|state=[^|]*\|flags=[^|]*"


class Machine:
    """One machine of the lab."""

    def __init__(self, lab: Lab, placed: Placed) -> None:
        self.lab, self.placed = lab, placed
        self.name = placed.machine.name
        self.password = lab.root / "password"

    # -- commands --------------------------------------------------------------------------------

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """``ldm`` with these words, under way."""
        return subprocess.Popen(
            [Path(sys.executable).with_name("ldm"), *words],
            env={**os.environ, "LODOM_SOCKET": str(self.placed.socket)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def end(self, process: "subprocess.Popen[str]", within: float = LIMIT_S) -> Said:
        """How *process* ended; no user ever sees a traceback."""
        try:
            out, err = process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{process.args} did not end; it said: {out}{err}") from None
        assert "Traceback" not in out + err
        return Said(process.returncode, out, err)

    def tried(self, *words: str) -> Said:
        """How ``ldm`` with these words ended."""
        return self.end(self.begin(*words))

    def ldm(self, *words: str) -> str:
        """What ``ldm`` prints; it must succeed.

        The program's own entry, in this process: twenty commands to set a test up need no twenty
        starts of Python.  ``tried`` and ``begin`` start the program itself.
        """
        out, err = StringIO(), StringIO()
        with (
            pytest.MonkeyPatch.context() as patched,
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            patched.setenv("LODOM_SOCKET", str(self.placed.socket))
            code = cli.run(words)
        said = Said(code, out.getvalue(), err.getvalue())
        assert said.code == 0, f"ldm {' '.join(words)} on {self.name}: {said}"
        return said.out

    def migrate_words(self, ldom: str, target: "Machine", *options: str, to: str = "") -> list[str]:
        """The words that move *ldom* to *target*."""
        host = f"{target.name}:{to}" if to else target.name
        return ["migrate-domain", "-p", str(self.password), *options, ldom, host]

    def migrate(self, ldom: str, target: "Machine") -> dict[str, int]:
        """Move the domain; the numbers of the copy."""
        said = self.tried(*self.migrate_words(ldom, target, "--json"))
        assert said.code == 0, said
        return dict(json.loads(said.out).get("numbers", {}))

    # -- what it claims --------------------------------------------------------------------------

    def row(self, ldom: str) -> dict[str, str]:
        """The fields of ``ldm list -p``; flags as the six letters of ``ldm list``."""
        line = self.ldm("list", "-p", ldom).splitlines()[-1]
        found = dict(part.split("=", 1) for part in line.split("|")[1:])
        words = found["flags"].split(",")
        letters = (next((FLAGS[i][w] for w in words if w in FLAGS[i]), "-") for i in range(6))
        return {**found, "flags": "".join(letters)}

    def names(self) -> list[str]:
        """Its domains."""
        return re.findall(r"^DOMAIN\|name=([^|]+)", self.ldm("list", "-p"), re.MULTILINE)

    def has_up(self, ldom: str) -> bool:
        """The guest's system answers."""
        return self.row(ldom)["flags"][1] == "n"

    def blocks(self, ldom: str) -> list[Block]:
        """Its memory blocks by real address."""
        rows = re.findall(
            r"^ +(0x\w+) +(0x\w+) +(\w+)$", self.ldm("list", "-o", "memory", ldom), re.M
        )
        return sorted(Block(int(ra, 16), int(pa, 16), parse_size(size)) for ra, pa, size in rows)

    def strands(self, ldom: str) -> list[int]:
        """The strand of each virtual CPU."""
        rows = re.findall(r"^ +(\d+) +(\d+) ", self.ldm("list", "-o", "cpu", ldom), re.MULTILINE)
        return [int(pid) for _, pid in sorted(rows, key=lambda row: int(row[0]))]

    def free_strands(self) -> int:
        """How many strands nobody holds."""
        return len(re.findall(r"^ +\d+ +100 ", self.ldm("list-devices", "cpu"), re.MULTILINE))

    def free_memory(self) -> list[Block]:
        """Free ranges (real address 0)."""
        rows = re.findall(r"^ +(0x\w+) +(\w+)$", self.ldm("list-devices", "memory"), re.MULTILINE)
        return [Block(0, int(pa, 16), parse_size(size)) for pa, size in rows]

    def state(self) -> tuple[str, ...]:
        """All that a refused command must not change."""
        return tuple(
            self.ldm(*words.split())
            for words in ("list-constraints -p", "list-devices -a -p", "list-services -p")
        ) + tuple(re.findall(_STANDS, self.ldm("list", "-p"), re.MULTILINE))

    # -- what is there ---------------------------------------------------------------------------

    def _at(self, pa: int, size: int) -> tuple[Path, int]:
        for file in (self.placed.folder / "run/pool").iterdir():
            base = int(file.name, 16)
            if base <= pa and pa + size <= base + file.stat().st_size:
                return file, pa - base
        held = [(f.name, f.stat().st_size) for f in (self.placed.folder / "run/pool").iterdir()]
        raise AssertionError(f"no pool file of {self.name} holds {pa:#x}: {held}")

    def peek(self, pa: int, size: int) -> bytes:
        """Bytes of the pool file at a physical address."""
        path, offset = self._at(pa, size)
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def fill(self, block: Block, byte: int) -> None:
        """Write over a range of the pool file."""
        path, offset = self._at(block.pa, block.size)
        with path.open("r+b") as file:
            file.seek(offset)
            for _ in range(block.size >> 21):
                file.write(bytes([byte]) * (1 << 21))

    def is_zero(self, blocks: list[Block]) -> bool:
        """The pool file reads as zero there."""
        return not any(self.peek(b.pa, b.size).strip(b"\0") for b in blocks)

    def memory(self, blocks: list[Block]) -> bytes:
        """A domain's memory as the guest sees it: block behind block."""
        return b"".join(self.peek(b.pa, b.size) for b in blocks)

    def qemus(self, ldom: str) -> list[int]:
        """Processes that run the domain, or are to."""
        found = []
        for pid in _processes_in(self.placed.namespace):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if any(w.endswith(f",process=lodom-{ldom},debug-threads=on".encode()) for w in words):
                found.append(pid)
        return found

    def pinned(self, ldom: str) -> bool:
        """The thread that emulates all its CPUs may use those of its strands, and no others.

        A strand is a host CPU in turn, of those that machine.toml names.  A process that has just
        been started has no such thread yet.
        """
        named = tomllib.loads((self.placed.folder / "machine.toml").read_text())["strands"]
        host = sorted(parse_cpu_list(named["cpus"]) if "cpus" in named else os.sched_getaffinity(0))
        all_threads = (item for pid in self.qemus(ldom) for item in threads(pid).items())
        found = [affinity(t) for t, name in all_threads if name.startswith("ALL CPUs/")]
        return found == [{host[strand % len(host)] for strand in self.strands(ldom)}]

    def last_words(self, ldom: str) -> str:
        """The ends of all logs of QEMU and consoles, and what the domain's threads do."""
        logs = sorted(self.placed.folder.rglob("log/*"))
        said = [f"{log.name}:\n{log.read_text(errors='replace')[-1500:]}" for log in logs]
        for pid in self.qemus(ldom):
            for tid, name in sorted(threads(pid).items()):
                stat = Path(f"/proc/{pid}/task/{tid}/stat").read_text().rpartition(")")[2].split()
                said.append(f"{name}: state {stat[0]}, {stat[11]} ticks, {stat[12]} in the kernel")
        return "\n".join(said)

    # -- its ldmd --------------------------------------------------------------------------------

    def kill_ldmd(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal ldmd; after SIGKILL, wait until it is gone."""
        _kill(self.lab.pid(self.placed), number)

    def start_ldmd(self) -> None:
        """Start ldmd again."""
        self.lab.start(self.placed)

    def boot_anew(self) -> None:
        """The machine loses power and boots: ldmd, guests, memory and /run of before are gone."""
        self.kill_ldmd()
        for pid in _processes_in(self.placed.namespace):
            if b"qemu-system" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                _kill(pid)
        run = self.placed.folder / "run"
        subprocess.run(["umount", run / "pool"], check=True)
        shutil.rmtree(run)
        run.mkdir()
        (self.placed.folder / BOOT).write_text(f"{uuid.uuid4()}\n")
        self.start_ldmd()

    def in_namespace(self, *argv: str) -> None:
        """Run a command in the machine's network namespace."""
        subprocess.run(["ip", "netns", "exec", self.placed.namespace, *argv], check=True)


def _kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    fd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(fd, number)
        if number == signal.SIGKILL:
            assert select([fd], [], [], 10)[0]
    finally:
        os.close(fd)


def _processes_in(namespace: str) -> list[int]:
    done = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True)
    return [int(pid) for pid in done.stdout.split()]


@dataclass
class Domain:
    """A domain with the lab guest: where it was made, how it is reached."""

    world: "World"
    name: str
    address: str
    machine: Machine
    volume: Path | None = None
    status: Status = field(init=False)

    def __post_init__(self) -> None:
        self.status = Status(self.address)

    def start(self, beats: Heartbeats) -> str:
        """Bind it if need be, start it, wait until its system is up; the boot id."""
        if self.machine.row(self.name)["state"] == "inactive":
            self.machine.ldm("bind-domain", self.name)
        known = beats.boots(self.name)
        self.machine.ldm("start-domain", self.name)
        try:
            boot = beats.first(self.name, within=BOOT_S, unlike=known[-1] if known else "")
        except TimeoutError as silent:
            raise AssertionError(f"{silent}\n{self.machine.last_words(self.name)}") from None
        eventually(lambda: self.machine.has_up(self.name), "flag n", within=BOOT_S)
        return boot

    def counter(self) -> Counter:
        """A connection to its counter."""
        return Counter(self.address)


class World:
    """Both machines and what tests make on them."""

    def __init__(self, lab: Lab, guest: tuple[Path, Path]) -> None:
        self.lab, self._guest = lab, guest
        self.a, self.b = (Machine(lab, p) for p in lab.machines)
        self._made: list[Domain] = []
        self._spare: list[str] = []

    def domain(
        self, name: str, *, memory: str = "256M", vcpus: int = 1, disk: int = 0, args: str = ""
    ) -> Domain:
        """An inactive domain on the first machine; its volume of *disk* bytes is on both."""
        made = Domain(self, name, f"10.97.1.{11 + len(self._made)}", self.a)
        self._made.append(made)
        ldm = self.a.ldm
        ldm("add-domain", name)
        ldm("set-vcpu", str(vcpus), name)
        ldm("set-memory", memory, name)
        ldm("add-vnet", "vnet0", "primary-vsw0", name)
        if disk:
            made.volume = self.lab.root / f"{name}.img"
            made.volume.touch()
            os.truncate(made.volume, disk)
            for machine in (self.a, self.b):
                machine.ldm("add-vdsdev", str(made.volume), f"{name}@primary-vds0")
            ldm("add-vdisk", "vdisk0", f"{name}@primary-vds0", name)
            args += " lodom.disk=1"
        kernel, initrd = self._guest
        ldm(
            "set-variable", f"boot-kernel={kernel}", f"boot-initrd={initrd}",
            f"boot-args=console=ttyS0 quiet no_timer_check lodom.name={name} "
            f"lodom.ip={made.address}/24 lodom.heartbeat=10.97.1.254:7999 {args}", name,
        )  # fmt: skip
        return made

    def spare(self, name: str, memory: str) -> None:
        """A bound domain on the first machine that only takes memory."""
        self._spare.append(name)
        for words in ("add-domain", "set-vcpu 1", f"set-memory {memory}", "bind-domain"):
            self.a.ldm(*words.split(), name)

    def remove(self, name: str) -> None:
        """Take the domain from both machines, in whatever state it is."""
        for machine in (self.a, self.b):
            if name in machine.names():
                for words in ("stop-domain -f", "unbind-domain", "remove-domain"):
                    machine.tried(*words.split(), name)

    def forget(self) -> None:
        """The lab that everything was made in has gone."""
        self._made, self._spare = [], []

    def clear(self) -> None:
        """Take everything away that tests made; both machines are as after their set-up."""
        for made in self._made:
            self.remove(made.name)
            if made.volume:
                made.volume.unlink(missing_ok=True)
        for name in self._spare:
            self.remove(name)
        self.forget()
        for machine in (self.a, self.b):
            for name in re.findall(r"^\|vol=([^|]+)", machine.ldm("list-services", "-p"), re.M):
                machine.tried("remove-vdsdev", f"{name}@primary-vds0")
            left = [n for n in machine.names() if n != "primary"]
            assert not left, f"{machine.name} keeps {left}"
            eventually(lambda m=machine: m.free_strands() == 12, "free strands")
