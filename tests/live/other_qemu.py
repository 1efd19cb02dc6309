"""``python other_qemu.py QEMU EDITS …``: QEMU, and its answers to a monitor with words replaced.

*EDITS* is JSON, ``{"folders": text for -L help or "", "words": [[pattern, replacement], …]}``.  The
process is QEMU itself; what stands between it and the monitor's socket is its child.
"""

import ctypes
import json
import os
import re
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import IO, Any

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def copied(source: socket.socket, to: socket.socket) -> None:
    """What the monitor says, as it is."""
    with suppress(OSError):
        while data := source.recv(65536):
            to.sendall(data)


def edited(source: IO[bytes], to: socket.socket, words: list[tuple[str, str]]) -> None:
    """What QEMU answers, line by line."""
    for line in source:
        text = line.decode()
        for pattern, replacement in words:
            text = re.sub(pattern, replacement, text)
        to.sendall(text.encode())


def between(server: socket.socket, behind: socket.socket, words: list[tuple[str, str]]) -> None:
    """Stand between one monitor and QEMU until one of them ends."""
    monitor, _ = server.accept()
    qemu, _ = behind.accept()
    threading.Thread(target=copied, args=(monitor, qemu), daemon=True).start()
    with suppress(OSError):
        edited(qemu.makefile("rb"), monitor, words)


def main(program: str, edits: dict[str, Any], words: list[str]) -> None:
    """Become QEMU."""
    if edits["folders"] and words == ["-L", "help"]:
        print(edits["folders"])
        return
    words = ["tcg" if word == "kvm" else word for word in words]
    at = next((i for i, word in enumerate(words) if word.startswith("unix:")), None)
    if at is not None:
        path = words[at].removeprefix("unix:").partition(",")[0]
        server, behind = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        behind.bind(f"{path}.behind")
        behind.listen()
        server.bind(path)
        server.listen()
        words[at] = f"unix:{path}.behind"
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
            between(server, behind, edits["words"])
            os._exit(0)
    os.execv(program, [program, *words])


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:])
