"""Questions to the person at the terminal, and the password that 1.2 asks for."""

import os
import stat
import sys

from lodom.core.errors import InvalidValue

PROMPT = "Target Password:"


def interactive() -> bool:
    """Somebody can read our question and answer it."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def agreed(question: str) -> bool:
    """Ask until the answer is yes or no; the end of input is no."""
    while True:
        print(f"{question} (yes/no) ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if not answer or answer.strip().lower() in ("no", "n"):
            return False
        if answer.strip().lower() in ("yes", "y"):
            return True


def ask_password() -> str:
    """The password typed at the terminal; without one, the first line of standard input.

    Raises:
        InvalidValue: there is nothing to read it from, or it is no text.
    """
    try:
        typed = _typed()
        typed.encode()  # what is no text may come as surrogates, by the locale
        return typed
    except UnicodeError:
        raise InvalidValue(what="password", value="", why="not text") from None


def _typed() -> str:
    from getpass import getpass

    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        print(PROMPT, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline() if sys.stdin else ""  # closed by who started us
        print(file=sys.stderr)
        if not line:
            why = "no terminal to read it from; use -p file"
            raise InvalidValue(what="password", value="", why=why) from None
        return line.rstrip("\n")
    try:
        return getpass(PROMPT)
    except EOFError:
        raise InvalidValue(what="password", value="", why="none was typed") from None


def read_password(path: str) -> str:
    """The first line of a file that nobody else can read.

    Raises:
        InvalidValue: it cannot be read, is not a regular file, belongs to somebody else, or others
            may read or write it.
    """

    def refuse(why: str) -> InvalidValue:
        return InvalidValue(what="password file", value=path, why=why)

    try:
        # Opened once and judged by its descriptor: the name may change its meaning in between.
        with open(path, encoding="utf-8", opener=_quietly) as file:
            seen = os.fstat(file.fileno())
            if not stat.S_ISREG(seen.st_mode):
                raise refuse("not a regular file")
            if seen.st_uid not in (os.getuid(), 0):
                raise refuse("it belongs to another user")
            if stat.S_IMODE(seen.st_mode) not in (0o600, 0o400):
                raise refuse("others may read it; chmod 600")
            line = str(file.readline())
    except OSError as fault:
        raise refuse(fault.strerror or str(fault)) from fault
    except UnicodeDecodeError:
        raise refuse("not text") from None
    if not line.rstrip("\n"):
        raise refuse("its first line is empty")
    return line.rstrip("\n")


def _quietly(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
