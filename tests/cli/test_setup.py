"""``ldm-setup``: the proposal, its commands, and trust."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from stub_ldmd import StubLdmd

from lodom.cli.setup import proposal, setup
from lodom.core.units import GIB

FRESH = {
    "vcpu": [{"pid": i, "core": i // 4, "bound": "primary"} for i in range(32)],
    "mau": [
        {"id": i, "cpuset": list(range(4 * i, 4 * i + 4)), "bound": "primary"} for i in range(8)
    ],
    "memory": [{"pa": "0x0", "size": 32 * GIB, "bound": "primary"}],
}
TAKEN = {
    "vcpu": [{"pid": 0, "core": 0, "bound": "primary"}, {"pid": 1, "core": 1, "bound": ""}],
    "mau": [],
    "memory": [{"pa": "0x0", "size": GIB, "bound": ""}],
}
FIRST = [
    ["add-vds", "primary-vds0", "primary"],
    ["add-vcc", "port-range=5000-5100", "primary-vcc0", "primary"],
    ["add-vsw", "net-dev=eth0", "primary-vsw0", "primary"],
    ["set-mau", "2", "primary"],
    ["set-vcpu", "8", "primary"],
    ["set-memory", "8G", "primary"],
]


def test_proposal_for_a_fresh_machine_is_the_guides() -> None:
    assert proposal([], FRESH, net_dev="eth0") == FIRST


def test_what_exists_is_left_alone() -> None:
    services = [{"vcc": [{}], "vsw": [{}], "vds": [{}]}]
    assert proposal(services, TAKEN) == []


def test_a_quarter_is_rounded_up_to_whole_cores() -> None:
    strands = [{"pid": i, "core": i // 4, "bound": "primary"} for i in range(12)]
    devices = {"vcpu": strands, "mau": [], "memory": []}
    assert ["set-vcpu", "4", "primary"] in proposal([], devices)


def test_threads_that_are_numbered_behind_all_cores_belong_to_their_cores() -> None:
    """As most hosts number them: CPUs 0 and 6 are core 0, 1 and 7 are core 1."""
    devices = {
        "vcpu": [{"pid": i, "core": i % 6, "bound": "primary"} for i in range(12)],
        "mau": [{"id": i, "cpuset": [i, i + 6], "bound": "primary"} for i in range(6)],
        "memory": [],
    }
    assert proposal([], devices)[3:] == [["set-mau", "2", "primary"], ["set-vcpu", "4", "primary"]]


def fresh(verb: str, _arguments: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
    known = {
        "list-services": {"services": []},
        "list-devices": FRESH,
        "list-domain": {"domains": [{"flags": "-n-cv-"}]},
    }
    yield {"result": known.get(verb, {})}


def test_yes_shows_and_runs_the_commands(
    ldmd: StubLdmd, capsys: pytest.CaptureFixture[str]
) -> None:
    ldmd.answers = fresh
    assert setup(["--yes", "--net-dev", "eth0"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"# ldm {' '.join(words)}" for words in FIRST]
    assert [verb for verb, _ in ldmd.asked[3:]] == [
        "add-vdiskserver",
        "add-vconscon",
        "add-vswitch",
        "set-mau",
        "set-vcpu",
        "set-memory",
    ]


def test_without_a_terminal_nothing_is_run(
    ldmd: StubLdmd, capsys: pytest.CaptureFixture[str]
) -> None:
    ldmd.answers = fresh
    assert setup([]) == 1
    assert capsys.readouterr().err == "To run these commands: ldm-setup --yes\n"
    assert {verb for verb, _ in ldmd.asked} == {"list-services", "list-devices", "list-domain"}


def test_the_first_failure_stops(ldmd: StubLdmd) -> None:
    def answers(verb: str, arguments: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
        if verb == "add-vconscon":
            yield {"error": {"exit": 4, "text": "no"}}
        else:
            yield from fresh(verb, arguments)

    ldmd.answers = answers
    assert setup(["--yes"]) == 4
    assert ldmd.asked[-1][0] == "add-vconscon"


def test_a_share_that_waits_for_the_next_boot_is_not_proposed_again(
    ldmd: StubLdmd, capsys: pytest.CaptureFixture[str]
) -> None:
    def answers(verb: str, arguments: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
        if verb == "list-domain":
            yield {"result": {"domains": [{"flags": "-ndcv-"}]}}
        elif verb == "list-services":
            yield {"result": {"services": [{"vcc": [{}], "vsw": [{}], "vds": [{}]}]}}
        else:
            yield from fresh(verb, arguments)

    ldmd.answers = answers
    assert setup(["--yes"]) == 0
    assert "waits for the next boot" in capsys.readouterr().out
    assert [verb for verb, _ in ldmd.asked] == ["list-services", "list-devices", "list-domain"]


def test_a_guest_in_one_go(ldmd: StubLdmd, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "guest",
        "web1",
        "--disk",
        "/d.qcow2",
        "--cd",
        "/s.iso",
        "--vcpu",
        "2",
        "--memory",
        "2G",
        "--firmware",
        "uefi",
    ]
    assert setup([*words, "--yes"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "# ldm add-vdsdev /d.qcow2 web1-disk0@primary-vds0",
        "# ldm add-vdsdev options=ro /s.iso web1-cd0@primary-vds0",
        "# ldm add-domain web1",
        "# ldm set-vcpu 2 web1",
        "# ldm set-memory 2G web1",
        "# ldm add-vdisk disk0 web1-disk0@primary-vds0 web1",
        "# ldm add-vdisk cd0 web1-cd0@primary-vds0 web1",
        "# ldm add-vnet vnet0 primary-vsw0 web1",
        "# ldm set-variable firmware=uefi web1",
    ]
    assert len(ldmd.asked) == 9
    assert setup([*words, "--exports"]) == 1
    said = capsys.readouterr()
    assert [line.split()[2] for line in said.out.splitlines()] == ["add-vdsdev", "add-vdsdev"]
    assert len(ldmd.asked) == 9


def test_fingerprint(ldmd: StubLdmd, capsys: pytest.CaptureFixture[str]) -> None:
    ldmd.answers = lambda _verb, _arguments: iter([{"result": {"fingerprint": "SHA256:ab"}}])
    assert setup(["fingerprint"]) == 0
    assert capsys.readouterr().out == "SHA256:ab\n"


def test_trust_with_a_fingerprint_does_not_ask(ldmd: StubLdmd) -> None:
    assert setup(["trust", "t2", "--fingerprint", "SHA256:ab"]) == 0
    assert ldmd.asked == [("trust-peer", {"host": "t2", "fingerprint": "SHA256:ab"})]


def test_trust_without_a_terminal_only_shows(
    ldmd: StubLdmd, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = {"trust-peer": "SHA256:ab", "show-fingerprint": "SHA256:cd"}
    ldmd.answers = lambda verb, _: iter([{"result": {"fingerprint": shown[verb]}}])
    assert setup(["trust", "t2"]) == 1
    said = capsys.readouterr()
    assert said.err == "To accept it: ldm-setup trust t2 --fingerprint SHA256:ab\n"
    assert said.out.splitlines()[:4] == [
        "The certificate of t2 is", "SHA256:ab", "and that of this machine", "SHA256:cd",
    ]  # fmt: skip
    assert ldmd.asked == [("trust-peer", {"host": "t2"}), ("show-fingerprint", {})]


def test_the_guests_are_stopped_and_started_by_one_order_each(
    ldmd: StubLdmd, capsys: pytest.CaptureFixture[str]
) -> None:
    ldmd.answers = lambda _verb, _arguments: iter(
        [{"progress": {"held": ["ldg9"]}}, {"result": {}}]
    )
    assert setup(["stop-guests", "--timeout", "7"]) == 0
    assert capsys.readouterr().err == "LDom ldg9 is left alone: a migration holds it\n"
    assert setup(["stop-guests"]) == 0
    assert setup(["start-guests"]) == 0
    asked = [("stop-guests", {"timeout": seconds}) for seconds in (7, 120)]
    assert ldmd.asked == [*asked, ("start-guests", {})]


@pytest.mark.parametrize("word", ["-1", "soon"])
def test_a_time_out_that_is_none(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        setup(["stop-guests", "--timeout", word])
    assert end.value.code == 2
    assert f"invalid seconds value: {word!r}" in capsys.readouterr().err
