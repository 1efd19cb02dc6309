"""The dashboard shows metrics that exist; the examples for Ansible are commands that exist."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from lodom.cli import setup
from lodom.daemon.metrics import BY_NAME, TABLE
from lodom.grammar.parser import parse

ROOT = Path(__file__).parents[1]
PLAYBOOKS = sorted((ROOT / "examples/ansible").glob("*.yml"))


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    board = json.loads((ROOT / "docs/grafana/lodom.json").read_text())
    shown = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\blodom_\w+", target["expr"])
    }
    assert shown == set(BY_NAME)
    assert len(BY_NAME) == len(TABLE)


def test_metrics_named_in_the_page_exist() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    named = set(re.findall(r"\blodom_\w+", text))
    assert named
    assert named <= set(BY_NAME)


def test_the_page_s_commands_work_where_nothing_is_set() -> None:
    """An unset variable would leave ``curl --unix-socket`` with the next word as its socket."""
    text = (ROOT / "docs/operations.md").read_text()
    assert re.findall(r"\$\{?[A-Z]\w*(?!\w|:-)", text) == []


def commands(playbook: Path) -> list[list[str]]:
    """The words of each command in it, its variables filled in."""
    filled = {"to": "beta", "item": "ldg1", "vcpus": "2", "memory": "2G"}
    text = re.sub(r"command: >-\n\s+", "command: ", playbook.read_text())
    text = re.sub(r"\n\s+--", " --", text)
    lines = re.findall(r"command: (ldm\S* .*)$", text, re.M)
    given = [re.sub(r"{{ (\w+) }}", lambda m: filled.get(m[1], m[1]), line) for line in lines]
    return [shlex.split(line.replace("_", "")) for line in given]


def test_the_playbooks_are_made_of_commands() -> None:
    """Each command in them, with its variables filled in, is one that exists."""
    found = [words for p in PLAYBOOKS for words in commands(p)]
    assert len(found) >= 8
    for program, *words in found:
        parse(words) if program == "ldm" else setup._parser().parse_args(words)


def test_a_guest_that_was_not_finished_is_finished_by_the_next_run() -> None:
    """What takes several commands is one that leaves nothing half made; the rest asks the state."""
    verbs = [words[:2] for words in commands(ROOT / "examples/ansible/guest.yml")]
    assert verbs == [
        ["ldm", "list"],
        ["ldm-setup", "guest"],
        ["ldm", "list"],
        ["ldm", "bind-domain"],
        ["ldm", "start-domain"],
    ]


@pytest.mark.parametrize("play", ["evacuate.yml", "guest.yml"])
def test_the_playbooks_syntax(play: str) -> None:
    if not shutil.which("ansible-playbook"):
        pytest.skip("ansible-playbook is not installed: only the commands are checked")
    folder = ROOT / "examples/ansible"
    argv = ["ansible-playbook", "--syntax-check", "-i", folder / "inventory.yml", folder / play]
    subprocess.run(argv, check=True)
