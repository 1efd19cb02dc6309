"""The demonstration's parts that need no machine: drawings, memory, following a log."""

import threading
from pathlib import Path

import pytest

from lodom.core.units import GIB, MIB
from lodom.lab.demo import draw
from lodom.lab.demo.console import plain
from lodom.lab.demo.needs import NEEDED, examined, met
from lodom.lab.demo.stage import DemoFault, Stage
from lodom.lab.demo.world import fitting, topology
from lodom.lab.trouble import Follow
from lodom.lab.watch import Arrivals

DEVICES = {
    "vcpu": [
        {"pid": 0, "core": 0, "bound": "primary", "held": ""},
        {"pid": 1, "core": 0, "bound": "ldg1", "held": ""},
        {"pid": 2, "core": 1, "bound": "", "held": "ldg1"},
        {"pid": 3, "core": 1, "bound": "", "held": ""},
    ],
    "memory": [
        {"pa": "0x8000000", "size": 512 * MIB, "bound": "primary"},
        {"pa": "0x108000000", "size": GIB, "bound": ""},
    ],
}
SERVICES = {"services": [{"ldom": "primary", "vsw": [{"name": "primary-vsw0"}]}]}


def test_a_machine_is_drawn_with_what_it_has() -> None:
    assert draw.machine("alpha", DEVICES, SERVICES) == [
        "alpha --------------------------------",
        "strands      P primary, 1 ldg1, . free",
        "  core 0     P 1",
        "  core 1     1 .",
        "memory        size  owner",
        "  0x8000000   512M  primary ####",
        "  0x108000000 1G    free    .........",
        "switches     primary-vsw0",
    ]


def test_two_drawings_fit_on_eighty_columns() -> None:
    one = draw.machine("dt212-239", DEVICES, SERVICES)
    rows = draw.beside(one, one[:3])
    assert len(rows) == len(one)
    assert max(map(len, rows)) <= 80


def test_a_timeline_shows_the_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    counter, probe = Arrivals(), Arrivals()
    times = [i * 0.005 for i in range(60) if not 20 <= i < 40]
    for arrivals in (counter, probe):
        for time in times:
            monkeypatch.setattr("lodom.lab.watch.monotonic", lambda at=time: at + 1.0001)
            arrivals.add(1)
    rows = draw.timeline(counter, probe, 1.0, rows=3)
    assert [row.split()[-1] for row in rows[1:]] == ["20", "0", "20"]
    assert rows[2].count("|") == 0
    assert counter.silence(1.0)[1] == pytest.approx(0.105)


@pytest.mark.parametrize(
    ("free", "block"), [(64 * GIB, 2 * GIB), (4 * GIB, GIB), (3 * GIB, GIB // 2)]
)
def test_the_example_shrinks_with_the_memory_that_is_free(free: int, block: int) -> None:
    assert fitting(free) == block
    target = topology(block).machines[1].regions
    assert [r.size for r in target[1:]] == [block // 2] * 2


def test_too_little_memory_is_told() -> None:
    with pytest.raises(DemoFault, match="100M are free"):
        fitting(100 * MIB)


def test_a_log_is_followed_from_now_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old words\n")
    with Follow(log) as follow, log.open("a", buffering=1) as out:
        assert not follow.until("old", within=0.3)
        threading.Timer(0.05, out.write, ["new words\n"]).start()
        assert follow.until("new", within=10)
        assert follow.until("words", within=0)


def test_the_console_is_plain_text() -> None:
    assert plain(b"\xff\xfb\x01\xff\xfe\x22hi\r\nldg1# \x1b[6n") == b"hi\r\nldg1# "


def test_no_colour_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage()
    stage.act("One")
    stage.command("alpha", "ldm", "set-var", "a b")
    stage.command("alpha", "ldm", "list")
    stage.check(True, "it holds")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert 'alpha# ldm set-var "a b"\nalpha# ldm list\n  ok  it holds\n' in shown
    with pytest.raises(DemoFault, match="that"):
        stage.check(False, "that")


def test_the_needs_are_the_doctor_s() -> None:
    checks = {check["name"]: check for check in examined()["checks"]}
    assert set(NEEDED) <= set(checks)
    sound = {"found": "kvm", "state": "ok", "remedy": ""}
    document = {"checks": [{"name": name, **sound} for name in NEEDED]}
    assert met(document) == "kvm"
    document["checks"][1] |= {"state": "lack", "found": "7.2 is too old", "remedy": "install 8.2"}
    with pytest.raises(DemoFault, match=r"QEMU: 7\.2 is too old; install 8\.2"):
        met(document)
