"""``ldmd --doctor --peer``: what two machines of the lab find out about each other."""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from machines import Machine

pytestmark = pytest.mark.live

PORT = 6482


def doctor(m: Machine, peer: Machine, *options: str) -> tuple[int, str]:
    done = subprocess.run(
        ["ip", "netns", "exec", m.placed.namespace, Path(sys.executable).with_name("ldmd"),
         "--config", m.placed.folder / "machine.toml", "--doctor", "--peer", peer.name, *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.stderr
    return done.returncode, done.stdout


def found(m: Machine, peer: Machine) -> dict[str, dict[str, str]]:
    _, out = doctor(m, peer, "--json")
    return {check["name"]: check for check in json.loads(out)["checks"]}


@contextmanager
def dropped(m: Machine, *words: str):
    """Packets into machine *m* that match are dropped."""

    def nft(text: str) -> None:
        subprocess.run(
            ["ip", "netns", "exec", m.placed.namespace, "nft", "-f", "-"],
            input=text, text=True, check=True,
        )  # fmt: skip

    rule = " ".join(words)
    nft("table inet doctor {\nchain in {\ntype filter hook input priority 0;\n" + rule + "\n}\n}\n")
    try:
        yield
    finally:
        nft("delete table inet doctor")


@pytest.fixture
def pair(world):
    return world.a, world.b


def test_two_sound_machines_lack_nothing_of_each_other(pair, tmp_path):
    one, two = pair
    shared, other = tmp_path / "shared.img", [tmp_path / f"{m.name}.img" for m in pair]
    for size, file in ((1, shared), (2, other[0]), (3, other[1])):
        with file.open("wb") as image:
            image.truncate(size << 20)
    for m, own in zip(pair, other, strict=True):
        m.ldm("add-vdsdev", str(shared), "doctor-shared@primary-vds0")
        m.ldm("add-vdsdev", str(own), "doctor-other@primary-vds0")
    one.ldm("add-vdsdev", str(tmp_path / "nowhere.img"), "doctor-lone@primary-vds0")
    try:
        checks = found(one, two)
    finally:
        for m in pair:
            m.ldm("remove-vdsdev", "doctor-shared@primary-vds0")
            m.ldm("remove-vdsdev", "doctor-other@primary-vds0")
        one.ldm("remove-vdsdev", "doctor-lone@primary-vds0")
    for name in ("peer", "peer trust", "from peer", "memory out", "memory in", "clock", "ldmd"):
        assert checks[name]["state"] == "ok", checks[name]
    same = checks["volume doctor-shared@primary-vds0"]
    assert (same["state"], same["found"]) == (
        "ok",
        "the same storage on both: the target saw the source's lock come and go",
    )
    assert checks["volume doctor-other@primary-vds0"]["state"] == "lack"
    assert "the sizes differ: 2M and 3M" in checks["volume doctor-other@primary-vds0"]["found"]
    assert checks["volume doctor-lone@primary-vds0"]["state"] == "limit"


@pytest.mark.long
def test_each_way_that_is_closed_is_named_with_its_remedy(pair):
    one, two = pair
    with dropped(one, f"tcp dport {PORT} tcp flags syn drop"):
        assert found(one, two)["from peer"]["state"] == "lack"
    with dropped(one, "tcp dport 8101-8200 drop"):
        assert found(one, two)["memory in"]["state"] == "lack"
    with dropped(two, "tcp dport 8101-8200 drop"):
        closed = found(one, two)["memory out"]
    assert closed["state"] == "lack"
    assert closed["remedy"].startswith(f"let TCP 8101-8200 to {two.name} through")


def test_without_ldmd_only_the_connection_is_tried_and_that_is_said(world, pair):
    one, two = pair
    world.lab.stop(one.placed)
    try:
        checks = found(one, two)
    finally:
        world.lab.start(one.placed)
    assert checks["ldmd"]["state"] == "limit"
    assert checks["peer"]["state"] == "ok"
    assert checks["peer trust"]["state"] == "unknown"
    assert checks["peer trust"]["found"].startswith("only a TCP and TLS connection")


def test_trust_that_is_missing_on_either_side_is_told_apart(pair):
    one, two = pair
    for m, words in ((one, "has not been accepted yet"), (two, "the login is over, or there was")):
        accepted = m.placed.folder / "state/peers.json"
        kept = accepted.rename(accepted.with_suffix(".kept"))
        try:
            check = found(one, two)["peer trust"]
        finally:
            kept.rename(accepted)
        assert check["state"] == "lack"
        assert words in check["found"]


def test_a_machine_that_does_not_answer_is_a_lack(world, pair):
    one, two = pair
    world.lab.stop(two.placed)
    try:
        code, out = doctor(one, two)
    finally:
        world.lab.start(two.placed)
    assert code == 1
    assert "\nlack     peer  " in out
    assert "Connection refused" in out
