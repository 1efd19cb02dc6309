"""The way from a command to ldmd: one POST over a Unix socket, answered by a stream of lines.

Source: docs/reference/api.md.  Standard library only, so that ``ldm`` starts fast.
"""

import json
import os
import socket
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

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


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str, timeout_s: float | None) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


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
    connection = _UnixConnection(path or socket_path(), timeout_s)
    try:
        try:
            connection.connect()
        except OSError as fault:
            raise Unreachable(_reason(fault)) from fault
        body = json.dumps({"verb": verb, "arguments": arguments})
        connection.request("POST", COMMANDS, body, {"Content-Type": "application/json"})
        return _read(connection.getresponse(), progress)
    except (OSError, HTTPException, ValueError) as fault:
        raise Lost(_reason(fault)) from fault
    finally:
        connection.close()


def _read(answers: HTTPResponse, progress: Progress | None) -> dict[str, Any]:
    while line := answers.readline():
        answer = json.loads(line) if line.strip() else {}
        if "result" in answer:
            return dict(answer["result"])
        if "error" in answer:
            raise Refused(answer["error"])
        if progress and "progress" in answer:
            progress(answer["progress"])
    raise Lost("ldmd closed it")


def _reason(fault: Exception) -> str:
    # A missing socket file and one that nobody listens on mean the same to the user.
    if isinstance(fault, FileNotFoundError):
        return "Connection refused"
    return getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
