"""``ldm recover-domain``: what is known and unknown of a hand-over in doubt, one safe action."""

import sys
from collections.abc import Mapping
from typing import Any

from lodom.cli.terminal import agreed, interactive
from lodom.client.http import call


def recover(arguments: Mapping[str, Any]) -> int:
    """Show the evidence and, on consent, have the action done.

    ldmd answers ``{"lines": [...], "action": TEXT}``, the action empty when there is none; with
    ``yes`` it carries it out.
    """
    seen = call("recover-domain", {"ldom": arguments["ldom"]})
    for line in seen.get("lines", ()):
        print(line)
    action = seen.get("action", "")
    if not action:
        return 0
    print(f"The one safe action: {action}")
    if not arguments.get("yes"):
        if not interactive():
            print("To have it done: ldm recover-domain -y " + arguments["ldom"], file=sys.stderr)
            return 0
        if not agreed("Do it?"):
            return 0
    done = call("recover-domain", {"ldom": arguments["ldom"], "yes": True})
    for line in (*done.get("lines", ()), *([done["say"]] if done.get("say") else ())):
        print(line)
    return 0
