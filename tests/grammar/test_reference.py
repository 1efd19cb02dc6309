"""Generated pages are those on disk, and their readers accept them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from lodom.core.errors import Kind
from lodom.grammar.__main__ import PAGES
from lodom.grammar.complete import bash, spellings
from lodom.grammar.parser import find_verb
from lodom.grammar.reference import EXITS, manual, markdown
from lodom.grammar.table import VERBS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_page_on_disk_is_the_generated_one(name: str) -> None:
    """If not: python -m lodom.grammar docs/reference."""
    assert (REFERENCE / name).read_text(encoding="utf-8") == PAGES[name]()


def test_every_command_has_its_section() -> None:
    text = markdown()
    for verb in VERBS:
        assert verb.hidden or f"\n### {verb.shown or verb.name}\n" in text


def test_every_exit_code_is_told() -> None:
    for kind in EXITS:
        assert f"| {kind.exit_code} | " in markdown()
    assert set(EXITS) == set(Kind)


def test_every_spelling_is_understood() -> None:
    for verb in VERBS:
        for word in spellings(verb):
            assert find_verb(word) is verb, word


def test_manual_page_formats_without_complaint() -> None:
    if not shutil.which("groff"):
        pytest.skip("groff is not installed")
    command = ["groff", "-man", "-Tutf8", "-ww", "-z"]
    done = subprocess.run(command, input=manual(), capture_output=True, text=True, check=True)
    assert done.stderr == ""


COMPLETIONS = {
    ("add-vd",): {"add-vdisk", "add-vds", "add-vdsdev"},
    ("rm-vsw", "-"): {"-f"},
    ("add-vnet", "mt"): {"mtu="},
    ("ls-devices", "m"): {"mau", "memory", "mine"},
    ("bind", "l"): {"ldg1"},
    ("cancel-operation", "mig"): {"migration"},
}


@pytest.mark.parametrize("words", COMPLETIONS)
def test_bash_completes(words: tuple[str, ...]) -> None:
    """``ldm`` itself is a function that knows two domains."""
    line = " ".join(f"'{word}'" for word in ("ldm", *words))
    program = (
        "ldm() { printf 'VERSION 1.3\\nDOMAIN|name=ldg1|x=\\nDOMAIN|name=mine|x=\\n'; }\n"
        f"{bash()}\nCOMP_WORDS=({line}) COMP_CWORD={len(words)}\n_ldm\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert (set(done.stdout.split()), done.stderr) == (COMPLETIONS[words], "")


def test_zsh_script_parses() -> None:
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    subprocess.run(["zsh", "-n", str(REFERENCE / "completion" / "_ldm")], check=True)
