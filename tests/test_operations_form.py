"""The dashboard shows metrics that exist; the examples for Ansible are commands that exist."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

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


def test_the_playbooks_are_made_of_commands() -> None:
    """Each ldm command in them, with its variables filled in, is one of the grammar."""
    filled = {"to": "beta", "item": "ldg1", "vcpus": "2", "memory": "2G"}
    found = [
        line for p in PLAYBOOKS for line in re.findall(r"command: ldm (.*)$", p.read_text(), re.M)
    ]
    assert len(found) >= 10
    for line in found:
        words = re.sub(r"{{ (\w+) }}", lambda m: filled.get(m[1], m[1].replace("_", "")), line)
        parse(shlex.split(words))


@pytest.mark.parametrize("play", ["evacuate.yml", "guest.yml"])
def test_the_playbooks_syntax(play: str) -> None:
    if not shutil.which("ansible-playbook"):
        pytest.skip("ansible-playbook is not installed: only the commands are checked")
    folder = ROOT / "examples/ansible"
    argv = ["ansible-playbook", "--syntax-check", "-i", folder / "inventory.yml", folder / play]
    subprocess.run(argv, check=True)
