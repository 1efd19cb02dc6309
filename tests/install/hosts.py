"""Two "hosts" as people have them: a Debian made by debootstrap each, in namespaces of their own.

No code of the lab is in them.  A host is a process of its own PID, mount, network and UTS
namespace, with a writable layer over what ``root.sh`` makes, as a rule its one tree ``host``; what
is in it ends with that process.  Its second network card has no address: it is for the guests.  A
third network namespace, the *wire*, joins them and is a host on both networks.
"""

import os
import re
import shutil
import signal
import subprocess
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import pytest

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build/install"
HOSTS = {"alpha": "192.0.2.1", "beta": "192.0.2.2"}
WIRE_ADDRESS, GUESTS_ADDRESS = "192.0.2.254/24", "198.51.100.254/24"
LIMIT_S = 300.0
NEEDED = ("debootstrap", "qemu-img", "genisoimage", "unshare", "nsenter")

_BOOT = """
mount -t tmpfs none "$2"; mkdir "$2/root"
tree=$2/root
mount -t overlay none -o lowerdir="$1",upperdir="$3/upper",workdir="$3/work" "$tree"
mount -t proc proc "$tree/proc"
mount -t sysfs sys "$tree/sys"
mount -t cgroup2 none "$tree/sys/fs/cgroup" 2>/dev/null || :
mount --rbind /dev "$tree/dev"
mount -t tmpfs none "$tree/run"
mkdir -p "$tree/srv/domains" "$tree/root/lodom"
mount --bind "$3/../shared" "$tree/srv/domains"
mount --bind "$3/boot_id" "$tree/proc/sys/kernel/random/boot_id"
hostname "$4"; echo "$4" >"$tree/etc/hostname"
ip link set lo up
echo ready
read -r _ || :
"""


def made(*what: str) -> None:
    """Have ``root.sh`` make it, if it is not there."""
    missing = [p for p in NEEDED if not shutil.which(p)]
    if missing or os.geteuid() != 0:
        pytest.skip(
            f"needs root and {', '.join(missing) or 'nothing else'}: tools/setup.sh --debian"
        )
    for thing in what:
        done = subprocess.run(
            [ROOT / "tests/install/root.sh", thing], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@dataclass
class Ended:
    """How a command ended, and what it said on both its outputs."""

    code: int
    said: str


@dataclass
class Space:
    """A process that holds namespaces; everything in them ends with it."""

    process: "subprocess.Popen[str]"

    @classmethod
    def open(cls, script: str, *words: object, pids: bool) -> "Space":
        """Run *script* in new namespaces; it says ``ready`` and waits for the end of its input."""
        more = ["--pid", "--uts"] if pids else []
        process = subprocess.Popen(
            ["unshare", "--mount", "--net", "--fork", "--kill-child", *more, "--propagation",
             "private", "bash", "-ec", script, "_", *map(str, words)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == "ready\n", f"{words}: {process.wait()}"
        return cls(process)

    @property
    def pid(self) -> int:
        """The first process in the namespaces."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(task.read_text().split()[0])

    def command(self, *argv: str) -> list[str]:
        """What runs *argv* in the network namespace."""
        return ["nsenter", f"--target={self.pid}", "--net", *argv]

    def ip(self, *argv: str) -> None:
        """``ip`` in the network namespace."""
        subprocess.run(self.command("ip", *argv), check=True)

    def close(self) -> None:
        """End everything in the namespaces."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@dataclass
class Host:
    """One host; its disk is *folder*, and outlives its boots.

    Below that disk are *trees* that ``root.sh`` made, the uppermost first, joined by colons.
    """

    name: str
    folder: Path
    wire: Space
    trees: str = "host"
    space: Space = field(init=False)

    def __post_init__(self) -> None:
        for name in ("upper", "work", "mnt"):
            (self.folder / name).mkdir(parents=True)
        self._copy_project(self.folder / "upper/root/lodom")
        etc = self.folder / "upper/etc"
        etc.mkdir()
        lines = ["127.0.0.1 localhost", *(f"{a} {n}" for n, a in HOSTS.items())]
        (etc / "hosts").write_text("\n".join(lines) + "\n")
        self.boot()

    def _copy_project(self, to: Path) -> None:
        """What is under version control, and the Python packages as wheel files."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        for name in listed.stdout.split("\0"):
            if name and (ROOT / name).is_file():
                (to / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, to / name)
        shutil.copytree(BUILD / "wheels", to / "wheels")

    def boot(self) -> None:
        """Start it: a new boot id, an empty /run, no process of before."""
        (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        mnt = self.folder / "mnt"
        below = ":".join(str(BUILD / tree) for tree in self.trees.split(":"))
        self.space = Space.open(_BOOT, below, mnt, self.folder, self.name, pids=True)
        cards = (("eth0", "hosts"), ("eth1", "guests"))
        for (card, bridge), end in zip(cards, self._cables(), strict=True):
            self.wire.ip(
                "link", "add", end, "type", "veth", "peer", "name", card,
                "netns", str(self.space.pid),
            )  # fmt: skip
            self.wire.ip("link", "set", end, "master", bridge, "up")
            self.space.ip("link", "set", card, "up")
        self.space.ip("address", "add", f"{HOSTS[self.name]}/24", "dev", "eth0")

    def halt(self) -> None:
        """Cut its power.  Its cables go at once; the kernel would take its time over that."""
        self.space.close()
        for end in self._cables():
            subprocess.run(self.wire.command("ip", "link", "delete", end), capture_output=True)

    def _cables(self) -> list[str]:
        return [f"{self.name[:4]}{card}" for card in ("eth0", "eth1")]

    def tried(self, command: str, *, within: float = LIMIT_S) -> Ended:
        """How a line of shell ended, run by root in /root/lodom."""
        argv = [
            "nsenter", f"--target={self.space.pid}", "--mount", "--pid", "--uts", "--net",
            "chroot", str(self.folder / "mnt/root"), "env", "-i", "HOME=/root", "TERM=dumb",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "bash", "-c", f"cd /root/lodom\n{command}",
        ]  # fmt: skip
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=within, check=False,
        )  # fmt: skip
        return Ended(done.returncode, done.stdout)

    def run(self, command: str, *, within: float = LIMIT_S) -> str:
        """What the command says; it must succeed, and shows nobody a traceback."""
        begin = monotonic()
        ended = self.tried(command, within=within)
        assert ended.code == 0, f"{self.name}# {command}\n{ended.said}{self.log()}"
        assert "Traceback" not in ended.said, ended.said
        print(f"{self.name}# {command}  ({monotonic() - begin:.1f} s)\n{ended.said}", end="")
        return ended.said

    def log(self) -> str:
        """The end of ldmd's log."""
        path = self.folder / "upper/var/log/lodom/ldmd.log"
        return "\n".join(path.read_text().splitlines()[-30:]) if path.exists() else ""

    def eventually(self, command: str, pattern: str, *, within: float) -> str:
        """Ask until the answer matches; for what has no event outside the host."""
        deadline = monotonic() + within
        while not re.search(pattern, said := self.tried(command).said):
            assert monotonic() < deadline, f"{self.name}# {command}\n{said}{self.log()}"
            self.tried("sleep 0.3")
        return said


class Site:
    """Both hosts, their wire, and the folder that both see as /srv/domains."""

    def __init__(self, folder: Path, trees: str = "host") -> None:
        self._folder, self.shared = folder, folder / "shared"
        self.shared.mkdir()
        self.wire = Space.open("echo ready; read -r _ || :", pids=False)
        self.hosts: dict[str, Host] = {}
        try:
            for bridge, address in (("hosts", WIRE_ADDRESS), ("guests", GUESTS_ADDRESS)):
                self.wire.ip("link", "add", bridge, "type", "bridge")
                self.wire.ip("link", "set", bridge, "up")
                self.wire.ip("address", "add", address, "dev", bridge)
            for name in HOSTS:
                self.hosts[name] = Host(name, folder / name, self.wire, trees)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Nothing of it is left."""
        for host in self.hosts.values():
            host.halt()
        self.wire.close()
        for group in Path("/sys/fs/cgroup").glob("**/lodom"):
            for name in HOSTS:
                for child in (*group.glob(f"{name}/*/"), group / name, group):
                    if child.is_dir() and not any(child.glob("*/")):
                        with suppress(OSError):  # somebody else's
                            child.rmdir()
        shutil.rmtree(self._folder)
