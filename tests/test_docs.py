"""Documents agree with the code and with each other."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lodom.core.rules.catalogue import PAGES
from lodom.grammar.parser import parse

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "guest").glob("*.md")]
)
WRITTEN = [d for d in DOCUMENTS if d.parent.name != "reference"]


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_reference_on_disk_is_the_generated_one(tmp_path: Path) -> None:
    """If not: make docs."""
    generator = ROOT / "tools" / "gen_reference.py"
    subprocess.run([sys.executable, generator, tmp_path], check=True)
    made, there = files(tmp_path), files(ROOT / "docs" / "reference")
    assert {name for name in made if made[name] != there.get(name)} == set()


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = link.partition("#")
        if link.startswith("https://"):
            continue
        goal = document.parent / file if file else document
        assert goal.exists(), link
        headings = (
            re.findall(r"^#+ (.*)$", goal.read_text(encoding="utf-8"), re.M) if anchor else []
        )
        slugs = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
        assert not anchor or anchor in slugs, link


@pytest.mark.parametrize("document", WRITTEN, ids=lambda d: str(d.relative_to(ROOT)))
def test_paths_named_exist(document: Path) -> None:
    """Words in code type that look like a path of the project."""
    text = document.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:src|tests|tools|docs|guest|bench)/[\w/.-]+)`", text):
        assert (ROOT / path).exists(), path


def test_make_targets_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    there = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    named = {
        target
        for document in WRITTEN
        for target in re.findall(r"`make ([a-z-]+)", document.read_text(encoding="utf-8"))
    }
    assert named
    assert named <= there


def commands(text: str) -> list[str]:
    """The ``ldm`` commands in fenced blocks, with or without a prompt and a lab machine."""
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S))
    return re.findall(
        r"^(?:# |\$ )?(?:ldm-lab ldm \S+|ldm) ([a-z][^#|<>]*?) *(?:#.*)?$", blocks, re.M
    )


def test_commands_in_the_readme_are_in_the_grammar() -> None:
    found = commands((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(found) > 10
    for line in found:
        parse(shlex.split(line))


KINDS = (
    "file", "NFS", "LVM", "SCSI", "iSCSI", "FC", "multipath", "NVMe", "RBD", "DRBD", "ZFS", "loop",
    "NBD", "qcow2", "ISO",
)  # fmt: skip


def test_the_page_on_storage_has_every_kind() -> None:
    """What is there is in its table; NFS and a CD's image under the words of people."""
    page = (ROOT / "docs/storage.md").read_text(encoding="utf-8")
    rows = "\n".join(line for line in page.splitlines() if line.startswith("| "))
    named = rows.replace("network file system", "NFS").replace("CD image", "ISO")
    assert [kind for kind in KINDS if kind not in named] == []


def test_every_rule_named_exists() -> None:
    for document in WRITTEN:
        named = set(re.findall(r"\b[RL]\d\d\b", document.read_text(encoding="utf-8")))
        assert named <= set(PAGES), document


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    reasons = (ROOT / "docs/decisions/0002-dependencies.md").read_text(encoding="utf-8")
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    for requirement in wanted:
        name = re.split(r"[<>=]", requirement)[0]
        assert f"`{name}`" in reasons, name
