"""The form of what the doctor says, for people and for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

VERSION = 1
"""Of the JSON document; a field that goes or changes its meaning makes it the next."""


class State(StrEnum):
    """How a check ended; ``STATES`` says what each means."""

    OK = "ok"
    LIMIT = "limit"
    LACK = "lack"
    UNKNOWN = "unknown"


STATES = {
    State.OK: "everything is there",
    State.LIMIT: "Lodom works without; a command that needs it says so",
    State.LACK: "something that Lodom needs is missing or in its way",
    State.UNKNOWN: "it could not be found out",
}

FIELDS = {
    "version": f"of this form: {VERSION}; another one when a field goes or changes its meaning",
    "machine": "name of this machine",
    "peer": "HOST of `--peer`, or empty",
    "lacks": "how many checks are `lack`",
    "checks": "list of objects in the order in which they were made",
    "checks[].name": "one of the names below, which stay",
    "checks[].state": "one of the states above",
    "checks[].found": "for people, as is the remedy: its words may change",
    "checks[].remedy": "what to do; empty where nothing need be done",
}
"""The JSON document."""


@dataclass(frozen=True)
class Check:
    """One check: what was found, and what to do where *state* is not ``ok``; a line each."""

    name: str
    state: State
    found: str
    remedy: str = ""


CHECKS = {
    "accelerator": "a tiny guest is booted, under KVM and in software emulation",
    "QEMU": "version, and the devices that domains are made of",
    "memory": "what machine.toml promises against free memory and free huge pages",
    "VLAN filtering": "bridges can tell VLANs apart",
    "802.1Q": "VLAN devices can be made",
    "taps": "guests can have network devices",
    "VFIO": "a real device can be given to a guest",
    "huge pages": "the sizes that the kernel has",
    "control groups": "each guest can have a group of its own",
    "firewall": "chains that would drop the frames of guests; one check each",
    "switch NAME": "the uplink of each switch of the running ldmd and of machine.toml",
    "passwords": "what checks the passwords of incoming migrations",
    "trust": "machines whose certificates were accepted",
    "ports": "while ldmd does not answer: that it could listen; one check each that it could not",
    "ldmd": "whether ldmd runs here",
    "peer": "the other machine answers; only with --peer, as all below",
    "peer trust": "each has accepted the certificate of the other; else only a connection is tried",
    "from peer": "the other machine reaches the ldmd of this one",
    "memory out": "memory can go to the other machine",
    "memory in": "memory can come from it",
    "clock": "the difference of the clocks",
    "volumes": "that no volume is exported here",
    "volume VOLUME@SERVICE": "whether the other machine has the same storage under that name",
}
"""Every check by its name; a name stays."""

EXITS = {
    0: "nothing lacks: each check ended `ok`, `limit` or `unknown`",
    1: "at least one `lack`",
    2: "the command line or machine.toml cannot be used; nothing was checked",
}
"""Exit codes of ``ldmd --doctor``."""


def exit_code(checks: Sequence[Check]) -> int:
    """One of ``EXITS``."""
    return int(any(check.state is State.LACK for check in checks))


def text(checks: Sequence[Check]) -> str:
    """A line for each check, a second one with the remedy."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.state:7}  {check.name:{width}}  {_line(check.found)}")
        if check.remedy:
            lines.append(f"{'':7}  {'':{width}}  remedy: {_line(check.remedy)}")
    counts = [f"{sum(c.state is state for c in checks)} {state}" for state in State]
    return "\n".join([*lines, ", ".join(counts)])


def document(checks: Sequence[Check], *, machine: str, peer: str = "") -> str:
    """The same as JSON; its fields are told in docs/reference/doctor.md."""
    return json.dumps(
        {
            "version": VERSION,
            "machine": machine,
            "peer": peer,
            "lacks": sum(check.state is State.LACK for check in checks),
            "checks": [asdict(check) for check in checks],
        },
        indent=1,
    )


def _line(words: str) -> str:
    return " ".join(words.split())
