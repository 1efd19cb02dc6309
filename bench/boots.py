"""Guests of four CPUs that boot under software emulation: how many come up (decision 0013).

    python bench/boots.py single|multi [--boots 80] [--at-once 3]

Each CPU's thread is bound to one host CPU, as ldmd binds it.  Needs the lab guest (guest/build.sh).
"""

import argparse
import json
import os
import socket
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from select import select
from statistics import mean
from time import monotonic

GUEST = Path(__file__).parents[1] / "build/guest"
LIMIT_S = 90.0
_CPUS = 4
_PORTS = 8


def arguments(threads: str, folder: Path) -> list[str]:
    """As ldmd builds a guest: a q35 with root ports, a disk, virtio-serial; stopped."""
    args = f"""qemu-system-x86_64 -nodefaults -no-user-config -display none -S
        -machine pc-q35-8.2,usb=off,vmport=off,graphics=off -accel tcg,thread={threads}
        -cpu Westmere-v1 -m 256M -smp {_CPUS} -qmp unix:{folder}/qmp,server=on,wait=off
        -kernel {GUEST}/vmlinuz -initrd {GUEST}/initrd
        -blockdev raw,node-name=d,file.driver=file,file.filename={folder}/disk
        -device virtio-serial-pci -device pvpanic-pci
        -serial stdio""".split()
    args += ["-append", "console=ttyS0 quiet lodom.name=ldg1 lodom.disk=1"]
    for n in range(_PORTS):
        port = f"pcie-root-port,id=p{n},chassis={n + 1},addr=4.{n},multifunction=on"
        args += ["-device", port]
    return [*args, "-device", "virtio-blk-pci,drive=d,bus=p0"]


def set_running(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Bind the CPUs' threads, then let the guest run."""
    with socket.socket(socket.AF_UNIX) as sock:
        while sock.connect_ex(f"{folder}/qmp"):
            if process.poll() is not None:
                raise SystemExit(f"QEMU ended with {process.returncode}")
        lines = sock.makefile("rw")

        def execute(command: str) -> object:
            print(json.dumps({"execute": command}), file=lines, flush=True)
            for line in lines:
                if "return" in (answer := json.loads(line)):
                    return answer["return"]
            raise SystemExit("QEMU hung up")

        execute("qmp_capabilities")
        cpus = sorted(os.sched_getaffinity(0))
        found = execute("query-cpus-fast")
        assert isinstance(found, list)
        for cpu in found:
            turn = (cpu["cpu-index"] + process.pid) % len(cpus)
            os.sched_setaffinity(cpu["thread-id"], {cpus[turn]})
        execute("cont")


def boot(threads: str) -> float | None:
    """Seconds until the guest's shell prompts; None: it died or never did."""
    with tempfile.TemporaryDirectory(prefix="lodom-boots-") as name:
        folder = Path(name)
        with (folder / "disk").open("wb") as disk:
            disk.truncate(16 << 20)
        begin = monotonic()
        process = subprocess.Popen(
            arguments(threads, folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert process.stdout
        said = process.stdout.fileno()
        try:
            set_running(process, folder)
            text = b""
            while (left := begin + LIMIT_S - monotonic()) > 0:
                if not select([said], [], [], left)[0] or not (some := os.read(said, 4096)):
                    return None
                text += some
                if b"Enter 'help'" in text:
                    return monotonic() - begin
            return None
        finally:
            process.kill()
            process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description="How many emulated guests come up.")
    parser.add_argument("threads", choices=["single", "multi"])
    parser.add_argument("--boots", type=int, default=80)
    parser.add_argument("--at-once", type=int, default=3)
    asked = parser.parse_args()
    with ThreadPoolExecutor(asked.at_once) as pool:
        ends = list(pool.map(boot, [asked.threads] * asked.boots))
    up = [seconds for seconds in ends if seconds is not None]
    took = f", {mean(up):.1f} s each" if up else ""
    print(f"{asked.threads}: {len(up)} of {len(ends)} came up{took}")


if __name__ == "__main__":
    main()
