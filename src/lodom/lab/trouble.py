"""A cut in the one moment of a hand-over in which neither side can know what the other did.

That moment, between the source's record that the domain is the target's and the target's answer,
lasts some milliseconds, too short to be met by chance.  It is held open: the source's ldmd is
stopped (SIGSTOP) while its QEMU sends the last bytes.  Once the target's LOADED lies unread at the
stopped ldmd, the link is cut and the target's ldmd killed; then the source's ldmd goes on, reads,
gives the domain away, and nobody hears it.
"""

import os
import signal
import subprocess
from pathlib import Path
from select import select
from time import monotonic, sleep
from typing import Self

from lodom.lab.lab import Lab, LabFault
from lodom.lab.topology import Placed

PEER_PORT = 6482
_SLICE_S = 0.002
"""How long the source's ldmd may go on at a time until its QEMU has been told to finish."""
_LAST_BYTES_S = 0.25


class Follow:
    """What is written to a log from now on."""

    def __init__(self, log: Path) -> None:
        self._tail = subprocess.Popen(
            ["tail", "-n", "0", "-F", str(log)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
        )  # fmt: skip
        self._text = b""

    def until(self, words: str, within: float) -> bool:
        """Whether a line with *words* is written within so many seconds, or was since the start."""
        assert self._tail.stdout is not None
        deadline = monotonic() + within
        while words.encode() not in self._text:
            if not select([self._tail.stdout], [], [], max(0.0, deadline - monotonic()))[0]:
                return False
            self._text += os.read(self._tail.stdout.fileno(), 65536)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tail.kill()
        self._tail.communicate()


def cut_in_hand_over(
    lab: Lab, source: Placed, target: Placed, migrate: list[str], environment: dict[str, str]
) -> "subprocess.Popen[str]":
    """Run *migrate* and cut its hand-over short; the command, which waits for its end.

    The target's ldmd is dead and its link down afterwards.

    Raises:
        LabFault: the moment was missed; the link is up, and the migration may have ended.
    """
    ldmd = lab.pid(source)
    with Follow(source.log) as here, Follow(target.log) as there:
        command = subprocess.Popen(
            migrate, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            if not here.until("FinishCopy(", within=60):
                raise LabFault("the migration did not come to its hand-over")
            os.kill(ldmd, signal.SIGSTOP)
            while not there.until("message=Loaded()", within=_LAST_BYTES_S):
                os.kill(ldmd, signal.SIGCONT)
                sleep(_SLICE_S)
                os.kill(ldmd, signal.SIGSTOP)
            if not _lies_unread(ldmd, within=5) or there.until("message=Cede(", within=0):
                raise LabFault("the hand-over was over before it could be cut")
            lab.cut(target)
            lab.kill(target)
        except BaseException:
            command.kill()
            command.communicate()
            raise
        finally:
            os.kill(ldmd, signal.SIGCONT)
    return command


def _lies_unread(pid: int, within: float) -> bool:
    """Whether a peer's answer waits in a socket of the process, soon."""
    deadline = monotonic() + within
    while monotonic() < deadline:
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            _, _, remote, _, queues = line.split()[:5]
            if int(remote.split(":")[1], 16) == PEER_PORT and int(queues.split(":")[1], 16):
                return True
        sleep(_SLICE_S)
    return False
