"""Usage text in the layout of 1.2 (digest 1.1): resources, aliases in parens, nine blanks."""

import textwrap

from lodom.grammar.form import Form, Operand, Option, Property, Verb
from lodom.grammar.table import RESOURCES, VERBS

HEAD = """Usage:
 ldm [--help] command [options] [properties] operands

Command(s) for each resource (aliases in parens):
"""
WIDTH = 79


def synopsis(verb: Verb) -> str:
    """``add-domain (-i <file> | [mac-addr=<num>] … <ldom> | <ldom>...)``, on one line."""
    name = verb.shown or verb.name
    return " ".join([name, *_forms(verb.forms)])


def _words(form: Form) -> list[str]:
    parts: list[Option | Property | Operand] = [*form.options, *form.properties, *form.operands]
    return [part.usage for part in parts]


def _forms(forms: tuple[Form, ...]) -> list[str]:
    """The forms as alternatives in parentheses, what they share written once around them."""
    lines = [_words(form) for form in forms]
    if len(lines) == 1:
        return lines[0]
    head: list[str] = []
    tail: list[str] = []
    while all(lines) and len({line[0] for line in lines}) == 1:
        head.append(lines[0][0])
        lines = [line[1:] for line in lines]
    while all(lines) and len({line[-1] for line in lines}) == 1:
        tail.insert(0, lines[0][-1])
        lines = [line[:-1] for line in lines]
    inner = " | ".join(" ".join(line) for line in lines if line)
    if not all(lines):
        return [*head, f"[{inner}]", *tail]
    return [*head, f"({inner})", *tail]


def _wrapped(text: str, first: str, further: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=further,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def usage(verb: Verb) -> str:
    """``Usage: ldm add-vcpu <number> <ldom>``, wrapped."""
    return _wrapped("ldm " + synopsis(verb), "Usage: ", " " * 11)


def help_text(verb: Verb) -> str:
    """What ``ldm --help SUBCOMMAND`` shows: usage, purpose, spellings, kinds of values."""
    lines = [usage(verb), "", f"    {verb.help}"]
    names = {verb.name, verb.shown, *verb.aliases} - {"", verb.shown or verb.name}
    if names:
        lines.append("    Also written: " + ", ".join(sorted(names)))
    if verb.note:
        lines.append(f"    Note: {verb.note}")
    for key, what in value_forms(verb):
        lines.append(f"    {key:<28} {what}")
    return "\n".join(lines)


def value_forms(verb: Verb) -> list[tuple[str, str]]:
    """(word of the usage text, phrase about its value), each once."""
    found: dict[str, str] = {}
    for form in verb.forms:
        for option in form.options:
            if option.value:
                found[option.flag] = option.value.form
        for prop in form.properties:
            found[f"{prop.name}="] = prop.value.form
        for operand in form.operands:
            found[operand.shown or operand.value.word] = operand.value.form
    return list(found.items())


def listing(verbs: list[Verb]) -> str:
    """The commands of one resource, nine blanks before each."""
    return "\n".join(_wrapped(synopsis(verb), " " * 9, " " * 12) for verb in verbs)


def full_usage() -> str:
    """What ``ldm`` and ``ldm --help`` print."""
    parts = [HEAD]
    for resource in RESOURCES:
        verbs = [verb for verb in VERBS if verb.resource == resource.name and not verb.hidden]
        aliases = f"( {', '.join(resource.aliases)} )" if resource.aliases else ""
        title = f"     {resource.name:<11} {aliases}".rstrip()
        parts.append(f"{title}\n{listing(verbs)}\n")
    return "\n".join(parts)
