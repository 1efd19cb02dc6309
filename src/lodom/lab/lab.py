"""Machines in network namespaces on one host: made, asked, taken down without a trace.

Each machine is a namespace with an ``ldmd`` of its own that reads an ordinary ``machine.toml``.  A
bridge in a namespace of its own is the wire between them; a further namespace, the *client*, is a
host on the same network that the guests can be watched from.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lodom.client.http import Unreachable, call
from lodom.core.errors import ConfigInvalid
from lodom.core.units import MIB, format_size
from lodom.host.topology import memory_available
from lodom.lab.topology import (
    CONCENTRATOR,
    DISK_SERVER,
    LabMachine,
    Placed,
    Topology,
    machine_toml,
)

ROOT = Path("/run/lodom-lab")
WIRE, CLIENT = "lodom-wire", "lodom-client"
CLIENT_ADDRESS = "10.97.0.254"
GUESTS = "10.97.1"
"""Network of the guests: the switches' bridges are joined over the wire."""
USER, PASSWORD = "root", "lodom"
READY_S, STOP_S = 60.0, 20.0
TOOLS = ("ip", "tc", "mount", "umount", "nsenter", "unshare")
BOOT = "boot_id"
"""File in a machine's folder: the kernel's boot id as its ldmd sees it, once it is there."""


class LabFault(Exception):
    """The lab cannot do what was asked; the text says why."""


def _run(*argv: str, check: bool = True) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise LabFault(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _in(namespace: str, *argv: str, check: bool = True) -> str:
    return _run("ip", "netns", "exec", namespace, *argv, check=check)


def _enter(p: Placed) -> list[str]:
    """What runs a command in the machine's namespace, with its hosts file, /sys and boot id.

    As ``ip netns exec``, which would keep the mount of the pool from everybody else, though.
    """
    boot = p.folder / BOOT
    script = (
        'for m in / /sys /proc /etc/hosts; do mount --make-private "$m" 2>/dev/null || :; done; '
        f"mount --bind /etc/netns/{p.namespace}/hosts /etc/hosts; mount -t sysfs lab /sys; "
        f"[ ! -e {boot} ] || mount --bind {boot} /proc/sys/kernel/random/boot_id; "
        'exec "$@"'
    )
    return [
        "nsenter", f"--net=/run/netns/{p.namespace}", "unshare", "--mount", "--propagation",
        "unchanged", "sh", "-ec", script, "lab",
    ]  # fmt: skip


class Lab:
    """The lab in *root*; one at a time on a host."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root

    @property
    def _record(self) -> Path:
        return self.root / "lab.json"

    @property
    def machines(self) -> tuple[Placed, ...]:
        """The machines of the lab that is up; none if none is.

        Raises:
            LabFault: its record is spoilt.
        """
        return self._placed(self._names())

    def standing(self) -> tuple[Placed, ...]:
        """What there is to end: the machines, or those with a folder if the record is spoilt."""
        try:
            return self.machines
        except LabFault:
            return self._placed(sorted(p.parent.name for p in self.root.glob("*/machine.toml")))

    def _placed(self, names: list[str]) -> tuple[Placed, ...]:
        return tuple(Placed(LabMachine(n), i, self.root) for i, n in enumerate(names))

    def _names(self) -> list[str]:
        try:
            names = json.loads(self._record.read_text())["machines"]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError):
            names = None
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise LabFault(f"{self._record} is spoilt; ldm-lab down ends the lab all the same")
        return names

    def machine(self, name: str) -> Placed:
        """The machine of that name.

        Raises:
            LabFault: there is none.
        """
        for placed in self.machines:
            if placed.machine.name == name:
                return placed
        up = ", ".join(p.machine.name for p in self.machines) or "none; ldm-lab up starts it"
        raise LabFault(f"no machine {name!r} in the lab (machines: {up})")

    # -- up --------------------------------------------------------------------------------------

    def up(self, topology: Topology) -> None:
        """Start every machine of the topology, with services, user and trust set up.

        Raises:
            LabFault: it is up already, or something could not be made; then nothing is left.
        """
        if self._record.exists():
            raise LabFault("the lab is up already; ldm-lab down ends it")
        if lacking := [tool for tool in TOOLS if not shutil.which(tool)]:
            raise LabFault(f"not installed, or not in PATH: {', '.join(lacking)}")
        if topology.link.delay and not _has_netem():
            raise LabFault(f"link delay {topology.link.delay}: this kernel has no netem")
        needed, free = sum(m.size for m in topology.machines), memory_available()
        if needed > free:
            raise LabFault(
                f"the machines' memory is {format_size(needed)} in all, "
                f"and {free // MIB}M are free on this host: give them less"
            )
        self.root.mkdir(parents=True, exist_ok=True)
        # A mount in it is seen by all: by this host, and by the next ldmd of the same machine.
        _run("mount", "--bind", str(self.root), str(self.root))
        _run("mount", "--make-shared", str(self.root))
        names = [m.name for m in topology.machines]
        self._record.write_text(json.dumps({"machines": names}))
        try:
            placed = [Placed(m, i, self.root) for i, m in enumerate(topology.machines)]
            self._wire(placed, topology)
            # Side by side: each machine's memory is made and proved zero, which takes the time.
            with ThreadPoolExecutor() as machines:
                for _ in machines.map(self._bring_up, placed):
                    pass
            self._trust(placed)
        except BaseException:
            self.down()
            raise

    def _bring_up(self, p: Placed) -> None:
        self._configure(p)
        self.start(p)
        if p.machine.set_up:
            self._set_up(p)
        self.join_switches(p)

    def _wire(self, placed: list[Placed], topology: Topology) -> None:
        _run("ip", "netns", "add", WIRE)
        _in(WIRE, "ip", "link", "add", "wire", "type", "bridge")
        _in(WIRE, "ip", "link", "add", "guests", "type", "bridge")
        for bridge in ("wire", "guests"):
            _in(WIRE, "ip", "link", "set", bridge, "up")
        for p in placed:
            self._namespace(p.namespace)
            self._cable("wire", p.namespace, f"m{p.index}", "eth0")
            _in(p.namespace, "ip", "addr", "add", f"{p.address}/24", "dev", "eth0")
            for discipline in topology.link.disciplines:
                _in(p.namespace, "tc", "qdisc", "add", "dev", "eth0", *discipline)
        self._namespace(CLIENT)
        self._cable("wire", CLIENT, "cw", "eth0")
        self._cable("guests", CLIENT, "cg", "guests")
        _in(CLIENT, "ip", "addr", "add", f"{CLIENT_ADDRESS}/24", "dev", "eth0")
        _in(CLIENT, "ip", "addr", "add", f"{GUESTS}.254/24", "dev", "guests")

    def _namespace(self, name: str) -> None:
        _run("ip", "netns", "add", name)
        _in(name, "ip", "link", "set", "lo", "up")

    def _cable(self, bridge: str, namespace: str, end: str, device: str) -> None:
        """A veth pair: one end in a bridge of the wire, the other a device of the namespace."""
        _in(
            WIRE, "ip", "link", "add", end, "type", "veth", "peer", "name", device, "netns",
            namespace,
        )  # fmt: skip
        _in(WIRE, "ip", "link", "set", end, "master", bridge, "up")
        _in(namespace, "ip", "link", "set", device, "up")

    def _configure(self, p: Placed) -> None:
        for name in ("state", "run", "log"):
            (p.folder / name).mkdir(parents=True, exist_ok=True)
        text = machine_toml(p.machine, p.folder, p.address)
        (p.folder / "machine.toml").write_text(text)
        self._hosts(p)

    def _hosts(self, p: Placed) -> None:
        """Names of all machines, seen only inside the machine's namespace (ip-netns(8))."""
        names = self._names()
        etc = Path("/etc/netns") / p.namespace
        etc.mkdir(parents=True, exist_ok=True)
        lines = ["127.0.0.1 localhost", f"{CLIENT_ADDRESS} client"]
        lines += [f"{Placed(p.machine, i, self.root).address} {n}" for i, n in enumerate(names)]
        (etc / "hosts").write_text("\n".join(lines) + "\n")

    def start(self, p: Placed) -> int:
        """Start the machine's ldmd and wait until it answers; its process id.

        Raises:
            LabFault: it ended, or did not answer in time; its last words are in the text.
        """
        log = p.log
        with log.open("ab") as out:
            process = subprocess.Popen(
                [*_enter(p), sys.executable, "-m", "lodom.daemon.main",
                 "--debug", "--config", str(p.folder / "machine.toml")],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        (p.folder / "ldmd.pid").write_text(str(process.pid))
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise LabFault(f"ldmd of {p.machine.name} ended: {_tail(log)}")
            try:
                call("show-version", {}, path=str(p.socket), timeout_s=5)
                return process.pid
            except (Unreachable, OSError):
                _wait_for(p.socket)
        raise LabFault(f"ldmd of {p.machine.name} does not answer: {_tail(log)}")

    def _set_up(self, p: Placed) -> None:
        """The commands of ldm-setup, with the lab's figures."""
        m = p.machine
        units = 1 if m.crypto_units is None else min(1, m.crypto_units)
        low, high = m.console_ports
        commands: list[tuple[str, dict[str, Any]]] = [
            ("add-vdiskserver", {"name": DISK_SERVER, "ldom": "primary"}),
            ("add-vconscon", {"low": low, "high": high, "name": CONCENTRATOR, "ldom": "primary"}),
            *(("add-vswitch", {"name": s, "ldom": "primary"}) for s in m.switches),
            ("set-mau", {"number": units, "ldom": "primary"}),
            ("set-vcpu", {"number": m.primary_strands, "ldom": "primary"}),
            ("set-memory", {"size": m.primary_memory, "ldom": "primary"}),
        ]
        for verb, arguments in commands:
            if verb == "set-mau" and m.crypto_units == 0:
                continue
            call(verb, arguments, path=str(p.socket))

    def join_switches(self, p: Placed) -> None:
        """Put the bridges of the machine's switches, new ones too, onto the guests' network."""
        links = json.loads(_in(p.namespace, "ip", "-j", "-d", "link", "show"))
        bridges = {link["ifname"] for link in links if _kind(link) == "bridge"}
        ups = [link for link in links if link["ifname"].startswith("up")]
        loose = [link["ifname"] for link in ups if not link.get("master")]
        for bridge in sorted(bridges - {link.get("master") for link in ups}):
            if loose:  # its switch was removed
                device = loose.pop()
            else:
                device = f"up{len(ups)}"
                self._cable("guests", p.namespace, f"g{p.index}x{len(ups)}", device)
                ups.append({"ifname": device})
            _in(p.namespace, "ip", "link", "set", device, "master", bridge)

    def _trust(self, placed: list[Placed]) -> None:
        from lodom.peer.auth import UsersFile

        for p in placed:
            users = UsersFile(p.folder / "state" / "users")
            users.add(USER, PASSWORD, frozenset({"read", "write"}))
        for p in placed:
            for other in placed:
                if other is p:
                    continue
                shown = call("show-fingerprint", {}, path=str(other.socket))["fingerprint"]
                arguments = {"host": other.machine.name, "fingerprint": shown}
                call("trust-peer", arguments, path=str(p.socket))
        secret = self.root / "password"
        secret.touch(mode=0o600)
        secret.write_text(PASSWORD + "\n")

    # -- down ------------------------------------------------------------------------------------

    def down(self) -> None:
        """End everything that the lab started; nothing is left.  Safe to repeat."""
        machines = self.standing()
        for p in machines:
            self.stop(p)
        for p in machines:
            for pid in _processes_in(p.namespace):
                _end(pid)
            _remove_pool(p)
            _remove_groups(p)
        for name in [*(p.namespace for p in machines), CLIENT, WIRE]:
            if name in _run("ip", "netns", "list").split():
                for pid in _processes_in(name):
                    _end(pid)
                _run("ip", "netns", "del", name)
            etc = Path("/etc/netns") / name
            shutil.rmtree(etc, ignore_errors=True)
        netns = Path("/etc/netns")
        if netns.is_dir() and not any(netns.iterdir()):
            netns.rmdir()
        # Path.is_mount does not see a folder that is bound to itself.
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in reversed(mounts):  # a pool whose machine.toml somebody has spoilt, the root
            if Path(mount).is_relative_to(self.root):
                _run("umount", mount)
        shutil.rmtree(self.root, ignore_errors=True)

    def pid(self, p: Placed) -> int:
        """Process id of the machine's ldmd, 0 if none runs."""
        try:
            pid = int((p.folder / "ldmd.pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return 0
        return pid if b"lodom.daemon.main" in command else 0

    def stop(self, p: Placed) -> None:
        """End the machine's ldmd; its guests run on."""
        if pid := self.pid(p):
            _end(pid, signal.SIGTERM)

    # -- trouble, for demonstrations and tests ---------------------------------------------------

    def kill(self, p: Placed) -> None:
        """End the machine's ldmd with SIGKILL, as a crash would; its guests run on."""
        if pid := self.pid(p):
            _end(pid)

    def cut(self, p: Placed) -> None:
        """Take the machine's link to the others down; its guests' own network stays."""
        _in(p.namespace, "ip", "link", "set", "eth0", "down")

    def mend(self, p: Placed) -> None:
        """Bring the machine's link to the others up again."""
        _in(p.namespace, "ip", "link", "set", "eth0", "up")

    # -- asking ----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What is up, as JSON."""
        return {
            "root": str(self.root),
            "client": {"namespace": CLIENT, "address": f"{GUESTS}.254"},
            "password_file": str(self.root / "password"),
            "machines": [
                {
                    "name": p.machine.name,
                    "namespace": p.namespace,
                    "address": p.address,
                    "socket": str(p.socket),
                    "folder": str(p.folder),
                    "ldmd": self.pid(p),
                }
                for p in self.machines
            ],
        }


def _has_netem() -> bool:
    probe = subprocess.run(
        ["unshare", "-n", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"],
        capture_output=True, check=False,
    )  # fmt: skip
    return probe.returncode == 0


def _kind(link: dict[str, Any]) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))


def _tail(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-3:])


def _wait_for(path: Path) -> None:
    """Sleep until *path* may have changed; a folder cannot be awaited portably for less."""
    time.sleep(0.05 if path.parent.exists() else 0.2)


def _processes_in(namespace: str) -> list[int]:
    out = _run("ip", "netns", "pids", namespace, check=False)
    return [int(pid) for pid in out.split()]


def _end(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Signal a process and wait until it is gone; by force when it takes too long."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(fd, number)
        import select

        if not select.select([fd], [], [], STOP_S)[0]:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            select.select([fd], [], [], STOP_S)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def _remove_pool(p: Placed) -> None:
    """The machine's pool: mount, files, huge pages that it raised."""
    import asyncio

    from lodom.daemon import config
    from lodom.host.pool import Pool

    path = p.folder / "machine.toml"
    if path.exists():
        try:
            settings = config.load(path)
            pool = Pool(settings.pool(settings.machine("lab"), ()))
        except ConfigInvalid:
            return  # changed by hand since; its ldmd did not start on it, so it raised no pages
        asyncio.run(pool.remove())


def _remove_groups(p: Placed) -> None:
    """Control groups that its ldmd made for guests."""
    for base in Path("/sys/fs/cgroup").glob(f"**/lodom/{p.machine.name}"):
        for child in sorted(base.glob("*/"), reverse=True):
            child.rmdir()
        base.rmdir()
