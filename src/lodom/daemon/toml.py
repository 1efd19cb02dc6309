"""Reading a TOML file into frozen dataclasses, with errors that name file, line and key.

A field's metadata says how it is read: ``read`` turns one value into another (ValueError with the
reason if it cannot), ``table`` and ``tables`` name the dataclass of a sub-table or of each one of
an array.  The key in the file is the field's name with dashes.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from lodom.core.errors import ConfigInvalid

T = TypeVar("T")

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"\s*([\w.\"'-]+(?:\s*\.\s*[\w\"'-]+)*)\s*=")


def key(read: Callable[[Any], Any], default: Any) -> Any:
    """A field that one value is read into."""
    return field(default=default, metadata={"read": read})


def table(cls: type, name: str = "") -> Any:
    """A field for a sub-table, called *name* in the file; left out, it has its defaults."""
    return field(default_factory=cls, metadata={"table": cls, "name": name})


def tables(cls: type, name: str = "") -> Any:
    """A field for an array of tables, called *name* in the file; left out, it is empty."""
    return field(default=(), metadata={"tables": cls, "name": name})


@dataclass(frozen=True)
class Source:
    """A file that was read: where its keys are, for errors found now or later."""

    file: str
    lines: Mapping[str, int] = field(default_factory=dict)

    def fault(self, path: str, why: str) -> ConfigInvalid:
        """The error for the key at *path* (``memory.region[1].base``)."""
        at = path
        while at and at not in self.lines:
            at = re.sub(r"\[\d+\]$|(^|\.)[^.\[]+$", "", at)
        line = f", line {self.lines[at]}" if at else ""
        section, _, name = path.rpartition(".")
        return ConfigInvalid(
            file=self.file,
            line=line,
            key=f"[{section}] {name}: " if section else f"{name}: ",
            why=why,
        )


def load(path: Path, cls: type[T]) -> tuple[T, Source]:
    """The file as a *cls*, and its source.

    Raises:
        ConfigInvalid: it cannot be read, is no TOML, or a key is unknown or has a wrong value.
    """
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as fault:
        why = getattr(fault, "strerror", None) or str(fault)
        raise ConfigInvalid(file=str(path), line="", key="", why=why) from fault
    return parse(text, str(path), cls)


def parse(text: str, file: str, cls: type[T]) -> tuple[T, Source]:
    """The text of *file* as a *cls*, and its source.

    Raises:
        ConfigInvalid: it is no TOML, or a key is unknown or has a wrong value.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        why, _, where = str(fault).partition(" (at ")
        found = re.match(r"line (\d+)", where)
        number = found[1] if found else len(text.splitlines())
        raise ConfigInvalid(file=file, line=f", line {number}", key="", why=why) from fault
    source = Source(file, key_lines(text))
    return _table(cls, raw, "", source), source


def _table(cls: type[T], raw: Any, path: str, source: Source) -> T:
    if not isinstance(raw, dict):
        raise source.fault(path, "must be a table")
    known = {
        f.metadata.get("name") or f.name.replace("_", "-"): f
        for f in fields(cls)  # type: ignore[arg-type]
        if f.metadata
    }
    values: dict[str, Any] = {}
    for name, value in raw.items():
        at = f"{path}.{name}" if path else name
        if name not in known:
            raise source.fault(at, _unknown(name, list(known)))
        values[known[name].name] = _value(known[name].metadata, value, at, source)
    return cls(**values)


def _value(how: Mapping[str, Any], value: Any, at: str, source: Source) -> Any:
    if "table" in how:
        return _table(how["table"], value, at, source)
    if "tables" in how:
        if not isinstance(value, list):
            raise source.fault(at, f"must be an array of tables: [[{at}]]")
        rows = enumerate(value)
        return tuple(_table(how["tables"], row, f"{at}[{i}]", source) for i, row in rows)
    try:
        return how["read"](value)
    except ValueError as why:
        raise source.fault(at, f"{_shown(value)}: {why}") from None


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"unknown; did you mean {near[0]}?" if near else f"unknown; known: {', '.join(known)}"


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def key_lines(text: str) -> dict[str, int]:
    """Line numbers from 1 of each table and key, by path; tomllib keeps none.

    Lines inside a multi-line string may be taken for keys: they only show in errors, and only
    when no real key of that path came first.
    """
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    prefix = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            prefix = ""
            parts = _plain(header[2]).split(".")
            for left, part in enumerate(parts, 1 - len(parts)):
                prefix = f"{prefix}.{part}" if prefix else part
                if left == 0 and header[1] == "[[":
                    counts[prefix] = counts.get(prefix, -1) + 1
                if prefix in counts:  # of an array: its last table so far is meant
                    prefix = f"{prefix}[{counts[prefix]}]"
            lines.setdefault(prefix, number)
        elif found := _KEY.match(line):
            name = _plain(found[1])
            lines.setdefault(f"{prefix}.{name}" if prefix else name, number)
    return lines


def _plain(name: str) -> str:
    return re.sub(r"\s*\.\s*", ".", re.sub(r"[\"']", "", name)).strip()
