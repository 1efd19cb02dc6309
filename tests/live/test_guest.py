"""The lab guest on a bare QEMU: every witness works before a test of ours relies on it."""

import json
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.live

Image = tuple[Path, Path]
"""Kernel and initrd, from the fixture ``guest``."""

MIB = 1 << 20
BLOCK = 128 * MIB
BOOT_SECONDS = 20.0
"""How long a test waits for a heartbeat; the aim on an idle machine is 6 s."""


def mix(x: int) -> int:
    """splitmix64, as in guest/README.md."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return int(s.getsockname()[1])


class Vm:
    """One QEMU with two memory blocks, two CPUs, a disk, a network, an agent and pvpanic."""

    def __init__(self, image: Image, folder: Path, args: str = "") -> None:
        self.folder = folder
        self.heartbeats = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.heartbeats.bind(("127.0.0.1", 0))
        self.heartbeats.settimeout(BOOT_SECONDS)
        self.ports = {7000: free_port(), 7001: free_port()}
        (folder / "disk").touch()
        with (folder / "disk").open("r+b") as disk:
            disk.truncate(MIB)
        append = (
            "console=ttyS0 quiet no_timer_check lodom.name=ldg1 lodom.ip=10.0.2.15/24 lodom.disk=1 "
            f"lodom.heartbeat=10.0.2.2:{self.heartbeats.getsockname()[1]} {args}"
        )
        self.process = subprocess.Popen(self._argv(image, append), stderr=subprocess.PIPE)

    def _argv(self, image: Image, append: str) -> list[str]:
        forward = ",".join(f"hostfwd=tcp:127.0.0.1:{h}-:{g}" for g, h in self.ports.items())
        argv = f"""
            qemu-system-x86_64 -nodefaults -no-user-config -display none -machine pc-q35-8.2
            -accel tcg,thread=single -m 256M -smp 2 -action panic=pause
            -chardev socket,id=qmp,path={self.folder}/qmp,server=on,wait=off -mon qmp,mode=control
            -serial file:{self.folder}/console
            -netdev user,id=net,{forward} -device virtio-net-pci,netdev=net,romfile=
            -drive file={self.folder}/disk,format=raw,if=none,id=disk
            -device virtio-blk-pci,drive=disk -device pvpanic-pci -device virtio-serial-pci
            -chardev socket,id=agent,path={self.folder}/agent,server=on,wait=off
            -device virtserialport,chardev=agent,name=org.qemu.guest_agent.0
            """.split()
        for n in range(2):
            backend = f"memory-backend-file,id=m{n},mem-path={self.folder}/block{n}"
            argv += ["-object", f"{backend},share=on,size={BLOCK}", "-numa", f"node,memdev=m{n}"]
        return [
            *argv,
            "-kernel",
            str(image[0]),
            "-initrd",
            str(image[1]),
            "-append",
            append,
        ]

    def heartbeat(self, unlike: str = "") -> list[str]:
        """Wait for a heartbeat whose boot id is not *unlike*; return its words."""
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            words = self.heartbeats.recv(512).decode().split()
            if words[2] != unlike:
                return words
        raise TimeoutError("only heartbeats of the boot before")

    def control(self, line: str) -> str:
        with socket.create_connection(("127.0.0.1", self.ports[7001]), timeout=10) as s:
            s.sendall(f"{line}\n".encode())
            return s.makefile().readline().strip()

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.control("status")))

    def counter(self, lines: int) -> list[list[str]]:
        with socket.create_connection(("127.0.0.1", self.ports[7000]), timeout=10) as s:
            stream = s.makefile()
            return [stream.readline().split() for _ in range(lines)]

    @contextmanager
    def channel(self, name: str) -> Iterator[Any]:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(f"{self.folder}/{name}")
            yield s.makefile("rw")

    def agent(self, command: str, **arguments: Any) -> Any:
        with self.channel("agent") as channel:
            channel.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            channel.flush()
            return json.loads(channel.readline())["return"]

    def power_off_by_agent(self) -> None:
        with self.channel("agent") as channel:
            channel.write('{"execute": "guest-shutdown"}\n')
            channel.flush()
            assert self.process.wait(10) == 0

    def block_bytes(self, gpa: int, size: int) -> bytes:
        """Guest memory as the host has it: the two blocks lie one behind the other."""
        with (self.folder / f"block{gpa // BLOCK}").open("rb") as f:
            f.seek(gpa % BLOCK)
            return f.read(size)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.heartbeats.close()


@contextmanager
def running(image: Image, folder: Path, args: str = "") -> Iterator[Vm]:
    vm = Vm(image, folder, args)
    try:
        yield vm
    finally:
        vm.close()


def wait_for_disk(vm: Vm, written: int) -> dict[str, int]:
    """The disk's counts once *written* blocks were; the heartbeats are the clock."""
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        disk: dict[str, int] = vm.status()["disk"]
        if disk["written"] >= written:
            return disk
        vm.heartbeat()
    raise TimeoutError(f"{disk}")


def test_the_image_is_small(guest: Image) -> None:
    """It is loaded by firmware at every boot of every test."""
    assert guest[1].stat().st_size < 6 * MIB


def test_counter_heartbeat_and_agent(guest: Image, tmp_path: Path) -> None:
    """The counter only grows, heartbeats carry the same boot id, the agent moves CPUs."""
    with running(guest, tmp_path) as vm:
        magic, name, boot_id, first, _ = vm.heartbeat()
        assert (magic, name) == ("lodom1", "ldg1")
        lines = vm.counter(20)
        assert {line[0] for line in lines} == {boot_id}
        counts = [int(line[1]) for line in lines]
        assert int(first) < counts[0]
        assert counts == list(range(counts[0], counts[0] + 20))
        vcpus = vm.agent("guest-get-vcpus")
        assert [v["online"] for v in vcpus] == [True, True]
        assert vm.status()["cpus_online"] == "0-1"
        assert vm.agent("guest-set-vcpus", vcpus=[{"logical-id": 1, "online": False}]) == 1
        assert (vm.status()["cpus"], vm.status()["cpus_online"]) == (1, "0")
        vm.power_off_by_agent()


def test_pattern_lies_where_the_guest_says(guest: Image, tmp_path: Path) -> None:
    """The host finds every page of the pattern in the file of the block, and both blocks have some.

    A page that the host spoils is seen by the guest.
    """
    with running(guest, tmp_path, "lodom.pattern=16:42") as vm:
        vm.heartbeat()
        pattern = vm.status()["pattern"]
        assert (pattern["seed"], pattern["bad"], len(pattern["pages"])) == (42, 0, 16)
        assert {gpa // BLOCK for gpa in pattern["pages"]} == {0, 1}
        for page, gpa in enumerate(pattern["pages"]):
            words = struct.unpack("<512Q", vm.block_bytes(gpa, 4096))
            assert words == tuple(mix(42 ^ (page << 9 | w)) for w in range(512))
        gpa = pattern["pages"][3]
        with (vm.folder / f"block{gpa // BLOCK}").open("r+b") as f:
            f.seek(gpa % BLOCK)
            f.write(b"spoiled!")
        assert vm.status()["pattern"]["bad"] == 1


def test_disk_is_checked_across_boots(guest: Image, tmp_path: Path) -> None:
    """Blocks of the boot before are whole; a block spoiled in between is counted as bad."""
    with running(guest, tmp_path) as vm:
        vm.heartbeat()
        disk = wait_for_disk(vm, 20)
        assert (disk["bad"], disk["errors"]) == (0, 0)
        assert disk["verified"] >= 19
        vm.power_off_by_agent()
    with (tmp_path / "disk").open("r+b") as f:
        f.seek(5 * 4096 + 100)
        f.write(b"spoiled!")
    with running(guest, tmp_path) as vm:
        vm.heartbeat()
        disk = wait_for_disk(vm, 1)
        assert disk["found"] >= 19
        assert disk["bad"] == 1


def test_dirtier_follows_its_rate(guest: Image, tmp_path: Path) -> None:
    """The rate can be set on the kernel command line and at run time; bad input changes nothing."""
    with running(guest, tmp_path, "lodom.dirty=4:8") as vm:
        vm.heartbeat()
        dirtier = vm.status()["dirtier"]
        assert (dirtier["rate"], dirtier["size"]) == (4, 8)
        assert (
            vm.control("dirty many")
            == "error: status, dirty RATE [SIZE], panic, hang, reboot or poweroff"
        )
        assert vm.control("dirty 20 16") == "ok"
        before, start = vm.status()["dirtier"], time.monotonic()
        vm.counter(300)
        after, seconds = vm.status()["dirtier"], time.monotonic() - start
        rate = (after["pages"] - before["pages"]) / 256 / seconds
        assert (after["rate"], after["size"]) == (20, 16)
        assert 8 < rate < 25  # a loaded machine dirties less, never more


def test_reboot_panic_and_power_off(guest: Image, tmp_path: Path) -> None:
    """A reboot has a new boot id; a panic reaches QEMU through pvpanic."""
    with running(guest, tmp_path) as vm:
        boot_id = vm.heartbeat()[2]
        assert vm.control("reboot") == "ok"
        vm.heartbeat(unlike=boot_id)
        with vm.channel("qmp") as qmp:
            qmp.write('{"execute": "qmp_capabilities"}\n')
            qmp.flush()
            assert vm.control("panic") == "ok"
            events = iter(lambda: json.loads(qmp.readline()).get("event"), "GUEST_PANICKED")
            assert "SHUTDOWN" not in list(events)
    with running(guest, tmp_path) as vm:
        vm.heartbeat()
        assert vm.control("poweroff") == "ok"
        assert vm.process.wait(10) == 0


def test_console_is_a_shell_of_that_name(guest: Image, tmp_path: Path) -> None:
    """The serial port shows the prompt without a login."""
    with running(guest, tmp_path) as vm:
        vm.heartbeat()
        vm.agent("guest-ping")
        vm.power_off_by_agent()
    assert "ldg1# " in (tmp_path / "console").read_text()
