"""What the demonstration needs of the host, by ``ldmd --doctor``."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lodom.lab.demo.stage import DemoFault

NEEDED = ("accelerator", "QEMU", "taps")
"""The lab brings the rest: memory, users, trust."""


def examined() -> dict[str, Any]:
    """What the doctor says of this host, without a machine.toml.

    Raises:
        DemoFault: it says nothing.
    """
    program = Path(sys.executable).with_name("ldmd")
    words = [str(program), "--doctor", "--json", "--config", "/dev/null"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        raise DemoFault(f"ldmd --doctor: {done.stderr.strip()}") from None


def met(document: dict[str, Any]) -> str:
    """The accelerator, when all that is needed is there.

    Raises:
        DemoFault: something lacks; its remedy is in the text.
    """
    checks = {check["name"]: check for check in document["checks"]}
    for name in NEEDED:
        if checks[name]["state"] == "lack":
            raise DemoFault(f"{name}: {checks[name]['found']}; {checks[name]['remedy']}")
    return str(checks["accelerator"]["found"])
