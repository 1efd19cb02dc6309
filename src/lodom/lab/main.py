"""``ldm-lab``: machines in network namespaces on one host, to try Lodom on."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from lodom.client.http import Refused, Unreachable
from lodom.core.errors import LodomError
from lodom.lab.lab import Lab, LabFault
from lodom.lab.topology import DEFAULT, load


def main() -> int:
    """Exit code 0, or 1 with one line that says why."""
    parser = argparse.ArgumentParser(prog="ldm-lab", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="start the machines")
    up.add_argument("--file", type=Path, help="topology file; default: two machines")
    verbs.add_parser("down", help="end everything, leave nothing behind")
    start = verbs.add_parser("start", help="start the ldmd of a machine again")
    start.add_argument("machine")
    ldm = verbs.add_parser("ldm", help="run ldm on a machine")
    ldm.add_argument("machine")
    ldm.add_argument("arguments", nargs=argparse.REMAINDER)
    status = verbs.add_parser("status", help="what is up")
    status.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is half made goes
    try:
        code = _do(Lab(), asked)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output has gone (ldm-lab status | head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as fault:  # no ip or tc, no room, no right
        sys.stderr.write(f"ldm-lab: {fault.filename or 'failed'}: {fault.strerror or fault}\n")
        return 1
    except (LabFault, LodomError, Refused, Unreachable) as fault:
        sys.stderr.write(f"ldm-lab: {fault}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("ldm-lab: interrupted\n")
        return 130


def _do(lab: Lab, asked: argparse.Namespace) -> int:
    if asked.verb == "ldm":
        return _ldm(lab, asked.machine, asked.arguments)
    if asked.verb == "status":
        _status(lab, as_json=asked.json)
        return 0
    if os.geteuid() != 0:
        raise LabFault("network namespaces need root")
    if asked.verb == "up":
        lab.up(load(asked.file) if asked.file else DEFAULT)
    elif asked.verb == "start":
        placed = lab.machine(asked.machine)
        if lab.pid(placed):
            raise LabFault(f"the ldmd of {asked.machine} is running")
        lab.start(placed)
    else:
        lab.down()
    return 0


def _ldm(lab: Lab, name: str, arguments: list[str]) -> int:
    from lodom.cli.main import run as ldm

    os.environ["LODOM_SOCKET"] = str(lab.machine(name).socket)
    return ldm(arguments)


def _status(lab: Lab, *, as_json: bool) -> None:
    status = lab.status()
    if as_json:
        sys.stdout.write(json.dumps(status, indent=2) + "\n")
        return
    if not status["machines"]:
        sys.stdout.write("The lab is down.\n")
    for m in status["machines"]:
        state = f"ldmd {m['ldmd']}" if m["ldmd"] else "ldmd is down"
        sys.stdout.write(f"{m['name']:16} {m['address']:15} {m['namespace']:20} {state}\n")


if __name__ == "__main__":
    sys.exit(main())
