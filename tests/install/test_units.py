"""The unit files and the settings that an installation brings; shell scripts are well formed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lodom.daemon import config

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
UNITS = sorted(PACKAGING.glob("*.service"))


def options(unit: Path) -> list[tuple[str, str]]:
    """(key, value) of each line."""
    lines = unit.read_text(encoding="utf-8").splitlines()
    return [(k, v) for k, _, v in (line.partition("=") for line in lines) if v and k[0] != "#"]


def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    """``systemd-analyze verify``, with the programs where the units say."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace("@BIN@", str(tmp_path))
        (tmp_path / unit.name).write_text(text)
    for program in ("ldmd", "ldm-setup"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(tmp_path / u.name for u in UNITS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "ldmd" in line or "lodom" in line]
    assert ours == []


def test_nothing_that_happens_to_ldmd_happens_to_a_guest() -> None:
    """A stop of ldmd leaves its children, and stops no other unit of ours with it."""
    ldmd = dict(options(PACKAGING / "ldmd.service"))
    assert (ldmd["KillMode"], ldmd["Restart"], ldmd["Type"]) == ("process", "always", "notify")
    bound = {"Requires", "Requisite", "BindsTo", "PartOf", "PropagatesStopTo"}
    for unit in UNITS:
        assert not {key for key, _ in options(unit)} & bound, unit


def test_ldmd_is_started_again_however_often_it_fails() -> None:
    """systemd would give up after five starts within ten seconds."""
    assert ("StartLimitIntervalSec", "0") in options(PACKAGING / "ldmd.service")


def test_the_guests_go_down_in_order_also_when_their_start_was_refused() -> None:
    """systemd runs no ``ExecStop`` of a unit whose start has failed."""
    guests = dict(options(PACKAGING / "lodom-guests.service"))
    assert guests["ExecStart"] == "-@BIN@/ldm-setup start-guests"
    assert guests["RemainAfterExit"] == "yes"


def test_the_guests_go_down_before_ldmd_and_within_the_time_of_their_unit() -> None:
    guests = dict(options(PACKAGING / "lodom-guests.service"))
    assert guests["After"] == "ldmd.service"  # stopped in the other order
    given = re.search(r"stop-guests --timeout (\d+)$", guests["ExecStop"])
    assert given
    assert int(given[1]) + 30 <= int(guests["TimeoutStopSec"])


def test_the_settings_brought_are_the_defaults_and_the_group() -> None:
    """Also with every line that is commented out put in."""
    path = PACKAGING / "machine.toml"
    plain = config.load(path)
    assert plain.auth.write.groups == ("lodom",)
    assert (plain.host, plain.memory, plain.migration) == (
        config.Config().host, config.Config().memory, config.Config().migration,
    )  # fmt: skip


def test_every_setting_shown_is_one(tmp_path: Path) -> None:
    text = (PACKAGING / "machine.toml").read_text(encoding="utf-8")
    shown = re.sub(r"^# ([a-z-]+ = )", r"\1", text, flags=re.M)
    assert shown.count("\n# ") < text.count("\n# ")
    filled = shown.replace('address = ""', 'address = "192.0.2.1"')
    (tmp_path / "machine.toml").write_text(filled)
    config.load(tmp_path / "machine.toml")


@pytest.mark.parametrize(
    "script", ["install", "packaging/deb.sh", "tests/install/root.sh"], ids=lambda s: s
)
def test_scripts_are_well_formed(script: str) -> None:
    subprocess.run(["bash", "-n", ROOT / script], check=True)


def installer(*words: str) -> "subprocess.CompletedProcess[str]":
    """``./install`` with words that change nothing."""
    return subprocess.run(
        [ROOT / "install", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL,
        check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--frob"], "unknown option --frob; known: --yes"),
        (["--prefix"], "--prefix needs a folder"),
        (["--prefix", "here"], "--prefix here: must be an absolute path"),
        (["--purge"], "--purge goes with --uninstall"),
        (["--uninstall", "--destdir", "/nonexistent"], "nothing is installed under /nonexistent"),
    ],
)
def test_a_word_that_cannot_be_used(words: list[str], said: str) -> None:
    done = installer(*words)
    assert done.returncode == 1
    assert done.stderr.startswith(f"install: {said}")
