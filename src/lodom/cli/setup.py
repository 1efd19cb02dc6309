"""``ldm-setup``: the first steps on a machine, and trust between machines.

Every change is an ``ldm`` command that is shown before it is run, as the 1.2 guide would have it
typed: services of the control domain, then its share of crypto units, strands and memory.
"""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lodom.cli.main import guarded, run
from lodom.cli.terminal import agreed, interactive
from lodom.client.http import call
from lodom.core.errors import InvalidValue
from lodom.core.units import MIB, format_size, round_up

SHARE = 4
"""The control domain is offered a quarter of the machine."""
GRAIN = 256 * MIB
"""Its memory is offered in multiples of this."""

STOP_S = 120
"""A guest has this long to shut down before it is ended."""
TASKS = ("trust", "fingerprint", "stop-guests", "start-guests", "import-libvirt", "guest")

Document = Mapping[str, Any]


def main() -> None:
    """The entry point of the program."""
    sys.exit(setup(sys.argv[1:]))


def setup(argv: Sequence[str]) -> int:
    """The exit code of ``ldm-setup`` with *argv*."""
    options = _parser().parse_args(argv)
    match options.task:
        case "trust":
            return guarded(lambda: _trust(options.host, options.fingerprint))
        case "fingerprint":
            return guarded(_fingerprint)
        case "stop-guests":
            return guarded(lambda: _stop_guests(options.timeout))
        case "start-guests":
            return guarded(_start_guests)
        case "import-libvirt":
            return guarded(lambda: _import(options))
        case "guest":
            return guarded(lambda: _guest(options))
    return guarded(lambda: _first_steps(yes=options.yes, net_dev=options.net_dev))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ldm-setup", description="Set a machine up for domains.")
    parser.add_argument("--yes", action="store_true", help="run the proposal without asking")
    parser.add_argument("--net-dev", default="", help="network device of the first switch")
    tasks = parser.add_subparsers(dest="task", metavar=" | ".join(TASKS))
    trust = tasks.add_parser("trust", help="accept the certificate of another machine")
    trust.add_argument("host")
    trust.add_argument("--fingerprint", default="", help="accept only this one, without asking")
    tasks.add_parser("fingerprint", help="show the fingerprint of this machine's certificate")
    stop = tasks.add_parser("stop-guests", help="stop all guests because the host goes down")
    stop.add_argument("--timeout", type=seconds, default=STOP_S, help="seconds, default 120")
    tasks.add_parser("start-guests", help="start what stop-guests stopped")
    take = tasks.add_parser("import-libvirt", help="show how a libvirt domain becomes ours")
    take.add_argument("file", type=Path, help="what virsh dumpxml NAME printed")
    take.add_argument("--name", default="", help="another name for the domain")
    new = tasks.add_parser("guest", help="define a domain with given images")
    new.add_argument("name")
    new.add_argument("--disk", action="append", default=[], help="an image, in the order of disks")
    new.add_argument("--cd", action="append", default=[], help="an image that is only read")
    new.add_argument("--vcpu", type=int, default=1, help="default 1")
    new.add_argument("--memory", default="1G", help="default 1G")
    new.add_argument("--firmware", default="", help="bios or uefi")
    new.add_argument("--exports", action="store_true", help="only the volumes: for the target")
    for task in (take, new):
        task.add_argument("--switch", default="primary-vsw0", help="of its network devices")
        task.add_argument("--service", default="primary-vds0", help="disk server of its volumes")
        task.add_argument("--yes", action="store_true", default=argparse.SUPPRESS, help="do it")
    return parser


# -- trust --------------------------------------------------------------------------------------


def seconds(text: str) -> int:
    """A whole number of seconds; ``ValueError`` for anything else."""
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _fingerprint() -> int:
    print(call("show-fingerprint", {})["fingerprint"])
    return 0


def _trust(host: str, fingerprint: str) -> int:
    """Ask ldmd what *host* shows, have it compared by the user, and have it kept."""
    if not fingerprint:
        shown = call("trust-peer", {"host": host})["fingerprint"]
        own = call("show-fingerprint", {})["fingerprint"]
        print(f"The certificate of {host} is\n{shown}\nand that of this machine\n{own}")
        print("Compare both: ldm-setup fingerprint, run there and here.")
        if not interactive():
            print(f"To accept it: ldm-setup trust {host} --fingerprint {shown}", file=sys.stderr)
            return 1
        if not agreed("Accept this certificate?"):
            return 1
        fingerprint = shown
    call("trust-peer", {"host": host, "fingerprint": fingerprint})
    return 0


# -- the host goes down -------------------------------------------------------------------------


def _stop_guests(timeout: int) -> int:
    """Every guest is asked at once; ends when all are down, after *timeout* seconds by force."""

    def held(progress: Document) -> None:
        for name in progress.get("held", ()):
            print(f"LDom {name} is left alone: a migration holds it", file=sys.stderr)

    call("stop-guests", {"timeout": timeout}, progress=held)
    return 0


def _start_guests() -> int:
    call("start-guests", {})
    return 0


# -- first steps --------------------------------------------------------------------------------


def _import(options: argparse.Namespace) -> int:
    """Say what becomes of a libvirt domain; with consent run the commands."""
    from lodom.cli.libvirt import MOST, report, translate

    try:
        with options.file.open("rb") as file:
            text = file.read(MOST + 1)
    except OSError as error:
        why = error.strerror or str(error)
        raise InvalidValue(what="file", value=str(options.file), why=why) from error
    plan = translate(text, name=options.name, switch=options.switch, service=options.service)
    for line in report(plan):
        print(line)
    again = ["import-libvirt", "--yes", "--name", plan.name, "--switch", options.switch]
    again += ["--service", options.service, str(options.file)]
    return _carry_out(plan.commands, yes=options.yes, again=shlex.join(again), whole=True)


def _guest(options: argparse.Namespace) -> int:
    from lodom.cli.guest import Wanted, commands, exports

    wanted = Wanted(
        options.name, options.vcpu, options.memory, options.disk, options.cd, options.switch,
        options.service, options.firmware,
    )  # fmt: skip
    make = exports if options.exports else commands
    again = "the same words, and --yes"
    return _carry_out(make(wanted), yes=options.yes, again=again, whole=True)


def _first_steps(*, yes: bool, net_dev: str) -> int:
    services = call("list-services", {"ldoms": []})["services"]
    devices = call("list-devices", {"all": True, "devices": []})
    (primary,) = call("list-domain", {"ldoms": ["primary"]})["domains"]
    pending = "d" in primary["flags"]
    commands = proposal(services, devices, net_dev=net_dev, pending=pending)
    if pending:
        print("The control domain's new share waits for the next boot of this host (flag d).")
    elif not commands:
        print("This machine is set up: services exist, and strands and memory are free.")
    return _carry_out(commands, yes=yes, again="--yes") if commands else 0


def _carry_out(commands: Sequence[list[str]], *, yes: bool, again: str, whole: bool = False) -> int:
    """Show the commands and, with consent, run them up to the first that fails.

    *whole*: those before it are taken back then, so that the same can be tried again.
    """
    for words in commands:
        print("# ldm " + shlex.join(words))
    if not yes:
        if not interactive():
            print(f"To run these commands: ldm-setup {again}", file=sys.stderr)
            return 1
        if not agreed("Run these commands?"):
            return 1
    for number, words in enumerate(commands):
        if code := run(words):
            if whole:
                _take_back(commands[:number])
            return code
    return 0


def _take_back(done: Sequence[list[str]]) -> None:
    """Remove what *done* has added; the domain first, as it uses the volumes."""
    undo = [["remove-domain", words[-1]] for words in done if words[0] == "add-domain"]
    undo += [["remove-vdsdev", words[-1]] for words in reversed(done) if words[0] == "add-vdsdev"]
    left = [shlex.join(words) for words in undo if run(words)]
    for words in left:
        print(f"Still to be done: ldm {words}", file=sys.stderr)
    if not left:
        print("Nothing of it was kept.", file=sys.stderr)


def proposal(
    services: Sequence[Document], devices: Document, *, net_dev: str = "", pending: bool = False
) -> list[list[str]]:
    """The commands that are still to be run, as words behind ``ldm``.

    Services that exist are left alone; the control domain's share is proposed only while nothing
    is free for others and no delayed reconfiguration is *pending*.  The order is the guide's:
    crypto units before strands, strands before memory.
    """
    have = {kind for group in services for kind in ("vcc", "vsw", "vds") if group[kind]}
    commands = []
    if "vds" not in have:
        commands.append(["add-vds", "primary-vds0", "primary"])
    if "vcc" not in have:
        commands.append(["add-vcc", "port-range=5000-5100", "primary-vcc0", "primary"])
    if "vsw" not in have:
        uplink = [f"net-dev={net_dev}"] if net_dev else []
        commands.append(["add-vsw", *uplink, "primary-vsw0", "primary"])
    return commands if pending else [*commands, *_share(devices)]


def _share(devices: Document) -> list[list[str]]:
    strands, units = devices["vcpu"], devices["mau"]
    kept = first_cores(strands)
    keep, commands = len(kept), []
    own = [unit for unit in units if kept.issuperset(unit["cpuset"])]
    if units and all(unit["bound"] == "primary" for unit in units) and len(own) < len(units):
        commands.append(["set-mau", str(len(own)), "primary"])
    if keep < len(strands) and all(s["bound"] == "primary" for s in strands):
        commands.append(["set-vcpu", str(keep), "primary"])
    size = sum(block["size"] for block in devices["memory"])
    quarter = round_up(size // SHARE, GRAIN)
    if quarter < size and all(block["bound"] == "primary" for block in devices["memory"]):
        commands.append(["set-memory", format_size(quarter), "primary"])
    return commands


def first_cores(strands: Sequence[Document]) -> set[int]:
    """The strands of the lowest cores that make up a quarter of all.

    By core: a host may number the second threads of its cores behind the first ones of all.
    """
    wanted, kept = -(-len(strands) // SHARE), set[int]()
    for core in sorted({strand["core"] for strand in strands}):
        if len(kept) < wanted:
            kept.update(strand["pid"] for strand in strands if strand["core"] == core)
    return kept
