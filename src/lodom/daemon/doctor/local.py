"""The facts of this host, read; nothing on it is changed."""

import asyncio
import json
import os
import re
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lodom.client.http import Refused, Unreachable, call
from lodom.core.errors import InUse, InvalidValue, LodomError, NotSupported
from lodom.daemon.config import Config
from lodom.daemon.doctor import decide
from lodom.daemon.doctor.form import Check, State
from lodom.host import accelerator, firewall, hugepages, links, net, topology, uplink
from lodom.host.probe import features
from lodom.peer.trust import Trust

_PAM = Path("/etc/pam.d/lodom")


async def examine(settings: Config) -> list[Check]:
    """All checks that take only this host, in the order in which they are shown."""
    services, why = _services(settings)
    return [
        await _accelerator(settings),
        await _qemu(),
        decide.memory(_memory(settings)),
        *map(decide.feature, await features()),
        *decide.firewall(await firewall.read()),
        *await _uplinks(settings, services),
        _users(settings),
        _trust(settings),
        *_ports(settings, answers=not why),
        decide.running(settings.name, why),
    ]


async def _accelerator(settings: Config) -> Check:
    wanted = settings.host.accelerator
    program = shutil.which(accelerator.QEMU)
    if not program:
        return decide.accelerator(wanted, None, f"{accelerator.QEMU} is not installed")
    try:
        return decide.accelerator(wanted, await accelerator.judge(program), "")
    except NotSupported as error:
        return decide.accelerator(wanted, None, str(error))


async def _qemu() -> Check:
    if not shutil.which(accelerator.QEMU):
        return decide.qemu("", ())
    version = re.search(r"version (\d+(?:\.\d+)*)", await _output(accelerator.QEMU, "--version"))
    known = await _output(accelerator.QEMU, "-device", "help")
    missing = [name for name in decide.DEVICES if f'name "{name}"' not in known]
    return decide.qemu(version[1] if version else "0", missing)


async def _output(*words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    return out.decode(errors="replace")


def _memory(settings: Config) -> decide.MemoryFacts:
    machine = settings.machine("doctor")
    reserved, supported = 0, True
    if machine.backing.startswith("hugetlb"):
        try:
            reserved = hugepages.available(machine.page) * machine.page
        except NotSupported:
            supported = False
    directory = settings.memory.directory or settings.host.run_dir / "pool"
    record = directory.with_name(directory.name + ".json")
    return decide.MemoryFacts(
        wanted=sum(region.size for region in machine.regions),
        page=machine.page,
        backing=machine.backing,
        total=topology.memory_total(),
        available=topology.memory_available(),
        reserved=reserved,
        made=_ready(record),
        supported=supported,
    )


def _ready(record: Path) -> bool:
    try:
        return bool(json.loads(record.read_text()).get("ready"))
    except (OSError, ValueError):
        return False


def _services(settings: Config) -> tuple[list[Mapping[str, Any]], str]:
    """(switches of the running ldmd, why there are none to ask)."""
    try:
        answer = call("list-services", {"ldoms": []}, path=str(settings.socket))
    except (Unreachable, Refused) as error:
        return [], f"no answer at {settings.socket}: {error}"
    return [vsw for group in answer["services"] for vsw in group["vsw"]], ""


async def _uplinks(settings: Config, switches: list[Mapping[str, Any]]) -> list[Check]:
    """Each device that a switch has, or machine.toml names for one."""
    wanted = {vsw["name"]: (vsw["net_dev"], vsw["mtu"]) for vsw in switches if vsw["net_dev"]}
    for switch, net_dev in settings.network.uplinks.items():
        wanted.setdefault(switch, (net_dev, uplink.LEAST_MTU))
    return [await _uplink(settings.name, name, *how) for name, how in sorted(wanted.items())]


async def _uplink(machine: str, switch: str, net_dev: str, mtu: int) -> Check:
    name = f"switch {switch}"
    async with links.netlink("reading network devices") as ip:
        try:
            device = await links.device(ip, net_dev)
            as_is = uplink.usable_as_is(device, mtu, net.bridge_name(machine, switch))
        except (InvalidValue, InUse) as error:
            words, _, ways = str(error).partition("\n")
            remedy = "ldm set-vsw net-dev=DEVICE; ldm add-vsw says all ways out" if ways else ""
            return Check(name, State.LACK, words, remedy or error.remedy())
    if notes := uplink.notes(device):
        found, _, remedy = notes[0].partition(": ")
        return Check(name, State.LIMIT, found, remedy)
    what = "a bridge of the host, used as it is" if as_is else "a NIC without an address"
    return decide.yes(name, f"{net_dev} is {what}")


def _users(settings: Config) -> Check:
    auth = settings.auth
    file = auth.users if auth.backend == "file" else _PAM
    return decide.users(auth.backend, str(file), there=file.is_file())


def _ports(settings: Config, *, answers: bool) -> list[Check]:
    """An ldmd that answers has its ports."""
    moves = settings.migration
    wanted = [] if answers else [(moves.address, moves.port, "port in section [migration]")]
    if settings.metrics.listen and not answers:
        wanted.append((*settings.metrics.listen, "listen in section [metrics]"))
    tried = [
        decide.Port(f"TCP port {port} of {host or 'every address'}", key, refused(host, port))
        for host, port, key in wanted
    ]
    return decide.ports(tried, root=os.geteuid() == 0)


def refused(host: str, port: int) -> str:
    """Why nobody can listen there; empty if one can.  Nobody is let in meanwhile."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as trying:
            trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trying.bind((host, port))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _trust(settings: Config) -> Check:
    try:
        return decide.trust(list(Trust(settings.host.state_dir / "peers.json").peers()))
    except (OSError, ValueError, LodomError) as error:
        return decide.trust([], f"the accepted certificates cannot be read: {error}")
