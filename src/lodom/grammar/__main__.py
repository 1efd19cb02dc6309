"""``python -m lodom.grammar DIRECTORY``: write the reference pages and completion scripts."""

import sys
from pathlib import Path

from lodom.grammar.complete import bash, zsh
from lodom.grammar.reference import manual, markdown

PAGES = {
    "commands.md": markdown,
    "ldm.1": manual,
    "completion/ldm.bash": bash,
    "completion/_ldm": zsh,
}
"""File under the directory, and what makes it."""


def main(directory: Path) -> None:
    """Write every page below *directory*."""
    for name, make in PAGES.items():
        page = directory / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m lodom.grammar DIRECTORY")
    main(Path(sys.argv[1]))
