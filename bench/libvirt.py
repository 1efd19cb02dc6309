"""The same guest moved by Lodom and by libvirt, side by side in one run.

    python bench/libvirt.py [--rounds N] [--vcpus N] [--rules 3.x] [--out FILE]

Needs root, debootstrap and a Debian mirror the first time.  Two bare Debian hosts as in
tests/install, both managers on each, one at a time with a guest.  A round is a hop to beta and one
back for each series.  All is measured from outside, on the guests' network and by the clock; no
manager is asked.  What is not equal between the two is ``NOT_EQUAL``, printed below the table.

QEMU emulates with one thread for all of a guest's CPUs under both managers: before QEMU 10.1 a
thread each, which is what libvirt asks for, kills it now and then (docs/decisions/0013).
libvirt cannot be told, so its emulator is a wrapper that adds the words.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Final

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/install"))

from hosts import HOSTS, Site, made  # noqa: E402
from managers import DISK_MB, MEMORY_MB, Guest, Libvirt, Lodom, Manager  # noqa: E402

from lodom.lab.watch import Counter, Heartbeats, Status  # noqa: E402

OUT = ROOT / "build/bench-libvirt.json"
GUEST = ROOT / "build/guest"
DIRTY: Final = "100 48"
"""MiB a second over a working set of MiB."""
BOOT_S, MOVE_S = 60.0, 90.0
PACKAGES = ("qemu-system-x86", "libvirt-daemon", "libgnutls30", "python3")

NOT_EQUAL: Final = (
    "Lodom ({rules}) {strands}; libvirt leaves all CPUs running.",
    "Lodom sends by 3 streams and slows a guest that dirties too fast; libvirt does neither unless "
    "told to: 'libvirt, tuned' is told both.",
    "Lodom's target checks a password by PAM and judges all rules, and each step of the hand-over "
    "is durable before the next; libvirt trusts the other host's certificate.",
    "Lodom: memory in a tmpfs file that is there before the guest, TLS by a key for one migration. "
    "libvirt: memory allocated while it is filled, TLS by certificates (RSA, 2048 bits).",
    "Lodom's guest could have 8 CPUs and has 4 idle PCI ports; libvirt's has what it needs.",
    "Lodom binds the guest's thread to host CPUs and uses a cgroup; libvirt here neither, and no "
    "mount namespace, security module or log daemon of its own: in libvirt's favour.",
    "libvirt's QEMU starts through a wrapper in bash: some milliseconds.",
)
STRANDS: Final = {
    "1.2": "takes the guest down to one strand before the copy and brings the others back after it",
    "3.x": "keeps all strands during the copy",
}


@dataclass(frozen=True)
class Series:
    """One line of the table."""

    name: str
    manager: Manager
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hop:
    """One move as seen from outside: how long it took, the longest gap and when it began.

    ``missing``: numbers of the counter that did not come; ``backwards``: that were not greater.
    ``again``: heartbeats, which are datagrams, that were heard twice or late.  A network may do
    that to a few; a second running copy would to hundreds.
    """

    series: str
    source: str
    target: str
    seconds: float
    gap: float
    gap_at: float
    unbroken: bool
    missing: int
    backwards: int
    again: int
    load: float

    @property
    def sound(self) -> bool:
        """Every number came, once."""
        return self.unbroken and not self.missing


@contextmanager
def _site() -> Iterator[Site]:
    if os.geteuid() != 0 or not (GUEST / "initrd").exists():
        sys.exit("Needs root and the lab guest: guest/build.sh, then this again.")
    try:
        made("host", "libvirt", "wheels")
    except pytest.skip.Exception as lacks:
        sys.exit(f"bench/libvirt.py {lacks}")
    with TemporaryDirectory() as folder:
        (Path(folder) / "site").mkdir()
        site = Site(Path(folder) / "site", "libvirt:host")
        try:
            for name in ("vmlinuz", "initrd"):
                shutil.copy(GUEST / name, site.shared)
            yield site
        finally:
            site.close()


class Bench:
    """Both managers, their guests, and who watches."""

    def __init__(self, site: Site, vcpus: int, rules: str, beats: Heartbeats, space: str) -> None:
        self._site, self._beats, self._space = site, beats, space
        guests = [Guest(n, f"198.51.100.{11 + i}", vcpus) for i, n in enumerate(("ours", "theirs"))]
        for guest in guests:
            os.truncate(_touched(site.shared / Path(guest.disk).name), DISK_MB << 20)
        lodom = Lodom(site, guests[0], rules)
        libvirt = Libvirt(site, guests[1])
        self.series = [
            Series("Lodom", lodom),
            Series("libvirt", libvirt),
            Series(
                "libvirt, tuned", libvirt,
                ("--auto-converge", "--parallel", "--parallel-connections 3"),
            ),
        ]  # fmt: skip

    def visit(self, series: Series) -> list[Hop]:
        """Start the guest, move it there and back under load, end it."""
        manager, name = series.manager, series.manager.guest.name
        known = self._beats.boots(name)
        manager.start()
        self._beats.first(name, within=BOOT_S, unlike=known[-1] if known else "")
        ways = list(HOSTS), list(reversed(HOSTS))
        hops = [self._hop(series, *way) for way in ways]
        manager.stop(self._site.hosts["alpha"])
        return hops

    def _hop(self, series: Series, source: str, target: str) -> Hop:
        name, address = series.manager.guest.name, series.manager.guest.address
        status = Status(address, self._space)
        host = self._site.hosts[source]
        line = series.manager.move(target, *series.options)
        with Counter(address, self._space) as counter:
            assert status.say(f"dirty {DIRTY}") == "ok"
            counter.wait(400, within=20)
            load, again, began = os.getloadavg()[0], self._beats.repeated(name), monotonic()
            ended = host.tried(line, within=MOVE_S)
            seconds = monotonic() - began
            assert ended.code == 0, f"{source}# {line}\n{ended.said}"
            counter.wait(200, within=20)
            assert status.say("dirty 0") == "ok"
            silent, gap = counter.silence(began)
            return Hop(
                series.name, source, target, seconds, gap, silent - began, counter.unbroken,
                counter.missing, counter.backwards, self._beats.repeated(name) - again, load,
            )  # fmt: skip


def _touched(path: Path) -> Path:
    path.touch()
    return path


def _versions(site: Site) -> dict[str, str]:
    alpha = site.hosts["alpha"]
    said = alpha.run(f"dpkg-query -W -f '${{Package}} ${{Version}}\\n' {' '.join(PACKAGES)}")
    found = dict(line.split() for line in said.splitlines())
    image = (GUEST / "vmlinuz").read_bytes()[:0x8000]
    begin = 0x200 + int.from_bytes(image[0x20E:0x210], "little")  # Linux, boot.rst: kernel_version
    return {
        "Lodom": alpha.run("ldm -V").split("(v ")[1].split(")")[0],
        "Lodom, commit": subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        ).stdout.strip(),
        **found,
        "Debian of the hosts": alpha.run("cat /etc/debian_version").strip(),
        "guest": image[begin:].split(b" ")[0].decode(),
        "kernel of this machine": platform.release(),
    }  # fmt: skip


def summary(hops: list[Hop]) -> dict[str, dict[str, float]]:
    """Figures of each series, and its share of what libvirt takes."""
    told: dict[str, dict[str, float]] = {}
    for name in sorted({h.series for h in hops}):
        mine = [h for h in hops if h.series == name]
        told[name] = {"hops": len(mine), "sound": sum(h.sound for h in mine)}
        told[name]["again"] = sum(h.again for h in mine)
        for what in ("seconds", "gap"):
            values = [getattr(h, what) for h in mine]
            told[name] |= {f"{what}, median": median(values), f"{what}, worst": max(values)}
    ours = told.get("Lodom", {})
    for name, theirs in list(told.items()):
        if name != "Lodom":
            keys = ("seconds, median", "gap, median")
            told[f"Lodom / {name}"] = {k: ours[k] / theirs[k] for k in keys if ours}
    return told


def table(told: dict[str, dict[str, float]]) -> str:
    """One line a series, then the ratios.

    ``whole``: hops of which every number came once; ``again``: see ``Hop``.
    """
    head = ("move, s", "worst", "gap, s", "worst", "hops", "whole", "again")
    lines = [" " * 24 + "".join(f"{word:>9}" for word in head)]
    columns = ("seconds, median", "seconds, worst", "gap, median", "gap, worst")
    for name, row in told.items():
        cells = [f"{row[c]:9.2f}" if c in row else " " * 9 for c in columns]
        cells += [f"{row[c]:9.0f}" for c in ("hops", "sound", "again") if c in row]
        lines.append(f"{name:24}{''.join(cells)}".rstrip())
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Moves by Lodom and by libvirt.")
    parser.add_argument("--rounds", type=int, default=3, help="two hops of each series a round (3)")
    parser.add_argument("--vcpus", type=int, default=3, help="of the guest (3)")
    parser.add_argument("--rules", choices=STRANDS, default="1.2", help="Lodom's (1.2)")
    parser.add_argument("--out", type=Path, default=OUT, help="the file")
    asked = parser.parse_args()
    hops: list[Hop] = []
    unequal = [n.format(rules=asked.rules, strands=STRANDS[asked.rules]) for n in NOT_EQUAL]
    with _site() as site, redirect_stdout(sys.stderr):
        space = f"/proc/{site.wire.pid}/ns/net"
        with Heartbeats(space) as beats:
            bench = Bench(site, asked.vcpus, asked.rules, beats, space)
            written = {
                "versions": _versions(site),
                "conditions": {
                    "memory, MiB": MEMORY_MB, "vcpus": asked.vcpus, "dirty": DIRTY,
                    "cpus of this machine": os.cpu_count(), "rules": asked.rules,
                },
                "not equal": unequal,
            }  # fmt: skip
            for series in bench.series[:2]:  # each manager once: what is read or probed first
                bench.visit(series)
            for turn in range(asked.rounds):
                # Who begins changes: the load of the machine does, too.
                for i in range(len(bench.series)):
                    hops += bench.visit(bench.series[(turn + i) % len(bench.series)])
                told = summary(hops)
                full = {**written, "summary": told, "hops": [asdict(h) for h in hops]}
                asked.out.write_text(json.dumps(full, indent=1) + "\n")
    versions = "\n".join(f"{name}: {v}" for name, v in full["versions"].items())
    loads = sorted(h.load for h in hops)
    print(f"{versions}\nload of {os.cpu_count()} CPUs: {loads[0]:.1f} to {loads[-1]:.1f}")
    print(f"\n{table(told)}\n\nNot equal:")
    print("\n".join(f"- {line}" for line in unequal) + f"\nWritten to {asked.out}.")
    return 0 if all(h.sound for h in hops) else 1


if __name__ == "__main__":
    sys.exit(main())
