"""``list-history``: a line a command or side of a migration, its phases and figures below."""

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from lodom.cli.render import form
from lodom.core.units import MIB

Document = dict[str, Any]
_COLUMNS = (("WHEN", 21), ("WHO", 18), ("TOOK", 9), ("ENDED", 13), ("WHAT", 0))


def short(entries: Iterable[Document]) -> list[str]:
    """For people, times of this host's clock; nothing when there is no history."""
    widths = [width for _, width in _COLUMNS]
    lines = [line for entry in entries for line in _lines(entry, widths)]
    return [form.row(widths, [name for name, _ in _COLUMNS]), *lines] if lines else []


def _lines(e: Document, widths: list[int]) -> list[str]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(e["began"]))
    took = "" if e["ended"] == "under way" else f"{e['seconds']:.2f}s"
    ended = f"exit {e['exit']}" if e["exit"] else e["ended"]
    lines = [form.row(widths, (when, e["user"] or e["peer"], took, ended, _what(e)))]
    if e["phases"]:
        told = ", ".join(f"{p['phase']} {p['seconds']:.2f}s" for p in e["phases"])
        lines.append(f"{form.INDENT}phases: {told}")
    if e["numbers"]:
        lines.append(f"{form.INDENT}copy: {_figures(e['numbers'])}")
    if e["reason"]:
        code = f"{e['code']} " if e["code"] else ""
        lines += [form.INDENT + line for line in f"{code}{e['reason']}".splitlines()]
    return lines


def _what(e: Document) -> str:
    if e["kind"] == "command":
        return str(e["command"])
    way = "to" if e["role"] == "source" else "from"
    return f"migration {e['id'][:8]} of {', '.join(e['ldoms'])} {way} {e['peer']}"


def _figures(numbers: Mapping[str, int]) -> str:
    words = []
    if "transferred" in numbers:
        words.append(f"{numbers['transferred'] / MIB:.1f} MiB sent")
    for key, word in (("total_ms", "in"), ("downtime_ms", "stopped for")):
        if key in numbers:
            words.append(f"{word} {numbers[key]} ms")
    return ", ".join(words) or ", ".join(f"{k} {n}" for k, n in sorted(numbers.items()))


def parseable(entries: Iterable[Document]) -> list[str]:
    """``HISTORY|…``, and for a migration ``|phase=`` rows and one ``|numbers`` row."""
    lines = [form.VERSION]
    for e in entries:
        pairs = [(key, _plain(e[key])) for key in _KEYS]
        lines.append(form.record("HISTORY", *pairs, ("ldoms", ",".join(e["ldoms"]))))
        for p in e["phases"]:
            lines.append(form.record("", ("phase", p["phase"]), ("seconds", p["seconds"])))
        if e["numbers"]:
            lines.append(form.record("", *sorted(e["numbers"].items())))
    return lines


_KEYS = (
    "id", "kind", "began", "seconds", "user", "peer", "ended", "exit", "code", "role",
    "operation", "command", "reason",
)  # fmt: skip


def _plain(value: object) -> object:
    """No line end and no bar within a field."""
    if isinstance(value, str):
        return value.replace("\n", "; ").replace("|", "/")
    return "" if value is None else value


def as_json(document: Mapping[str, Any]) -> list[str]:
    """The document of the API."""
    return [json.dumps(document, indent=2, sort_keys=True)]
