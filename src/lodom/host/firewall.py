"""What on this host drops the frames that a bridge forwards, and how to let them pass.

Two traps, both common on hosts with Docker: ``bridge-nf-call-iptables`` sends bridged frames
through the rules for routed packets, and a FORWARD chain there drops what it does not know.
"""

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ANSWER_S = 5.0
_CALLS = {"ip": "bridge-nf-call-iptables", "ip6": "bridge-nf-call-ip6tables"}
_HOW = {"drop": "drops", "reject": "rejects"}


@dataclass(frozen=True)
class Chain:
    """A chain that every forwarded packet of *family* goes through, and that ends in a no."""

    family: str
    """As nft names it: ``ip``, ``ip6``, ``inet``, ``bridge``."""
    name: str
    """Table and chain, as a person knows them."""
    how: str = "drops"


@dataclass(frozen=True)
class Firewall:
    """What was read of the host."""

    calls: frozenset[str] = frozenset()
    """Of ``ip`` and ``ip6``: whose rules a bridged frame is put through."""
    chains: tuple[Chain, ...] = ()
    docker: bool = False
    """There is a chain DOCKER-USER, which Docker leaves to the administrator."""
    unknown: str = ""
    """What could not be read, and why."""


@dataclass(frozen=True)
class Trap:
    """One reason why guests may not reach the wire."""

    found: str
    remedy: str


def traps(firewall: Firewall) -> tuple[Trap, ...]:
    """Which of the chains a bridged frame really meets."""
    found = []
    for chain in firewall.chains:
        if chain.family == "bridge":
            remedy = f"accept the guests' frames in {chain.name}"
            found.append(Trap(f"{chain.name} {chain.how} bridged frames", remedy))
            continue
        families = ("ip", "ip6") if chain.family == "inet" else (chain.family,)
        calls = [_CALLS[f] for f in families if f in firewall.calls]
        if calls:
            keys = " and ".join(calls)
            what = (
                f"{chain.name} {chain.how} forwarded packets, and bridged frames meet it ({keys})"
            )
            found.append(Trap(what, _remedy(calls, firewall)))
    return tuple(found)


def _remedy(calls: Sequence[str], firewall: Firewall) -> str:
    off = " ".join(f"net.bridge.{call}=0" for call in calls)
    chain = "DOCKER-USER" if firewall.docker else "FORWARD"
    program = "iptables" if calls[0] == _CALLS["ip"] else "ip6tables"
    return (
        f"sysctl {off} (and in /etc/sysctl.d), or, where the host filters its own bridges: "
        f"{program} -I {chain} -m physdev --physdev-is-bridged -j ACCEPT"
    )


# -- reading ------------------------------------------------------------------------------------


async def read(root: Path = Path("/")) -> Firewall:
    """The firewall of the network namespace that the caller is in.  Changes nothing."""
    calls = set()
    for family, key in _CALLS.items():
        with suppress(OSError):
            if (root / "proc/sys/net/bridge" / key).read_text().strip() != "0":
                calls.add(family)
    rules, unknown = await _nft()
    chains, docker = nft_chains(rules)
    for family, program, names in (
        ("ip", "iptables-legacy", "ip_tables_names"),
        ("ip6", "ip6tables-legacy", "ip6_tables_names"),
    ):
        # The program would make the table, and load its module, where there is none.
        tables = ""
        with suppress(OSError):
            tables = (root / "proc/net" / names).read_text()
        if "filter" in tables.split():
            text, why = await _output(program, "-S")
            more, legacy_docker = legacy_chains(family, program, text)
            chains, docker, unknown = (*chains, *more), docker or legacy_docker, unknown or why
    return Firewall(frozenset(calls), chains, docker, unknown)


def nft_chains(rules: Sequence[Mapping[str, Any]]) -> tuple[tuple[Chain, ...], bool]:
    """(forward chains that end in a no, whether Docker is there) in ``nft -j list ruleset``."""
    chains = [item["chain"] for item in rules if "chain" in item]
    last = {_chain(r["rule"]): r["rule"].get("expr", []) for r in rules if "rule" in r}
    found = []
    for chain in chains:
        family = chain["family"]
        if chain.get("hook") != "forward" or family not in ("ip", "ip6", "inet", "bridge"):
            continue
        name = f"nftables {family} {chain['table']} {chain['name']}"
        end = _end(last.get((family, chain["table"], chain["name"]), []))
        if end or chain.get("policy") == "drop":
            found.append(Chain(family, name, _HOW[end or "drop"]))
    return tuple(found), any(c["name"] == "DOCKER-USER" for c in chains)


def _chain(rule: Mapping[str, Any]) -> tuple[str, str, str]:
    return rule["family"], rule["table"], rule["chain"]


def _end(expressions: Sequence[Mapping[str, Any]]) -> str:
    """``drop`` or ``reject`` for a rule that says it of every packet."""
    said = [next(iter(e)) for e in expressions if "counter" not in e and "log" not in e]
    return said[0] if len(said) == 1 and said[0] in _HOW else ""


def legacy_chains(family: str, program: str, text: str) -> tuple[tuple[Chain, ...], bool]:
    """The same of ``iptables-legacy -S``."""
    lines = text.splitlines()
    dropped = (Chain(family, f"{program} FORWARD"),) if "-P FORWARD DROP" in lines else ()
    return dropped, "-N DOCKER-USER" in lines


async def _nft() -> tuple[list[dict[str, Any]], str]:
    text, why = await _output("nft", "-j", "list", "ruleset")
    try:
        return (json.loads(text)["nftables"] if text else []), why
    except (ValueError, KeyError):
        return [], "nft: its answer cannot be read"


async def _output(program: str, *words: str) -> tuple[str, str]:
    """(what it prints, why it cannot be known)."""
    if not shutil.which(program):
        return "", f"{program} is not installed: its rules cannot be read"
    process = await asyncio.create_subprocess_exec(
        program, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(ANSWER_S):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return "", f"{program}: no answer in {ANSWER_S:g} s"
    if process.returncode:
        return "", f"{program}: {err.decode(errors='replace').strip() or process.returncode}"
    return out.decode(errors="replace"), ""
