"""The pages made from the table: docs/reference/commands.md and the manual page ldm.1."""

from lodom.core.errors import Kind
from lodom.grammar.complete import spellings
from lodom.grammar.form import Verb
from lodom.grammar.table import RESOURCES, VERBS
from lodom.grammar.usage import synopsis, value_forms

MARKDOWN_HEAD = """\
# Commands of `ldm`

Generated from `src/lodom/grammar/table.py` by `python -m lodom.grammar docs/reference`.

The form is `ldm [-v] command [options] [properties] operands`: options come first, then
`property=value` words, then operands; the domain stands last. `ldm --help COMMAND` shows one
command, `ldm -V` the versions. `-v` before the command adds the remedy to an error.

Under each command stand the other spellings, who may use it (*read* or *write*), what a value may
be, and the names under which the API takes them (`api.md`). An argument that was not given is
absent there; lists of operands are always there; a flag is `true`.

| exit code | meaning |
| --- | --- |
| 0 | done |
"""
EXITS = {
    Kind.INVALID: "the command line or a value is wrong",
    Kind.NOT_FOUND: "something that was named does not exist",
    Kind.WRONG_STATE: "it does not fit the state that things are in",
    Kind.NO_ROOM: "strands, memory, ports or crypto units are short",
    Kind.REFUSED: "a rule forbids it",
    Kind.PEER: "the other machine does not answer as it should",
    Kind.TRY_LATER: "something else is in progress, or ldmd is down",
    Kind.DENIED: "the user may not",
    Kind.FAILED: "it was tried and failed",
    Kind.BUG: "a bug of Lodom",
}


def _resources() -> list[tuple[str, str, list[Verb]]]:
    """(resource, aliases, its commands)."""
    return [
        (r.name, ", ".join(r.aliases), [v for v in VERBS if v.resource == r.name and not v.hidden])
        for r in RESOURCES
    ]


# -- markdown -----------------------------------------------------------------------------------


def markdown() -> str:
    """``commands.md``."""
    parts = [MARKDOWN_HEAD]
    parts += [f"| {kind.exit_code} | {text} |\n" for kind, text in EXITS.items()]
    for name, aliases, verbs in _resources():
        parts.append(f"\n## {name}{f' ({aliases})' if aliases else ''}\n")
        parts += [_section(verb) for verb in verbs]
    hidden = [verb for verb in VERBS if verb.hidden]
    parts.append("\n## Verbs of the API alone\n\n| verb | for | arguments |\n| --- | --- | --- |\n")
    parts += [
        f"| `{v.name}` | {v.help} ({v.note}; {v.role}) | {_names(list(v.keys))} |\n" for v in hidden
    ]
    return "".join(parts)


def _names(keys: list[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys) or "none"


def _section(verb: Verb) -> str:
    shown = verb.shown or verb.name
    others = [word for word in spellings(verb) if word != shown]
    notes = [] if verb.implemented else ["not in this release"]
    notes += ["ours, not of 1.2"] if verb.ours else []
    notes += [verb.note] if verb.note else []
    lines = [
        f"\n### {shown}\n",
        f"```\nldm {synopsis(verb)}\n```\n",
        f"{verb.help}. Needs *{verb.role}*.{''.join(f' Note: {note}.' for note in notes)}\n",
    ]
    if others:
        lines.append(f"Also: {_names(others)}.\n")
    values = [f"- `{word}`: {form}" for word, form in value_forms(verb)]
    if values:
        lines.append("\n".join(values) + "\n")
    lines.append(f"API: verb `{verb.name}`, arguments {_names(list(verb.keys))}.\n")
    return "\n".join(lines)


# -- the manual page ----------------------------------------------------------------------------

ROFF_HEAD = """\
.\\" Generated from the command table by python -m lodom.grammar.
.TH LDM 1 "" "Lodom" "Logical Domains"
.SH NAME
ldm \\- command line of the Logical Domains Manager
.SH SYNOPSIS
.B ldm
[\\-\\-help] [\\-V] [\\-v]
.I command
[options] [properties] operands
.SH DESCRIPTION
Lists, makes, changes and moves the logical domains of this machine.  Options come first, then
properties, then operands; the domain stands last.  Every change is made by
.BR ldmd ,
to which ldm speaks over a socket.
"""
ROFF_TAIL = """\
.SH ENVIRONMENT
.TP
LODOM_SOCKET
The socket of the ldmd to speak to.
.SH FILES
.TP
/run/lodom/ldmd.sock
Where ldmd listens unless told otherwise.
.SH SEE ALSO
.BR ldm\\-setup (1),
.BR ldmd (8)
"""


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in ".'" else text


def manual() -> str:
    """``ldm.1``, for ``man -l``."""
    parts = [ROFF_HEAD, ".SH COMMANDS\n"]
    for name, aliases, verbs in _resources():
        parts.append(f".SS {_roff(name)}{f' ({_roff(aliases)})' if aliases else ''}\n")
        for verb in verbs:
            lacking = "" if verb.implemented else "  Not in this release."
            note = f"  Note: {_roff(verb.note)}." if verb.note else ""
            parts.append(f".TP\n.B {_roff(synopsis(verb))}\n{_roff(verb.help)}.{lacking}{note}\n")
            parts += [f".br\n{_roff(word)}: {_roff(form)}.\n" for word, form in value_forms(verb)]
    parts.append(".SH EXIT STATUS\n.TP\n0\nDone.\n")
    parts += [f".TP\n{kind.exit_code}\n{text.capitalize()}.\n" for kind, text in EXITS.items()]
    return "".join(parts) + ROFF_TAIL
