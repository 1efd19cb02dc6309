"""What the viewer sees: headings, sentences, commands as typed with what they print."""

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from textwrap import fill
from time import monotonic

from lodom.cli.main import EXIT_INTERRUPTED, run
from lodom.lab.topology import Placed

PROMPT = b"Target Password:"
_ASK_S = 20.0


class DemoFault(Exception):
    """The demonstration is not what it says; the text tells what is wrong."""


class Stage:
    """Prints; in bold and dim on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty() and sys.stderr.isatty()
        self._began = monotonic()
        self._acts = 0
        self._silent = False
        """The last line was a command that has printed nothing."""

    @property
    def seconds(self) -> float:
        """Since the demonstration began."""
        return monotonic() - self._began

    def act(self, title: str) -> None:
        """A heading."""
        self._acts += 1
        self._print(f"\n== {self._acts}. {title} ".ljust(78, "="), "1")

    def tell(self, text: str) -> None:
        """A paragraph."""
        self._print("\n" + fill(" ".join(text.split()), 78), "2")

    def show(self, lines: Iterable[str]) -> None:
        """Lines as they are."""
        self._print("\n".join(["", *lines]))

    def check(self, holds: bool, what: str) -> None:
        """One line that says what was found to hold.

        Raises:
            DemoFault: it does not.
        """
        if not holds:
            raise DemoFault(f"this does not hold: {what}")
        self._print(f"  ok  {what}")

    def command(self, where: str, *words: str) -> None:
        """The line as it is typed on a machine."""
        line = " ".join(f'"{w}"' if " " in w else w for w in words)
        self._print(f"{'' if self._silent else chr(10)}{where}# {line}", "1")
        self._silent = True

    def ldm(self, p: Placed, *words: str, status: int = 0, bar: bool = False) -> str:
        """Run ``ldm`` on a machine and show what it prints; the text.  With *bar* it draws one.

        Raises:
            DemoFault: its exit status is not *status*.
        """
        self.command(p.machine.name, "ldm", *words)
        if bar:
            stderr = None if self.terminal else subprocess.STDOUT
            done = subprocess.run(
                ldm_argv(*words), env=ldm_environment(p), stdout=subprocess.PIPE, stderr=stderr,
                text=True, check=False,
            )  # fmt: skip
            code, text = done.returncode, done.stdout
        else:
            code, text = _at_once(p, words)
        self.output(text)
        self._expect(code, status, words)
        return text

    def ldm_asked(self, p: Placed, secret: str, *words: str, status: int = 0) -> str:
        """As ``ldm``, on a terminal of its own, on which the password is typed when asked for."""
        self.command(p.machine.name, "ldm", *words)
        master, slave = pty.openpty()
        try:
            with subprocess.Popen(
                ["setsid", "-c", *ldm_argv(*words)], env=ldm_environment(p), stdin=slave,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            ) as process:  # fmt: skip
                os.close(slave)
                asked = b""
                while PROMPT not in asked:
                    asked += os.read(master, 256)
                os.write(master, f"{secret}\n".encode())
                text = process.communicate(timeout=_ASK_S)[0]
        finally:
            os.close(master)
        text = f"{PROMPT.decode()}\n{text}"
        self.output(text)
        self._expect(process.returncode, status, words)
        return text

    def output(self, text: str) -> None:
        """What a command printed."""
        if text:
            self._print(text.rstrip("\n"))

    def _expect(self, code: int, status: int, words: tuple[str, ...]) -> None:
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
        if code != status:
            raise DemoFault(f"ldm {' '.join(words)} ended with {code}, not {status}")

    def _print(self, text: str, style: str = "") -> None:
        if self.terminal and style:
            text = re.sub(r"(?m)^(.+)$", rf"\033[{style}m\1\033[0m", text)
        print(text, flush=True)
        self._silent = False


def _at_once(p: Placed, words: tuple[str, ...]) -> tuple[int, str]:
    """Exit code and text of ``ldm``, run in this process: starting Python takes it longest."""
    os.environ["LODOM_SOCKET"] = str(p.socket)
    text = io.StringIO()
    with redirect_stdout(text), redirect_stderr(text):
        return run(words), text.getvalue()


def ldm_argv(*words: str) -> list[str]:
    """The ``ldm`` of this installation."""
    return [str(Path(sys.executable).with_name("ldm")), *words]


def ldm_environment(p: Placed) -> dict[str, str]:
    """The environment in which ``ldm`` talks to that machine's ldmd."""
    return {**os.environ, "LODOM_SOCKET": str(p.socket)}
