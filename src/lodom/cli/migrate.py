"""``ldm migrate-domain``: password, first contact, progress, findings, interruption.

Signals (migration digest 1.3): SIGINT and SIGTERM cancel the migration and wait for its end;
SIGHUP is ignored, so a lost terminal does not cancel; SIGKILL closes the connection and ldmd
cancels by itself.
"""

import json
import os
import pwd
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType
from typing import Any

from lodom.cli.findings import lines
from lodom.cli.main import report, say_error
from lodom.cli.terminal import agreed, ask_password, interactive, read_password
from lodom.client.http import Refused, Unreachable, call
from lodom.core.units import format_size

UNTRUSTED = "LDM-041"
REFUSED = "LDM-044"
CANCEL_S = 30.0

Document = Mapping[str, Any]


def migrate(arguments: Document, *, verbose: bool = False) -> int:
    """Run the command; its exit code.  A success prints nothing, ``-v`` prints the numbers.

    Raises:
        InvalidValue: no password can be had.
        Refused: ldmd refused for another reason than the rules or the first contact.
    """
    verbose = verbose or bool(arguments.get("verbose"))
    as_json = bool(arguments.get("json"))
    order = {k: v for k, v in arguments.items() if k not in ("verbose", "json", "password_file")}
    with suppress(KeyError):  # an account of no name: ldmd says who it takes that for
        order.setdefault("user", pwd.getpwuid(os.getuid()).pw_name)
    if not order.get("certificates"):
        file = arguments.get("password_file")
        order["password"] = read_password(file) if file else ask_password()
    began = time.monotonic()
    try:
        result = _carry_out(order)
    except Refused as refused:
        return _refused(refused.error, as_json=as_json, verbose=verbose)
    if as_json:
        print(json.dumps(result, indent=2, sort_keys=True))
        return 0
    _tell(result, time.monotonic() - began, verbose=verbose)
    return 0


def _carry_out(order: dict[str, Any]) -> dict[str, Any]:
    try:
        return _watched(order)
    except Refused as refused:
        fingerprint = _offered(refused.error, order["host"])
        if not fingerprint:
            raise
    return _watched({**order, "accept": fingerprint})


def _offered(error: Document, host: str) -> str:
    """The fingerprint that the user accepts at first contact; empty when it is not to be.

    Only the handshake of ``trust-peer`` is made for it; no password has left this machine.
    """
    # A certificate that has changed is no first contact: ssh does not ask then either.
    if error.get("code") != UNTRUSTED or "CHANGED" in str(error.get("text")):
        return ""
    fingerprint = str(call("trust-peer", {"host": host})["fingerprint"])
    if not interactive():
        print(f"To accept it: ldm-setup trust {host} --fingerprint {fingerprint}", file=sys.stderr)
        return ""
    print(f"First contact with {host}; its certificate is\n{fingerprint}", file=sys.stderr)
    return fingerprint if agreed("Accept this certificate?") else ""


# -- while it runs ------------------------------------------------------------------------------


class _Interruption:
    """The wish to cancel: passed on at once, and again when the migration has begun.

    A signal during the check finds nothing to cancel yet; the first progress tells that it began.
    """

    def __init__(self, ldom: str) -> None:
        self._ldom = ldom
        self._wanted = self._begun = False

    def signalled(self, _signum: int, _frame: FrameType | None) -> None:
        self._wanted = True
        self._cancel()

    def progressed(self, _event: Document) -> None:
        self._begun = True
        if self._wanted:
            self._cancel()

    def _cancel(self) -> None:
        wish = {"operation": "migration", "ldom": self._ldom}
        try:
            call("cancel-operation", wish, timeout_s=CANCEL_S)
            self._wanted = False
        except (Refused, Unreachable) as why:
            if self._begun:
                say_error(str(why))
                self._wanted = False


def _hung_up(_signum: int, _frame: FrameType | None) -> None:
    """The terminal is lost: the move goes on, and what would be said there goes nowhere."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def _watched(order: dict[str, Any]) -> dict[str, Any]:
    """The result, with progress shown on a terminal and signals turned into a cancellation."""
    if order.get("dry_run"):
        return call("migrate-domain", order)
    interruption = _Interruption(order["ldom"])
    before = {s: signal.signal(s, interruption.signalled) for s in (signal.SIGINT, signal.SIGTERM)}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, _hung_up)
    try:
        if not sys.stderr.isatty():
            return call("migrate-domain", order, progress=interruption.progressed)
        from lodom.cli.progress import Bar

        with Bar(order["ldom"], order["host"]) as bar:

            def progressed(event: Document) -> None:
                bar.show(event)
                interruption.progressed(event)

            return call("migrate-domain", order, progress=progressed)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# -- how it ended -------------------------------------------------------------------------------


def _refused(error: Document, *, as_json: bool, verbose: bool) -> int:
    if as_json and "findings" in error:
        found = {key: error[key] for key in ("findings", "rules") if key in error}
        print(json.dumps(found, indent=2, sort_keys=True))
        return int(error["exit"])
    if error.get("code") == REFUSED:
        # The findings have remedies of their own; that of the verdict would only repeat -n -v.
        error = {**error, "remedy": ""}
    return report(error, verbose=verbose)


def _tell(result: Document, seconds: float, *, verbose: bool) -> None:
    findings = result.get("findings", ())
    for line in lines(findings, drawing=result.get("drawing", ""), verbose=verbose):
        say_error(line)
    for warning in result.get("warnings", ()):
        say_error(f"Warning: {warning}")
    numbers = result.get("numbers", {})
    streams = result.get("streams", numbers.get("streams"))
    if verbose and result.get("rules"):
        print(f"Rules:        {result['rules']}")
    if verbose and streams:
        print(f"Streams:      {streams}")
    if verbose and numbers:
        total = numbers.get("total_ms", seconds * 1000) / 1000
        print(f"Total time:   {total:.1f} s")
        print(f"Longest stop: {numbers.get('downtime_ms', 0)} ms")
        print(f"Bytes sent:   {_rough(numbers.get('transferred', 0))}")


def _rough(number: int) -> str:
    for unit in (1 << 30, 1 << 20, 1 << 10):
        if number >= unit:
            return f"{number / unit:.1f}{format_size(unit)[-1]}"
    return str(number)
