"""An ldmd that loses its link at one exact place: just before it says a certain message."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from machines import Machine

import lodom

_SEND = '"""One message, to wherever the other side of the migration is."""\n'
_CUT = (
    "        import pathlib, subprocess\n"
    "        mark = pathlib.Path({mark!r})\n"
    "        armed = mark.with_name('armed').exists() and not mark.exists()\n"
    "        if armed and isinstance(message, msg.{message}):\n"
    "            mark.touch()\n"
    '            subprocess.run(["ip", "link", "set", "eth0", "down"], check=True)\n'
)


@contextmanager
def link_lost_before(machine: Machine, message: str, folder: Path) -> Iterator[Path]:
    """Until the end the machine's ldmd takes its link down, once, before it sends *message*.

    What is durable before the message is so, and nothing of the message gets out.  Yields the file
    that is there as soon as it has happened; not before the file ``armed`` is beside it, for an
    earlier migration may still have to say the same.  The link is up again at the end.
    """
    shutil.copytree(Path(lodom.__file__).parent, folder / "src/lodom")
    peers = folder / "src/lodom/daemon/peers.py"
    text, mark = peers.read_text(), folder / "cut"
    assert text.count(_SEND) == 1
    peers.write_text(text.replace(_SEND, _SEND + _CUT.format(mark=str(mark), message=message)))
    machine.kill_ldmd()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(folder / "src"))
        machine.start_ldmd()
    try:
        yield mark
    finally:
        machine.lab.mend(machine.placed)
        if machine.lab.pid(machine.placed):
            machine.kill_ldmd()
        machine.start_ldmd()
