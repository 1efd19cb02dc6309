"""A guest's console, by telnet to its port, as an administrator would use it."""

import re
import socket

from lodom.lab.watch import inside

_COMMANDS = re.compile(rb"\xff[\xfb-\xfe].|\xff[\xf0-\xfa]|\x1b\[[0-9;]*[A-Za-z]", re.DOTALL)
"""Telnet's own, and what the guest's shell sends to a terminal that could answer."""
_PATIENCE_S = 15.0


def converse(namespace: str, port: int, prompt: str, lines: list[str]) -> str:
    """Type *lines*, each after the prompt; what the console shows, without control bytes.

    Raises:
        OSError: nobody listens there, or the prompt does not come.
    """
    shown = b""
    with inside(
        namespace, lambda: socket.create_connection(("127.0.0.1", port), _PATIENCE_S)
    ) as console:
        console.sendall(b"\r")
        for line in [*lines, ""]:
            got = b""
            while not plain(got).endswith(prompt.encode()):
                data = console.recv(4096)
                if not data:
                    raise ConnectionError(f"console port {port} was closed")
                got += data
            shown += got
            if line:
                console.sendall(line.encode() + b"\r")
    text = plain(shown).decode(errors="replace")
    return "\n".join(line.rstrip() for line in text.replace("\r", "").splitlines())


def plain(received: bytes) -> bytes:
    """What was received without control sequences."""
    return _COMMANDS.sub(b"", received)
