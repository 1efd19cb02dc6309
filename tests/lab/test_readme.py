"""README's first session, typed word for word: each command answers what README shows.

Numbers, times and ids differ from run to run and count only by their form.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
END = "-- end of an answer --"
UP = 'until ldm list ldg1 | grep -q -- "-n----"; do sleep 0.2; done\n'
"""What a reader does where README says "some seconds later"."""


def session() -> list[tuple[str, str]]:
    """Each command of README's session and what it shows to be answered."""
    text = (ROOT / "README.md").read_text()
    part = text.partition("## The first session, by hand\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
    typed = [piece for block in blocks for piece in re.split(r"^# ", block, flags=re.M)[1:]]
    return [(command, answer) for command, _, answer in (p.partition("\n") for p in typed)]


def form(answer: str) -> list[str]:
    """The answer without what changes from run to run."""
    for pattern, word in (
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12} \d+ \d+", "BOOT COUNT TIME"),
        (r"\b(\d+d )?(\d+h )?\d+m\b|\b\d+s\b", "UPTIME"),
        (r"[\d.]+ (ms|s)\b", "TIME"),
        (r"[\d.]+%", "UTIL"),
        (r"(Bytes sent: ).*", r"\1 SIZE"),
    ):
        answer = re.sub(pattern, word, answer)
    return [" ".join(line.split()) for line in answer.strip().splitlines()]


def test_the_first_session_is_as_it_is_told() -> None:
    """As typed by a reader, in one shell."""
    if os.geteuid() != 0 or not shutil.which("qemu-system-x86_64"):
        pytest.skip("README's session needs root and QEMU")
    steps = session()
    assert len(steps) > 20, "README's session was not found"
    script = "".join(
        f"{command}\necho '{END}'\n{UP if command.startswith('ldm start-domain') else ''}"
        for command, _ in steps
    )
    try:
        done = subprocess.run(
            ["bash", "-c", script], cwd=ROOT, text=True, timeout=180, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    finally:
        subprocess.run([ROOT / ".venv/bin/ldm-lab", "down"], check=True, timeout=60)
    answers = done.stdout.split(f"{END}\n")[:-1]
    assert len(answers) == len(steps), done.stdout
    for (command, shown), answer in zip(steps, answers, strict=True):
        wanted, got = form(shown), form(answer)
        if "…" in wanted:  # the rest is left out
            got = [*got[: wanted.index("…")], "…"]
        assert got == wanted, f"{command}:\n{answer}"
