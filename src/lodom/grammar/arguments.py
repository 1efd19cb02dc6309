"""Whether the arguments of a command are such that a typed line could have given them.

``ldm`` makes them with the parser; another program writes JSON, and its mistakes are to be told as
what they are.  Names get checked here once more: a name is also that of a log.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from lodom.core.errors import InvalidValue
from lodom.grammar import values as v
from lodom.grammar.form import Form, Operand, Option, Property
from lodom.grammar.table import BY_NAME
from lodom.grammar.values import Value

_EMPTY: tuple[Any, ...] = (None, "", [])


def check(verb: str, arguments: Mapping[str, Any]) -> None:
    """Nothing happens if they can be used; what names no argument of *verb* is left alone.

    Raises:
        InvalidValue: the command is not known, an argument is missing, or has a wrong form.
    """
    known = BY_NAME.get(verb)
    if known is None:
        raise InvalidValue(what="command", value=verb, why="not known to this ldmd")
    missing = [[*_missing(form, arguments)] for form in known.forms]
    if all(missing):
        raise InvalidValue(what="argument", value=missing[-1][0], why=f"{verb} needs it")
    for form in known.forms:
        for key, value, many in _values(form):
            if arguments.get(key) not in _EMPTY:
                _fit(key, value, arguments[key], many=many)


def _missing(form: Form, arguments: Mapping[str, Any]) -> Iterator[str]:
    for option in form.options:
        if option.required and not arguments.get(option.key):
            yield option.key
    for prop in form.properties:  # an empty one clears
        if prop.required:
            yield from (key for key in prop.key.split(",") if key not in arguments)
    for operand in form.operands:
        keys = ["host"] if operand.value is v.TARGET else operand.key.split(",")
        if not operand.optional:
            yield from (key for key in keys if arguments.get(key) in _EMPTY)


def _values(form: Form) -> Iterator[tuple[str, Value | None, bool]]:
    """Each argument with the kind of its value (None: a flag), and whether it collects words."""
    parts: tuple[Option | Property | Operand, ...]
    parts = (*form.options, *form.properties, *form.operands)
    for part in parts:
        many = isinstance(part, Operand) and part.many
        if part.value is v.VOLUME:
            yield from ((key, v.NAME, many) for key in part.key.split(","))
        elif "," not in part.key:
            yield part.key, part.value, many


def _fit(key: str, value: Value | None, given: Any, *, many: bool) -> None:
    """Typed as words, it would be the same again."""
    what, shown = f"argument {key}", str(given)
    if value is None:
        if not isinstance(given, bool):
            raise InvalidValue(what=what, value=shown, why="true or nothing")
        return
    for one in given if isinstance(given, list) else [given]:
        try:
            same = value.convert("=".join(map(str, one)) if isinstance(one, list) else str(one))
        except ValueError as error:
            raise InvalidValue(what=what, value=shown, why=str(error)) from error
        if isinstance(same, dict):
            (same,) = same.values()
        if isinstance(same, list) and value is not v.ASSIGNMENT:
            fits = isinstance(given, list) and same == [one]
        else:
            fits = isinstance(given, list) is many and type(same) is type(one) and same == one
        if not fits:
            raise InvalidValue(what=what, value=shown, why=value.form)
