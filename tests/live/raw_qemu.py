"""The yardstick: the same guest moved by QEMU alone, driven by QMP, no manager at all.

Two processes in the lab's two namespaces, with TLS by a shared key and several streams.
"""

import json
import os
import secrets
import socket
import subprocess
from pathlib import Path
from time import monotonic
from typing import Any

from machines import BOOT_S, Machine, eventually

from lodom.lab.watch import Counter, Heartbeats, Status

NAME, ADDRESS, MAC = "raw", "10.97.1.99", "52:54:00:97:01:99"
STREAMS = 3
_LIMIT_S = 60.0


class Qmp:
    """One QEMU in a machine's namespace; commands one at a time."""

    def __init__(self, machine: Machine, folder: Path, argv: list[str]) -> None:
        self.machine, self.tap = machine, "rawtap"
        folder.mkdir()
        run = machine.in_namespace
        run("ip", "tuntap", "add", self.tap, "mode", "tap")
        run("ip", "link", "set", self.tap, "master", _switch(machine), "up")
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", machine.placed.namespace, *argv,
             "-chardev", f"socket,id=qmp,path={folder}/qmp,server=on,wait=off",
             "-mon", "qmp,mode=control"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        eventually((folder / "qmp").exists, "the socket of a bare QEMU")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_LIMIT_S)
        self._socket.connect(f"{folder}/qmp")
        self._lines = self._socket.makefile("rw")
        self._lines.readline()
        self.do("qmp_capabilities")

    def do(self, command: str, **arguments: Any) -> Any:
        """What QEMU returns."""
        order = {
            "execute": command,
            "arguments": {k.replace("_", "-"): v for k, v in arguments.items()},
        }
        self._lines.write(json.dumps(order) + "\n")
        self._lines.flush()
        while True:
            answer = json.loads(self._lines.readline())
            assert "error" not in answer, f"{command}: {answer}"
            if "return" in answer:
                return answer["return"]

    def prepare(self, keys: Path, endpoint: str) -> None:
        """Streams and key."""
        name = {"username": "raw"} if endpoint == "client" else {}
        self.do(
            "object-add", qom_type="tls-creds-psk", id="key", dir=str(keys), endpoint=endpoint,
            priority="NORMAL:-CHACHA20-POLY1305", **name,
        )  # fmt: skip
        self.do(
            "migrate-set-capabilities",
            capabilities=[
                {"capability": c, "state": True}
                for c in ("multifd", "return-path", "auto-converge", "events")
            ],
        )
        self.do(
            "migrate-set-parameters", multifd_channels=STREAMS, tls_creds="key",
            max_bandwidth=1 << 37, downtime_limit=300,
        )  # fmt: skip

    def close(self) -> None:
        """End the process; its tap goes too."""
        self.process.kill()
        self.process.wait()
        self._socket.close()
        self.machine.in_namespace("ip", "link", "del", self.tap)


def _switch(machine: Machine) -> str:
    shown = subprocess.run(
        ["ip", "-n", machine.placed.namespace, "-j", "link", "show", "type", "bridge"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    return str(json.loads(shown)[0]["ifname"])


def _argv(
    image: tuple[Path, Path], folder: Path, disk: Path, megabytes: int, cpus: int
) -> list[str]:
    append = (
        f"console=ttyS0 quiet no_timer_check lodom.name={NAME} lodom.ip={ADDRESS}/24 lodom.disk=1 "
        "lodom.heartbeat=10.97.1.254:7999"
    )
    half = f"size={megabytes >> 1}M,share=on"
    return [
        *["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"],
        *f"-machine pc-q35-8.2 -accel tcg,thread=single -cpu Westmere-v1 -m {megabytes}M".split(),
        *f"-smp {cpus} -kernel {image[0]} -initrd {image[1]}".split(), "-append", append,
        *f"-object memory-backend-memfd,id=m0,{half} -numa node,memdev=m0".split(),
        *f"-object memory-backend-memfd,id=m1,{half} -numa node,memdev=m1".split(),
        *f"-blockdev raw,node-name=d,file.driver=file,file.filename={disk}".split(),
        *["-device", "virtio-blk-pci,drive=d", "-netdev"],
        "tap,id=n,ifname=rawtap,script=no,downscript=no",
        *f"-device virtio-net-pci,netdev=n,mac={MAC},romfile=".split(),
        *f"-serial file:{folder}/console".split(),
    ]  # fmt: skip


def move(
    source: Machine, target: Machine, image: tuple[Path, Path], folder: Path, *,
    megabytes: int, cpus: int, dirty: str,
) -> tuple[float, float]:  # fmt: skip
    """Start the guest, move it once; (seconds for all, longest gap of its counter)."""
    keys, disk = folder / "keys", folder / "disk"
    folder.mkdir()
    keys.mkdir(mode=0o700)
    (keys / "keys.psk").touch(mode=0o600)
    (keys / "keys.psk").write_text(f"raw:{secrets.token_hex(32)}\n")
    disk.touch()
    os.truncate(disk, 16 << 20)
    argv = _argv(image, folder, disk, megabytes, cpus)
    open_ones: list[Qmp] = []
    try:
        open_ones.append(there := Qmp(target, folder / "b", [*argv, "-incoming", "defer"]))
        there.prepare(keys, "server")
        there.do("migrate-incoming", uri=f"tcp:{target.placed.address}:0")
        port = there.do("query-migrate")["socket-address"][0]["port"]
        with Heartbeats() as beats:
            open_ones.append(here := Qmp(source, folder / "a", argv))
            beats.first(NAME, within=BOOT_S)
            with Counter(ADDRESS) as counter:
                assert Status(ADDRESS).say(f"dirty {dirty}") == "ok"
                counter.wait(400, within=10)
                return _copy(here, keys, f"tcp:{target.placed.address}:{port}", counter)
    finally:
        for one in open_ones:
            one.close()


def _copy(here: Qmp, keys: Path, uri: str, counter: Counter) -> tuple[float, float]:
    here.prepare(keys, "client")
    begin = monotonic()
    here.do("migrate", uri=uri)
    eventually(
        lambda: here.do("query-migrate")["status"] in ("completed", "failed"),
        "the copy of a bare QEMU", within=_LIMIT_S,
    )  # fmt: skip
    total = monotonic() - begin
    assert here.do("query-migrate")["status"] == "completed"
    counter.wait(200, within=10)
    assert counter.unbroken
    return total, counter.gap(begin)
