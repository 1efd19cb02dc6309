"""``ldm`` against a stand-in for ldmd: output, errors, exit codes, and no traceback ever."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from stub_ldmd import StubLdmd

from lodom.cli.main import run
from lodom.cli.recover import recover
from lodom.core import engine
from lodom.core.migration import conduct
from lodom.core.model.inventory import Inventory
from lodom.core.views import VIEWS, Live, view
from lodom.grammar.table import VERBS

LDM = [sys.executable, "-c", "from lodom.cli.main import main; main()"]


def answering(*documents: Mapping[str, Any]) -> Any:
    return lambda _verb, _arguments: iter(documents)


def error(**fields: Any) -> dict[str, Any]:
    return {"error": {"code": "LDM-020", "kind": "no-room", "exit": 5, "text": "No", **fields}}


def test_list(ldmd: StubLdmd, inventory: Inventory, capsys: pytest.CaptureFixture[str]) -> None:
    def answers(verb: str, arguments: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
        yield {"result": view(verb, arguments, inventory, Live())}

    ldmd.answers = answers
    assert run(["list", "ldg1"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("ldg1             bound      ------")
    assert ldmd.asked == [("list-domain", {"ldoms": ["ldg1"]})]


def test_success_is_silent(ldmd: StubLdmd, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["add-vcpu", "4", "ldg1"]) == 0
    assert capsys.readouterr() == ("", "")
    assert ldmd.asked == [("add-vcpu", {"number": 4, "ldom": "ldg1"})]


def test_what_ldmd_says_goes_to_standard_output(
    ldmd: StubLdmd, capsys: pytest.CaptureFixture[str]
) -> None:
    ldmd.answers = answering({"result": {"say": "LDom ldg1 started"}})
    assert run(["start", "ldg1"]) == 0
    assert capsys.readouterr() == ("LDom ldg1 started\n", "")


def test_error_goes_to_standard_error_with_its_exit_code(
    ldmd: StubLdmd, capsys: pytest.CaptureFixture[str]
) -> None:
    ldmd.answers = answering(error(text="Not enough free CPUs present", remedy="Ask for fewer."))
    assert run(["add-vcpu", "4", "ldg1"]) == 5
    assert capsys.readouterr() == ("", "Not enough free CPUs present\n")
    assert run(["-v", "add-vcpu", "4", "ldg1"]) == 5
    assert capsys.readouterr().err.splitlines()[1] == "Remedy: Ask for fewer."


def test_ldmd_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LODOM_SOCKET", str(tmp_path / "nobody"))
    assert run(["list"]) == 8
    assert capsys.readouterr().err == (
        "Failed to connect to logical domain manager: Connection refused\n"
    )


def test_ldmd_goes_away(ldmd: StubLdmd, capsys: pytest.CaptureFixture[str]) -> None:
    ldmd.answers = answering({"progress": {"phase": "copying"}})
    assert run(["bind", "ldg1"]) == 8
    assert capsys.readouterr().err == (
        "Lost the connection to the logical domain manager: ldmd closed it\n"
    )


def test_bad_value_names_the_word_and_shows_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["add-vcpu", "x", "ldg1"]) == 2
    assert capsys.readouterr().err == (
        "Invalid number 'x': not a whole number\nUsage: ldm add-vcpu <number> <ldom>\n"
    )


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["foo"]) == 2
    text = "Unknown command foo; use --help option for list of available commands\n"
    assert capsys.readouterr().err == text


@pytest.mark.parametrize("words", [["list-constraints", "-x"]])
def test_what_is_not_built_says_so(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 6
    assert "this release does not have it yet" in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    usage = capsys.readouterr().out
    assert run(["--help"]) == 0
    assert capsys.readouterr().out == usage
    assert usage.startswith("Usage:\n ldm [--help] command")
    for words in (["--help", "rm-vds"], ["rm-vds", "--help"]):
        assert run(words) == 0
        assert "Usage: ldm remove-vds [-f] <service-name>" in capsys.readouterr().out
    assert run(["--help", "foo"]) == 2


def test_version(ldmd: StubLdmd, inventory: Inventory, capsys: pytest.CaptureFixture[str]) -> None:
    live = Live(release="9.9", protocol="1", schema="1")
    ldmd.answers = answering({"result": view("show-version", {}, inventory, live)})
    assert run(["-V"]) == 0
    assert "Logical Domain Manager (v 9.9)" in capsys.readouterr().out


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "ldm-041"]) == 0
    assert capsys.readouterr().out.startswith("LDM-041  The target's certificate")
    assert run(["explain", "R18"]) == 0
    assert capsys.readouterr().out.startswith("R18")
    assert run(["explain", "R99"]) == 3


def test_a_bug_is_one_line(ldmd: StubLdmd, capsys: pytest.CaptureFixture[str]) -> None:
    ldmd.answers = answering({"result": {"domains": [{}]}})
    assert run(["list"]) == 70
    assert capsys.readouterr().err == "Internal error: KeyError: 'name'\n"


def test_a_closed_pipe_is_no_error(ldmd: StubLdmd, inventory: Inventory) -> None:
    ldmd.answers = answering({"result": view("list-domain", {}, inventory, Live())})
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*LDM, "list"], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_grammar_says_truly_which_commands_are_built() -> None:
    """A command that ldmd has learnt loses its ``implemented=False`` in the table."""
    known = {*engine.COMMANDS, *conduct.ORDERS, *VIEWS, "explain", "show-fingerprint", "trust-peer"}
    known |= {"list-history", "examine-peer"}
    assert {verb.name for verb in VERBS if verb.implemented} == known


def test_recover_shows_and_asks_for_consent(
    ldmd: StubLdmd, capsys: pytest.CaptureFixture[str]
) -> None:
    ldmd.answers = answering({"result": {"lines": ["journal: CEDED"], "action": "resume here"}})
    assert recover({"ldom": "ldg1"}) == 0
    captured = capsys.readouterr()
    assert captured.out == "journal: CEDED\nThe one safe action: resume here\n"
    assert captured.err == "To have it done: ldm recover-domain -y ldg1\n"
    assert recover({"ldom": "ldg1", "yes": True}) == 0
    assert ldmd.asked[-1] == ("recover-domain", {"ldom": "ldg1", "yes": True})


HEAVY = {"dataclasses", "email", "http.client", "ssl", "rich", "argparse", "asyncio", "inspect"}


def test_common_path_loads_nothing_heavy(ldmd: StubLdmd) -> None:
    """The start takes under 60 ms because of what is not loaded."""
    program = (
        "import sys, lodom.cli.main as m; m.run(['list']); print(*sys.modules, file=sys.stderr)"
    )
    ldmd.answers = answering({"result": {"domains": []}})
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert HEAVY.isdisjoint(done.stdout.decode().split())


def test_start_takes_less_than_60_ms_more_than_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPU time, best of several: what other processes do does not count; nor does bare Python."""
    monkeypatch.setenv("LODOM_SOCKET", str(tmp_path / "nobody"))

    def best(command: list[str]) -> float:
        times = []
        for _ in range(8):
            before = os.times()
            subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
            after = os.times()
            user = after.children_user - before.children_user
            times.append(user + after.children_system - before.children_system)
        return min(times)

    assert best([*LDM, "list"]) - best([sys.executable, "-c", "pass"]) < 0.06


# -- odd surroundings ---------------------------------------------------------------------------


def test_each_of_several_domains_is_told_of_before_one_is_refused(
    ldmd: StubLdmd, capsys: pytest.CaptureFixture[str]
) -> None:
    ldmd.answers = answering({"progress": {"say": "LDom d1 stopped"}}, error(text="no d2"))
    assert run(["stop", "-f", "d1", "d2"]) == 5
    assert capsys.readouterr() == ("LDom d1 stopped\n", "no d2\n")


def shell(line: str, ldmd: StubLdmd) -> subprocess.CompletedProcess[str]:
    assert ldmd
    return subprocess.run(
        ["bash", "-c", line, LDM[0], *LDM[1:]], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ('"$0" "$@" -V >&-', 0, ""),
        ('"$0" "$@" --help >/dev/full', 10, "Standard output: No space left on device\n"),
        ('"$0" "$@" ""', 2, "Unknown command ; use --help option"),
        ('"$0" "$@" add-domain $\'d\\xff\'', 2, "it is no UTF-8 text\n"),
    ],
)
def test_what_a_shell_may_do(
    ldmd: StubLdmd, inventory: Inventory, line: str, code: int, said: str
) -> None:
    ldmd.answers = answering({"result": view("show-version", {}, inventory, Live())})
    done = shell(line, ldmd)
    assert done.returncode == code, done
    assert said in done.stderr
    assert "Internal error" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('"$0" "$@" stop d1 d2 >&$full', "no d2\n"),
        ('"$0" "$@" stop d1 d2 2>&$full', ""),
        ('"$0" "$@" stop d1 d2 >&$full 2>&1', ""),
    ],
)
@pytest.mark.parametrize("full", ["exec {full}>/dev/full", "exec {full}> >(:); wait $!"])
def test_a_refusal_that_nobody_reads_has_its_code(
    ldmd: StubLdmd, full: str, line: str, said: str
) -> None:
    ldmd.answers = answering({"progress": {"say": "LDom d1 stopped"}}, error(text="no d2"))
    done = shell(f"{full}; {line}", ldmd)
    assert (done.returncode, done.stderr) == (5, said)


def test_remedies_are_plain_text(ldmd: StubLdmd) -> None:
    from lodom.core import errors

    every = [e for e in vars(errors).values() if isinstance(e, type) and hasattr(e, "remedy")]
    assert len(every) > 30
    assert not [e for e in every if "`" in e.remedy()]
