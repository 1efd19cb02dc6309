"""Pages that are run: the fenced ``console`` blocks of a document, in order.

A line that begins with ``alpha#``, ``beta#`` or ``both#`` is a command on that host; it goes on
behind a backslash, and to the last line of a here-document.  Other lines are what it may print.  A
block behind a paragraph that begins with ``*Not run here`` is left out, with that reason.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROMPT = re.compile(r"(alpha|beta|both)# (.*)")


@dataclass(frozen=True)
class Block:
    """The commands of one block, as (host or ``both``, command); *skipped*: why none is run."""

    heading: str
    commands: tuple[tuple[str, str], ...]
    skipped: str = ""


def blocks(page: Path) -> list[Block]:
    """The blocks of *page*.

    Raises:
        ValueError: a block has no command, or its first line is none.
    """
    found = []
    heading = paragraph = ""
    lines = iter(page.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith("```console"):
            body = _body(lines)
            reason = paragraph if paragraph.startswith("*Not run here") else ""
            found.append(Block(heading, tuple(_commands(body, heading)), reason))
            paragraph = ""
        elif line.startswith("#"):
            heading = line.lstrip("# ")
        elif line:
            new = not paragraph or paragraph.endswith("\n")
            paragraph = line if new else f"{paragraph} {line}"
        elif paragraph and not paragraph.endswith("\n"):
            paragraph += "\n"
    return [Block(b.heading, b.commands, b.skipped.strip()) for b in found]


def _body(lines: Iterator[str]) -> list[str]:
    body = []
    for line in lines:
        if line == "```":
            return body
        body.append(line)
    raise ValueError("a block that does not end")


def _commands(body: list[str], heading: str) -> Iterator[tuple[str, str]]:
    lines = iter(body)
    first = True
    for line in lines:
        match = _PROMPT.fullmatch(line)
        if not match:
            if first:
                raise ValueError(f"{heading}: a block begins with {line!r}, which is no command")
            continue
        first = False
        host, command = match.groups()
        while command.endswith("\\"):
            command += "\n" + next(lines)
        if here := re.search(r"<<-?'?(\w+)'?", command):
            for more in lines:
                command += "\n" + more
                if more == here[1]:
                    break
        yield host, command
    if first:
        raise ValueError(f"{heading}: a block without a command")
