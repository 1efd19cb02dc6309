"""``ldm``: words in, text and an exit code out.  Everything else is done by ldmd.

Standard library only, and little of it: scripts call ``ldm`` a thousand times.  What only some
commands need is imported where they need it.  Exit codes are those of ``core.errors.Kind``.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from lodom.client.http import Lost, Refused, Unreachable, call, socket_path
from lodom.grammar.parser import Command, find_verb, parse
from lodom.grammar.table import BY_NAME

EXIT_USAGE, EXIT_NO_LDMD, EXIT_FAILED, EXIT_BUG, EXIT_INTERRUPTED = 2, 8, 10, 70, 130


def main() -> None:
    """The entry point of the program."""
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """The exit code of ``ldm`` with *argv*."""
    words = list(argv)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - closed by who started us
    sys.stderr = sys.stderr or sys.stdout
    verbose = bool(words and words[0] == "-v")
    if verbose:
        words.pop(0)
    return guarded(lambda: _run(words, verbose=verbose), words, verbose=verbose)


def guarded(task: Callable[[], int], words: Sequence[str] = (), *, verbose: bool = False) -> int:
    """The exit code of *task*; whatever it raises becomes text, never a traceback."""
    try:
        code = task()
        sys.stdout.flush()
        return code
    except Refused as refused:
        return report(refused.error, verbose=verbose)
    except Lost as why:
        say_error(f"Lost the connection to the logical domain manager: {why}")
        return EXIT_NO_LDMD
    except Unreachable as why:
        say_error(f"Failed to connect to logical domain manager: {why}")
        if verbose or sys.stderr.isatty():
            say_error(
                f"Remedy: ldmd listens at {socket_path()} (LODOM_SOCKET): see that it runs, "
                "and that you may write there: as root or in the group lodom."
            )
        return EXIT_NO_LDMD
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _silence(sys.stdout)  # the reader of our output has gone (ldm list | head)
        return 0
    except OSError as fault:
        _silence(sys.stdout)
        say_error(f"{fault.filename or 'Standard output'}: {fault.strerror or fault}")
        return EXIT_FAILED
    except Exception as fault:
        return _fault(fault, words, verbose=verbose)


def _run(words: list[str], *, verbose: bool) -> int:
    if not words or "--help" in words:
        return _help([word for word in words if word != "--help"])
    if words == ["-V"]:
        return _ask(Command("show-version", {}, {}, {}))
    try:
        " ".join(words).encode()
    except UnicodeEncodeError as fault:
        from lodom.core.errors import InvalidValue

        word = repr(fault.object[fault.start : fault.end])
        raise InvalidValue(what="argument", value=word, why="it is no UTF-8 text") from fault
    command = parse(words)
    _refuse_unbuilt(command)
    match command.verb:
        case "migrate-domain":
            from lodom.cli.migrate import migrate

            return migrate(command.arguments, verbose=verbose)
        case "recover-domain":
            from lodom.cli.recover import recover

            return recover(command.arguments)
        case "explain":
            from lodom.cli.explain import explain

            return explain(command.arguments["id"])
    return _ask(command)


def _ask(command: Command) -> int:
    from lodom.cli.render import render

    document = call(command.verb, command.arguments, progress=_told)
    for line in render(command.verb, command.arguments, document):
        print(line)
    for warning in document.get("warnings", ()):
        print(f"Warning: {warning}", file=sys.stderr)
    return 0


def _told(progress: Mapping[str, Any]) -> None:
    if "say" in progress:
        print(progress["say"])


def _help(words: list[str]) -> int:
    from lodom.grammar.usage import full_usage, help_text

    if not words:
        print(full_usage())
        return 0
    verb = find_verb(words[0])
    if verb is None:
        parse(words[:1])  # says that there is no such command
    else:
        print(help_text(verb))
    return 0


def _refuse_unbuilt(command: Command) -> None:
    """Commands and options of 1.2 that the grammar knows and ldmd does not do yet."""
    lacking = "" if BY_NAME[command.verb].implemented else command.verb
    for key, option in (("file", "-i"), ("xml", "-x")):
        if key in command.options:
            lacking = f"{command.verb} {option}"
    if lacking:
        from lodom.core.errors import NotSupported

        raise NotSupported(what=lacking, why="this release does not have it yet")


# -- errors -------------------------------------------------------------------------------------


def say_error(text: str) -> None:
    """A line on standard error, if anybody reads it."""
    try:
        print(text, file=sys.stderr)
    except OSError:
        _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """Nobody can be told anything there; Python would complain of it again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def report(error: Mapping[str, Any], *, verbose: bool = False) -> int:
    """Tell of an error document of ldmd; its exit code, whether or not anybody reads it."""
    try:
        sys.stdout.flush()
    except OSError:
        _silence(sys.stdout)
    if error.get("findings"):
        from lodom.cli.findings import lines

        for line in lines(error["findings"], drawing=error.get("drawing", ""), verbose=verbose):
            say_error(line)
        if verbose and error.get("rules"):
            say_error(f"Rules:        {error['rules']}")
    say_error(str(error.get("text", "")))
    if error.get("remedy") and (verbose or sys.stderr.isatty()):
        say_error(f"Remedy: {error['remedy']}")
    return int(error.get("exit", EXIT_BUG))


def _fault(fault: Exception, words: Sequence[str], *, verbose: bool) -> int:
    """An error of the command line itself, or a bug of ours on one line."""
    from lodom.core.errors import BadUsage, InvalidValue, LodomError
    from lodom.grammar.usage import usage

    if not isinstance(fault, LodomError):
        detail = " ".join(str(fault).split())
        say_error(f"Internal error: {type(fault).__name__}: {detail}")
        return EXIT_BUG
    if isinstance(fault, BadUsage | InvalidValue):
        say_error(str(fault))
        verb = find_verb(words[0]) if words else None
        if verb:
            say_error(usage(verb))
        return EXIT_USAGE
    return report(
        {"text": str(fault), "remedy": fault.remedy(), "exit": fault.kind.exit_code},
        verbose=verbose,
    )
