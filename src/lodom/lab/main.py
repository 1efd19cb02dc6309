"""``ldm-lab``: machines in network namespaces on one host, to try Lodom on."""

import argparse
import json
import os
import sys
from pathlib import Path

from lodom.lab.lab import Lab, LabFault
from lodom.lab.topology import DEFAULT, TopologyInvalid, load


def main() -> int:
    """Exit code 0, or 1 with one line that says why."""
    parser = argparse.ArgumentParser(prog="ldm-lab", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="start the machines")
    up.add_argument("--file", type=Path, help="topology file; default: two machines")
    verbs.add_parser("down", help="end everything, leave nothing behind")
    ldm = verbs.add_parser("ldm", help="run ldm on a machine")
    ldm.add_argument("machine")
    ldm.add_argument("arguments", nargs=argparse.REMAINDER)
    status = verbs.add_parser("status", help="what is up")
    status.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    lab = Lab()
    try:
        if asked.verb == "up":
            lab.up(load(asked.file) if asked.file else DEFAULT)
        elif asked.verb == "down":
            lab.down()
        elif asked.verb == "ldm":
            return _ldm(lab, asked.machine, asked.arguments)
        else:
            _status(lab, as_json=asked.json)
    except (LabFault, TopologyInvalid) as fault:
        sys.stderr.write(f"ldm-lab: {fault}\n")
        return 1
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
