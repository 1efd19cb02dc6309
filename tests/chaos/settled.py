"""Whether the world has come to rest, and rests as it should."""

import re
import time
from contextlib import suppress

from arena import FREE, GUEST, OTHER, STRANDS, VCPUS, Arena
from machines import Machine

BEAT_S = 1.5
"""A running guest was heard within this time; the beats come each 5 ms."""


def unsettled(arena: Arena, *, may_be_off: bool = False) -> str:
    """What is not as it should be; empty when all is at rest."""
    with suppress(AssertionError, OSError):
        return _unsettled(arena, may_be_off)
    return "an ldmd or the guest does not answer"


def _unsettled(arena: Arena, may_be_off: bool) -> str:
    names = {m: set(m.names()) - {"primary"} for m in arena.machines}
    for name in (GUEST, OTHER):
        homes = [m.name for m in arena.machines if name in names[m]]
        if len(homes) != 1:
            return f"{name} is listed on {homes or 'no machine'}"
    home = next(m for m in arena.machines if GUEST in names[m])
    running = not (may_be_off and home.row(GUEST)["state"] == "bound")
    if why := _guest(arena, home) if running else _off(home):
        return why
    for machine in arena.machines:
        if why := _inventory(arena, machine, names[machine], running and machine is home):
            return why
    return ""


def _guest(arena: Arena, home: Machine) -> str:
    row = home.row(GUEST)
    if (row["state"], row["flags"]) != ("active", "-n----"):
        return f"{GUEST} is {row['state']} {row['flags']} on {home.name}"
    beat = arena.wire.last(time.time() - BEAT_S)
    if beat is None:
        return f"{GUEST} is not heard"
    if arena.machines[beat.machine] is not home:
        return f"{GUEST} is heard from the machine that does not list it"
    if (cpus := arena.status.read()["cpus"]) != VCPUS:
        return f"{GUEST} runs on {cpus} CPUs, not {VCPUS}"
    return ""


def _off(home: Machine) -> str:
    row = home.row(GUEST)
    return "" if row["flags"] == "------" else f"{GUEST} is {row['state']} {row['flags']}"


def _inventory(arena: Arena, machine: Machine, names: set[str], runs: bool) -> str:
    """Nothing is held that no domain of the machine holds."""
    if len(found := arena.qemus(machine)) != runs:
        return f"{machine.name} has {len(found)} hypervisor processes, not {int(runs)}"
    if (taps := arena.taps(machine)) != runs:
        return f"{machine.name} has {taps} taps, not {int(runs)}"
    if OTHER in names and machine.row(OTHER)["flags"] != "------":
        return f"{OTHER} is {machine.row(OTHER)['flags']} on {machine.name}"
    strands = sum(len(machine.strands(n)) for n in names)
    devices = machine.ldm("list-devices", "-a", "-p")
    free, kept = devices.count("|free=100|"), _kept(devices, names)
    if free + strands + kept != STRANDS:
        return f"{machine.name} has {free} strands free, {strands} bound, {kept} kept to cores"
    held = sum(b.size for n in names for b in machine.blocks(n))
    spare = sum(b.size for b in machine.free_memory())
    if spare + held != FREE:
        return f"{machine.name} has {spare >> 20}M free, {held >> 20}M held of {FREE >> 20}M"
    if (ports := arena.consoles(machine)) != len(names):
        return f"{machine.name} has {ports} consoles for {len(names)} domains"
    shown = machine.ldm("list", "-o", "status")
    if re.search(r"^STATUS", shown, re.MULTILINE):
        return f"{machine.name} shows an operation: {shown}"
    return ""


def _kept(devices: str, names: set[str]) -> int:
    """Strands that complete the cores of a domain of full cores (R05, R08)."""
    return sum(devices.count(f"|held={name}\n") for name in names)


def wait_settled(arena: Arena, within: float, *, may_be_off: bool = False) -> str:
    """Wait for rest; what was still wrong when the time was over."""
    deadline = time.monotonic() + within
    while why := unsettled(arena, may_be_off=may_be_off):
        if time.monotonic() > deadline:
            return why
        time.sleep(0.2)
    return ""


def spoiled(arena: Arena) -> str:
    """What the guest says of its disk and memory, and what the pools say of theirs."""
    said = arena.status.read()
    disk, pattern = said["disk"], said["pattern"]
    if disk["bad"] or disk["errors"] or pattern["bad"]:
        return f"the guest found {disk['bad']} bad blocks, {pattern['bad']} bad pages"
    return next((why for m in arena.machines if (why := arena.dirty(m))), "")
