"""Pages are read as they are meant, and no block of docs/install.md is lost."""

import shlex
from pathlib import Path

import pytest
from hosts import ROOT
from pages import blocks

from lodom.grammar.parser import parse

TEXT = """\
# One

Some words
on two lines:

```console
alpha# first
what it says
both# cat >file <<'END'
alpha# not a command
END
beta# long \\
  line
```

*Not run here: because
of that.*

```console
alpha# never
```

```toml
x = 1
```
"""


def page(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "page.md"
    path.write_text(text)
    return path


def test_commands_and_reasons(tmp_path: Path) -> None:
    first, second = blocks(page(tmp_path, TEXT))
    assert (first.heading, first.skipped) == ("One", "")
    assert first.commands == (
        ("alpha", "first"),
        ("both", "cat >file <<'END'\nalpha# not a command\nEND"),
        ("beta", "long \\\n  line"),
    )
    assert second.skipped == "*Not run here: because of that.*"


@pytest.mark.parametrize(
    "body", ["gamma# no such host\n", "", "alpha# here <<END\nnever ends\n```\n```console"]
)
def test_a_block_that_would_be_lost(tmp_path: Path, body: str) -> None:
    with pytest.raises(ValueError, match="block"):
        blocks(page(tmp_path, f"# One\n\n```console\n{body}```\n"))


def test_every_block_of_the_page_is_run_or_says_why_not() -> None:
    text = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    found = blocks(ROOT / "docs/install.md")
    assert len(found) == text.count("```console")
    assert len([b for b in found if not b.skipped]) > 15
    assert all(b.skipped.endswith(".*") for b in found if b.skipped)


def test_its_ldm_commands_are_in_the_grammar() -> None:
    lines = [c for b in blocks(ROOT / "docs/install.md") for _, c in b.commands]
    typed = [line for line in lines if line.startswith("ldm ") and "-V" not in line]
    assert len(typed) > 12
    for line in typed:
        parse(shlex.split(line)[1:])
