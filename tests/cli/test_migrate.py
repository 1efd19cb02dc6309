"""``ldm migrate-domain``: password, first contact, findings, interruption."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from stub_ldmd import StubLdmd

from lodom.cli.main import run
from lodom.cli.progress import figures, percent

LDM = [sys.executable, "-c", "from lodom.cli.main import main; main()"]
FINDINGS = [
    {
        "rule": "R18",
        "severity": "blocker",
        "text": "Unable to bind 2G memory region at real address 0x8000000",
        "remedy": "Free one range of 2G.",
        "side": "target",
        "details": {},
    },
    {
        "rule": "R29",
        "severity": "warning",
        "text": "storage of vol1 cannot be compared",
        "remedy": "",
        "side": "source",
        "details": {},
    },
    {"rule": "R02", "severity": "note", "text": "no crypto", "remedy": "", "side": "source"},
]


def refusal(verdict: str = "failed", **fields: Any) -> dict[str, Any]:
    text = f"Domain Migration of LDom ldg-src {verdict}"
    known = {"code": "LDM-044", "kind": "refused", "exit": 6, "text": text, "remedy": "Mend."}
    return {"error": {**known, "findings": FINDINGS, **fields}}


UNTRUSTED = {
    "error": {
        "code": "LDM-041",
        "kind": "peer",
        "exit": 7,
        "text": "The certificate of target t2 is not trusted: fingerprint SHA256:ab has not been"
        " accepted yet",
        "remedy": "",
    }
}


def untrusting(verb: str, arguments: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
    """ldmd at first contact with t2."""
    if verb == "trust-peer":
        assert arguments == {"host": "t2"}
        yield {"result": {"host": "t2", "fingerprint": "SHA256:ab", "accepted": False}}
    else:
        yield {"result": {"numbers": {}}} if arguments.get("accept") else UNTRUSTED


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text("secret\nsecond line\n")
    path.chmod(0o600)
    return str(path)


def test_password_of_a_file_and_the_users_name_go_to_ldmd(
    ldmd: StubLdmd, password_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["migrate", "-p", password_file, "ldg1", "t2:new"]) == 0
    assert capsys.readouterr() == ("", "")
    ((verb, arguments),) = ldmd.asked
    assert verb == "migrate-domain"
    assert arguments.pop("user")
    assert arguments == {"ldom": "ldg1", "host": "t2", "target": "new", "password": "secret"}


def test_an_account_without_a_name_leaves_the_user_to_ldmd(
    ldmd: StubLdmd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a container, or while the directory service is down, a user id has none."""
    monkeypatch.setattr(os, "getuid", lambda: (1 << 31) - 5)
    assert run(["migrate", "-c", "ldg1", "t2"]) == 0
    assert capsys.readouterr() == ("", "")
    assert [arguments.get("user") for _, arguments in ldmd.asked] == [None]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_password_file_that_others_may_read_is_refused(
    ldmd: StubLdmd, password_file: str, mode: int, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(password_file).chmod(mode)
    assert run(["migrate", "-p", password_file, "ldg1", "t2"]) == 2
    assert "others may read it" in capsys.readouterr().err
    assert ldmd.asked == []


def test_password_file_must_be_a_regular_file_of_ones_own(
    ldmd: StubLdmd, password_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    for path, why in ((fifo, "not a regular file"), (tmp_path / "none", "No such file")):
        assert run(["migrate", "-p", str(path), "ldg1", "t2"]) == 2
        assert why in capsys.readouterr().err
    if os.getuid() == 0:
        os.chown(password_file, 1234, -1)
        assert run(["migrate", "-p", password_file, "ldg1", "t2"]) == 2
        assert "belongs to another user" in capsys.readouterr().err
    assert ldmd.asked == []


@pytest.mark.parametrize("encoding", ["utf-8:strict", "utf-8:surrogateescape"])
def test_a_password_that_is_no_text_is_refused(encoding: str) -> None:
    """As one in a file is; nobody's terminal is asked."""
    done = subprocess.run(
        [*LDM, "migrate-domain", "ldg1", "t2"], env={**os.environ, "PYTHONIOENCODING": encoding},
        input=b"\xff\n", capture_output=True, start_new_session=True, check=False,
    )  # fmt: skip
    assert (done.returncode, b"not text" in done.stderr) == (2, True), done.stderr


def test_certificates_need_no_password(ldmd: StubLdmd) -> None:
    assert run(["migrate", "-c", "ldg1", "t2"]) == 0
    assert "password" not in ldmd.asked[0][1]


def test_refusal_is_the_specifications_example(
    ldmd: StubLdmd, password_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ldmd.answers = lambda _verb, _arguments: iter([refusal()])
    assert run(["migrate-domain", "-p", password_file, "ldg-src", "dt212-239"]) == 6
    assert capsys.readouterr().err == (
        "Unable to bind 2G memory region at real address 0x8000000\n"
        "Warning: storage of vol1 cannot be compared\n"
        "Domain Migration of LDom ldg-src failed\n"
    )


def test_dry_run_with_v_adds_ids_remedies_and_the_drawing(
    ldmd: StubLdmd, password_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = refusal("would fail if attempted", drawing="0x0 |####|\n")
    ldmd.answers = lambda _verb, _arguments: iter([answer])
    assert run(["migrate", "-n", "-v", "-p", password_file, "ldg-src", "t2"]) == 6
    assert capsys.readouterr().err.splitlines() == [
        "R18 Unable to bind 2G memory region at real address 0x8000000",
        "    Remedy: Free one range of 2G.",
        "Warning: R29 storage of vol1 cannot be compared",
        "Note: R02 no crypto",
        "",
        "0x0 |####|",
        "",
        "Domain Migration of LDom ldg-src would fail if attempted",
    ]
    assert ldmd.asked[0][1]["dry_run"] is True


def test_json_prints_the_findings(
    ldmd: StubLdmd, password_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ldmd.answers = lambda _verb, _arguments: iter([refusal(rules="1.2")])
    assert run(["migrate", "-n", "--json", "-p", password_file, "ldg-src", "t2"]) == 6
    captured = capsys.readouterr()
    found = {"findings": FINDINGS, "rules": "1.2"}
    assert (json.loads(captured.out), captured.err) == (found, "")


def test_the_report_says_which_rules_were_used(
    ldmd: StubLdmd, password_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With -v, allowed or refused; the verdict stays the last line."""
    words = ["migrate", "-n", "-v", "-p", password_file, "ldg-src", "t2"]
    ldmd.answers = lambda _verb, _arguments: iter([refusal(rules="3.x")])
    assert run(words) == 6
    assert capsys.readouterr().err.splitlines()[-2] == "Rules:        3.x"
    result = {"domain": "ldg-src", "findings": [], "rules": "1.2"}
    ldmd.answers = lambda _verb, _arguments: iter([{"result": result}])
    assert run(words) == 0
    assert capsys.readouterr().out == "Rules:        1.2\n"


def test_success_prints_numbers_with_v(
    ldmd: StubLdmd, password_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = {"downtime_ms": 87, "transferred": 3 << 29, "total_ms": 4210, "streams": 3}
    result = {"domain": "ldg1", "numbers": numbers, "warnings": ["a name differs"]}
    ldmd.answers = lambda _verb, _arguments: iter([{"progress": {}}, {"result": result}])
    assert run(["migrate", "-v", "-p", password_file, "ldg1", "t2"]) == 0
    captured = capsys.readouterr()
    assert captured.out == (
        "Streams:      3\nTotal time:   4.2 s\nLongest stop: 87 ms\nBytes sent:   1.5G\n"
    )
    assert captured.err == "Warning: a name differs\n"


@pytest.mark.parametrize(
    ("words", "given", "code", "said"),
    [
        ("migrate ldg1 t2", "<&-", 2, "no terminal to read it from; use -p file"),
        ("migrate ldg1 t2", r"< <(printf '\x80')", 2, "not text"),
        ("recover-domain ldg1", "<&-", 0, "To have it done: ldm recover-domain -y ldg1"),
    ],
)
def test_standard_input_that_says_nothing_is_no_internal_error(
    ldmd: StubLdmd, words: str, given: str, code: int, said: str
) -> None:
    """Jobs of a scheduler may have none at all."""
    ldmd.answers = lambda *_: iter([{"result": {"lines": ["In doubt."], "action": "end it"}}])
    done = subprocess.run(
        ["bash", "-c", f'exec "$@" {words} {given}', "ldm", *LDM], start_new_session=True,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_first_contact_without_a_terminal_names_the_command(
    ldmd: StubLdmd, password_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ldmd.answers = untrusting
    assert run(["migrate", "-p", password_file, "ldg1", "t2"]) == 7
    first = capsys.readouterr().err.splitlines()[0]
    assert first == "To accept it: ldm-setup trust t2 --fingerprint SHA256:ab"
    assert [verb for verb, _ in ldmd.asked] == ["migrate-domain", "trust-peer"]


def test_progress_in_words() -> None:
    event = {
        "phase": "copying",
        "total": 1000 << 20,
        "remaining": 250 << 20,
        "rate_bytes_s": 50 << 20,
        "dirty_bytes_s": 3 << 20,
    }
    assert percent(event) == 75
    assert figures(event) == "50.0 MB/s, 250 MB left, guest writes 3.0 MB/s"
    assert (percent({}), figures({})) == (0, "")


def test_progress_is_drawn_on_a_terminal_and_wiped_off(ldmd: StubLdmd, password_file: str) -> None:
    event = {"phase": "copying", "total": 100 << 20, "remaining": 25 << 20}
    answers = [{"progress": event}, {"result": {"numbers": {}}}]
    ldmd.answers = lambda _verb, _arguments: iter(answers)
    terminal = Terminal("migrate-domain", "-p", password_file, "ldg1", "t2")
    assert terminal.end() == 0
    for word in ("ldg1 -> t2", "transfer", "75%", "25 MB left"):
        assert word in terminal.seen


class Terminal:
    """``ldm`` on a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            # The terminal is the pty, whatever the tests themselves run on (TERM=dumb, say).
            os.execve(sys.executable, [*LDM, *words], {**os.environ, "TERM": "xterm"})
        self.seen = ""

    def until(self, text: str) -> None:
        while text not in self.seen:
            self.seen += os.read(self._fd, 4096).decode()

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def end(self) -> int:
        """The exit code, everything said until then read."""
        try:
            while chunk := os.read(self._fd, 4096):
                self.seen += chunk.decode()
        except OSError:
            pass  # a terminal whose other side is closed reads as EIO
        self.lose()
        return self.code()

    def lose(self) -> None:
        os.close(self._fd)

    def code(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_a_terminal_that_is_lost_does_not_spoil_the_move(
    ldmd: StubLdmd, password_file: str
) -> None:
    lost = threading.Event()

    def answers(_verb: str, _arguments: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
        yield {"progress": {"phase": "copying"}}
        assert lost.wait(10)
        yield {"progress": {"phase": "ceded"}}
        yield {"result": {"domain": "ldg1", "numbers": {}, "warnings": ["beware"]}}

    ldmd.answers = answers
    terminal = Terminal("migrate-domain", "-p", password_file, "ldg1", "t2")
    terminal.until("transfer")
    terminal.lose()
    lost.set()
    assert terminal.code() == 0


def test_who_is_told_of_no_lost_terminal_goes_on_all_the_same(
    ldmd: StubLdmd, password_file: str
) -> None:
    """As in the background of a shell whose session ends."""
    begun, lost = threading.Event(), threading.Event()

    def answers(_verb: str, _arguments: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
        begun.set()
        assert lost.wait(10)
        for phase in ("copying", "ceded"):
            yield {"progress": {"phase": phase, "say": "on"}}
        yield {"result": {"domain": "ldg1", "numbers": {}, "warnings": ["beware"]}}

    ldmd.answers = answers
    terminal, end = pty.openpty()
    words = ["migrate-domain", "-p", password_file, "ldg1", "t2"]
    process = subprocess.Popen([*LDM, *words], stderr=end, env={**os.environ, "TERM": "xterm"})
    os.close(end)
    assert begun.wait(10)
    os.close(terminal)
    lost.set()
    assert process.wait(10) == 0


def test_password_is_asked_for_on_the_terminal(ldmd: StubLdmd) -> None:
    ldmd.answers = lambda _verb, _arguments: iter([refusal()])
    terminal = Terminal("migrate-domain", "ldg-src", "dt212-239")
    terminal.until("Target Password:")
    terminal.type("hush\n")
    assert terminal.end() == 6
    assert ldmd.asked[0][1]["password"] == "hush"
    assert "hush" not in terminal.seen
    assert "Target Password:\r\n" in terminal.seen
    assert terminal.seen.replace("\r", "").endswith("Domain Migration of LDom ldg-src failed\n")


def test_first_contact_is_accepted_on_the_terminal(ldmd: StubLdmd, password_file: str) -> None:
    ldmd.answers = untrusting
    terminal = Terminal("migrate-domain", "-p", password_file, "ldg1", "t2")
    terminal.until("Accept this certificate? (yes/no) ")
    terminal.type("perhaps\nyes\n")
    assert terminal.end() == 0
    assert "SHA256:ab" in terminal.seen
    assert [a.get("accept") for _, a in ldmd.asked] == [None, None, "SHA256:ab"]


def test_a_changed_certificate_is_not_offered(ldmd: StubLdmd, password_file: str) -> None:
    changed = {**UNTRUSTED["error"], "text": "fingerprint SHA256:ab has CHANGED", "remedy": ""}
    ldmd.answers = lambda _verb, _arguments: iter([{"error": changed}])
    terminal = Terminal("migrate-domain", "-p", password_file, "ldg1", "t2")
    assert terminal.end() == 7
    assert "Accept" not in terminal.seen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_cancels_and_waits_for_the_end(
    ldmd: StubLdmd, password_file: str, number: signal.Signals
) -> None:
    """A signal during the check finds nothing to cancel; it is passed on when the copy begins."""
    asked, refused, cancelled = threading.Event(), threading.Event(), threading.Event()

    def answers(verb: str, arguments: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
        if verb == "cancel-operation":
            assert arguments == {"operation": "migration", "ldom": "ldg1"}
            if not refused.is_set():
                refused.set()
                yield {"error": {"code": "LDM-047", "exit": 4, "text": "nothing to cancel"}}
                return
            cancelled.set()
            yield {"result": {}}
            return
        asked.set()
        assert refused.wait(10)
        yield {"progress": {"phase": "copying"}}
        assert cancelled.wait(10)
        text = "cancelled\nDomain Migration of LDom ldg1 failed"
        yield {"error": {"code": "LDM-045", "exit": 10, "text": text}}

    ldmd.answers = answers
    command = [*LDM, "migrate", "-p", password_file, "ldg1", "t2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert asked.wait(10)
        process.send_signal(signal.SIGHUP)
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (10, "cancelled\nDomain Migration of LDom ldg1 failed\n")
