"""Facts of the hosts that a migration can fail on: another QEMU, firmware, file system.

A second release of QEMU is nowhere to be had on one host.  What takes its place is QEMU with other
answers to the questions that ldmd asks it at its start (``other_qemu.py``).
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from facts_means import DISK, VDS, A, B, Pair, bound, configured, file_of, removed, restarted, row

from lodom.lab.lab import ROOT
from lodom.lab.watch import Heartbeats

QEMU, BIOS = "qemu-system-x86_64", "bios-256k.bin"
STAND_IN: Final = Path(__file__).with_name("other_qemu.py")
UNBUFFERED: Final = ROOT / "ramfs"


@cache
def said(*words: str) -> list[str]:
    """The words that this host's QEMU answers; none where there is no QEMU."""
    if not shutil.which(QEMU):
        return []
    done = subprocess.run([QEMU, *words], check=True, capture_output=True, text=True)
    return done.stdout.split()


def version() -> str:
    """Release of this host's QEMU."""
    return next((word for word in said("--version") if word[0].isdigit()), "")


def digest(content: bytes) -> str:
    """As the rule tells two builds apart."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def firmware() -> bytes:
    """This host's firmware for PCs."""
    places = (Path(folder) / BIOS for folder in said("-L", "help"))
    return next((place.read_bytes() for place in places if place.is_file()), b"")


@contextmanager
def another(p: Pair, *words: tuple[str, str], folders: str = "") -> Iterator[None]:
    """The target's ldmd finds another QEMU in its PATH."""
    script, before = p.folder / "bin" / QEMU, os.environ["PATH"]
    script.parent.mkdir(exist_ok=True)
    edits = json.dumps({"folders": folders, "words": words})
    command = [sys.executable, str(STAND_IN), str(shutil.which(QEMU)), edits]
    script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    script.chmod(0o755)
    os.environ["PATH"] = f"{script.parent}:{before}"
    try:
        restarted(p.b)
        yield
    finally:
        os.environ["PATH"] = before
        restarted(p.b)


def release(text: str) -> tuple[str, str]:
    """The words that make QEMU say it is of that release."""
    major, minor, micro = text.split(".")
    numbers = f'"qemu": {{"micro": {micro}, "minor": {minor}, "major": {major}}}'
    return r'"qemu": \{[^}]*\}', numbers


@row("L08", f"LDom ldg1 needs machine type pc-q35-8.2, which {B} (QEMU 99.0.0) does not have")
def it_has_forgotten_the_machine_type(p: Pair) -> Iterator[None]:
    with another(p, release("99.0.0"), (r"pc-q35-8\.2", "pc-q35-99.0")):
        yield


@row("L15", f"{B} has QEMU 8.2.9, older than {version()} on {A}", severity="warning")
def an_older_release(p: Pair) -> Iterator[None]:
    with another(p, release("8.2.9")):
        yield


@row("L09", f"{B} lacks CPU features of {A}: sse4.1, sse4.2")
def its_cpus_lack_something(p: Pair) -> Iterator[None]:
    with another(p, (r'"(sse4\.[12])": true', r'"\1": false')):
        yield


@row("L10", f"CPU model max of LDom ldg2 means different CPUs on {A} and {B}", ldom="ldg2")
def its_cpus_have_more(p: Pair) -> Iterator[None]:
    with another(p, ('"avx512f": false', '"avx512f": true')), bound(p.a, "ldg2"):
        p.a.ldm("set-variable", "cpu-model=max", "ldg2")
        p.a.ldm("start-domain", "ldg2")
        yield


@row("L11", f"{A} runs guests under tcg, {B} under kvm")
def it_has_kvm(p: Pair) -> Iterator[None]:
    with another(p), configured(p.b, "^frequency", 'accelerator = "kvm"\nfrequency'):
        yield


@row("L12", f"Firmware bios differs: {digest(firmware())} on {A}, {digest(b'other')} on {B}")
def another_firmware(p: Pair) -> Iterator[None]:
    (p.folder / BIOS).write_bytes(b"other")
    with another(p, folders=str(p.folder)):
        yield


@row("L12", f"{B} has no firmware bios")
def no_firmware(p: Pair) -> Iterator[None]:
    with another(p, folders="/nowhere"):
        yield


@row(
    "L16",
    f"Volume ldg3@{VDS} of disk vdisk0 goes through the page cache of {A} and {B}",
    ldom="ldg3",
    severity="warning",
)
def a_volume_that_is_only_cache(p: Pair) -> Iterator[None]:
    UNBUFFERED.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "none", UNBUFFERED], check=True)
    try:
        volume = file_of(UNBUFFERED / "ldg3.img", DISK)
        made = p.world.domain("ldg3")
        for machine in (p.a, p.b):
            machine.ldm("add-vdsdev", str(volume), f"ldg3@{VDS}")
        p.a.ldm("add-vdisk", "vdisk0", f"ldg3@{VDS}", "ldg3")
        with Heartbeats() as beats:
            made.start(beats)
        yield
    finally:
        removed(p.a, "ldg3")
        for machine in (p.a, p.b):
            machine.tried("remove-vdsdev", f"ldg3@{VDS}")
        subprocess.run(["umount", UNBUFFERED], check=True)
        UNBUFFERED.rmdir()
