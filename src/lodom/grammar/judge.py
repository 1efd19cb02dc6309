"""Arguments that came without a command line: only what words could have said is let in.

Whoever speaks to the socket by hand is held to the grammar as ``ldm`` is; the core relies on it.
"""

from collections.abc import Mapping
from typing import Any

from lodom.core.errors import InvalidValue
from lodom.grammar import values as v
from lodom.grammar.form import Form, Operand, Property
from lodom.grammar.table import BY_NAME
from lodom.grammar.words import best_form, merged, word

BESIDE = ("password", "accept", "user")
"""Texts that come beside a command and stand in no table."""


def judge(verb: str, arguments: Mapping[str, Any]) -> None:
    """Let the arguments of *verb* pass; a verb or a key that nobody knows is not its business.

    Raises:
        InvalidValue: one is missing, or no command line could have given it.
    """
    known = BY_NAME.get(verb)
    if known is None:
        return
    for key in BESIDE:
        if key in arguments and not isinstance(arguments[key], str):
            raise InvalidValue(what="argument", value=key, why="it must be a text")
    _complete(best_form(known.forms, arguments), arguments)
    for form in known.forms:
        for option in form.options:
            given = arguments.get(option.key)
            if option.value is None and not isinstance(given, bool | None):
                raise _unfit(option.key, given, "it must be true or false")
            if option.value and given is not None:
                _same(option.value, option.key, given)
        for part in _parts(form):
            if _given(part, arguments):
                _fits(part, arguments)


def _parts(form: Form) -> tuple[Property | Operand, ...]:
    return (*form.properties, *form.operands)


def _given(part: Property | Operand, arguments: Mapping[str, Any]) -> bool:
    return any(key in arguments for key in part.key.split(","))


def _complete(form: Form, arguments: Mapping[str, Any]) -> None:
    for part in _parts(form):
        needed = not part.optional if isinstance(part, Operand) else part.required
        if needed and not _given(part, arguments):
            raise InvalidValue(what="argument", value=part.key, why="it is missing")


def _fits(part: Property | Operand, arguments: Mapping[str, Any]) -> None:
    if isinstance(part, Operand) and (part.many or part.value is v.ONE_LDOM):
        every = arguments[part.key]
        if not isinstance(every, list):
            raise _unfit(part.key, every, "it must be a list")
        for one in every:
            _same(v.LDOM if part.value is v.ONE_LDOM else part.value, part.key, one)
    elif "," in part.key:
        given = {key: arguments[key] for key in part.key.split(",") if arguments.get(key)}
        _same(part.value, part.key, given, text=merged(part, arguments))
    else:
        _same(part.value, part.key, arguments[part.key])


def _same(kind: v.Value, key: str, given: Any, *, text: str | None = None) -> None:
    """The word for the argument means that argument, an empty word that it is cleared.

    Raises:
        InvalidValue: no word does.
    """
    try:
        meant = kind.convert(word(kind, given) if text is None else text)
    except (ValueError, TypeError) as why:
        raise _unfit(key, given, str(why)) from None
    empty = given is None or given in ("", [])
    texts = isinstance(given, str) and isinstance(meant, str)  # case and short forms are free
    if not (empty or texts or (type(meant) is type(given) and meant == given)):
        raise _unfit(key, given, f"not of the form: {kind.form}")


def _unfit(key: str, given: Any, why: str) -> InvalidValue:
    return InvalidValue(what=f"argument {key}", value=str(given), why=why)
