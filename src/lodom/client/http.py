"""The way from a command to ldmd: one POST over a Unix socket, answered by a stream of lines.

Spoken by hand: ``http.client`` loads the mail and TLS packages, which takes longer than all the
rest of ``ldm`` together (measured: 26 of 80 ms).  Source: docs/reference/api.md; RFC 9112.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

DEFAULT_SOCKET = "/run/lodom/ldmd.sock"
COMMANDS = "/v1/commands"

Progress = Callable[[Mapping[str, Any]], None]


class Unreachable(Exception):
    """No ldmd answers at the socket; the text is the reason."""


class Lost(Unreachable):
    """The connection ended before the command did; it may be going on."""


class Refused(Exception):
    """ldmd answered with an error; ``error`` is its document."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error.get("text", ""))
        self.error = error


def socket_path() -> str:
    """``LODOM_SOCKET``, or where ldmd listens by default."""
    return os.environ.get("LODOM_SOCKET") or DEFAULT_SOCKET


def call(
    verb: str,
    arguments: Mapping[str, Any],
    *,
    progress: Progress | None = None,
    timeout_s: float | None = None,
    path: str = "",
) -> dict[str, Any]:
    """The result of *verb* on ldmd; *progress* is called with each progress document.

    Without *timeout_s* it waits as long as the command takes.

    Raises:
        Unreachable: no ldmd answers.
        Lost: it went away, or said nothing for *timeout_s*, before the command ended.
        Refused: the command ended with an error.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(path or socket_path())
        except OSError as fault:
            raise Unreachable(_reason(fault)) from fault
        body = json.dumps({"verb": verb, "arguments": arguments}).encode()
        try:
            connection.sendall(_head(len(body)) + body)
            with connection.makefile("rb") as answer:
                return _result(_lines(answer), progress)
        except (OSError, ValueError) as fault:
            raise Lost(_reason(fault)) from fault


def _head(length: int) -> bytes:
    return (
        f"POST {COMMANDS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def _lines(answer: BinaryIO) -> Iterator[bytes]:
    """The lines of the body, as they come; ldmd closes behind the last."""
    status = answer.readline()
    if not status.startswith(b"HTTP/1."):
        raise Lost("ldmd closed it" if not status else "the answer is not HTTP")
    chunked = False
    while (header := answer.readline().strip().lower()) != b"":
        chunked |= header.startswith(b"transfer-encoding:") and header.endswith(b"chunked")
    if not chunked:
        yield from answer
        return
    pending = b""
    while size := int(answer.readline().split(b";")[0] or b"0", 16):
        pending += answer.read(size)
        answer.readline()
        *whole, pending = pending.split(b"\n")
        yield from whole
    yield pending


def _result(lines: Iterator[bytes], progress: Progress | None) -> dict[str, Any]:
    for line in lines:
        answer = json.loads(line) if line.strip() else {}
        if "result" in answer:
            return dict(answer["result"])
        if "error" in answer:
            raise Refused(answer["error"])
        if progress and "progress" in answer:
            _show(progress, answer["progress"])
    raise Lost("ldmd closed it")


def _show(progress: Progress, told: Mapping[str, Any]) -> None:
    """A terminal or reader that has gone does not end the command, which would be cancelled."""
    try:
        progress(told)
    except OSError:
        return


def _reason(fault: Exception) -> str:
    # A missing socket file and one that nobody listens on mean the same to the user.
    if isinstance(fault, FileNotFoundError):
        return "Connection refused"
    return getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
