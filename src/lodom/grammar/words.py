"""From a command back to words: how it would be typed.  What is no part of it, as a password that
came beside it, is left out.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lodom.core.units import format_size
from lodom.grammar import values as v
from lodom.grammar.form import Form, Operand, Property
from lodom.grammar.table import BY_NAME


def words(verb: str, arguments: Mapping[str, Any]) -> list[str]:
    """The words of *verb* with *arguments*; what its grammar does not know is left out."""
    known = BY_NAME.get(verb)
    if known is None:
        return [verb]
    form = best_form(known.forms, arguments)
    return [known.shown or known.name, *_words(form, arguments)]


def typed(verb: str, arguments: Mapping[str, Any]) -> str:
    """One line for a shell."""
    return shlex.join(["ldm", *words(verb, arguments)])


def best_form(forms: Sequence[Form], arguments: Mapping[str, Any]) -> Form:
    """The form that the arguments were most likely meant for."""
    return max(forms, key=lambda form: _fit(form, arguments))


def _fit(form: Form, arguments: Mapping[str, Any]) -> int:
    """How many arguments the form has, less what it must have and has not got."""
    keys = [o.key for o in form.options]
    keys += [k for prop in form.properties for k in prop.key.split(",")]
    keys += [k for operand in form.operands for k in operand.key.split(",")]
    lacking = [o for o in form.options if o.required and o.key not in arguments]
    return sum(key in arguments for key in keys) - 10 * len(lacking)


def _words(form: Form, arguments: Mapping[str, Any]) -> Iterator[str]:
    for option in form.options:
        given = arguments.get(option.key)
        if given:
            yield option.flag
            if option.value:
                yield word(option.value, given)
    for prop in form.properties:
        if (found := merged(prop, arguments)) is not None:
            yield f"{prop.name}={found}"
    for operand in form.operands:
        if operand.many or operand.value is v.ONE_LDOM:
            yield from (word(operand.value, one) for one in arguments.get(operand.key) or ())
        elif (found := merged(operand, arguments)) is not None:
            yield found


def merged(part: Property | Operand, arguments: Mapping[str, Any]) -> str | None:
    """The one word of a part; several arguments of one word are put together again."""
    keys = part.key.split(",")
    if not any(key in arguments for key in keys):
        return None
    given = {key: arguments.get(key) for key in keys}
    match part.value:
        case v.VOLUME:
            return f"{given['volume']}@{given['service']}"
        case v.PORT_RANGE:
            return f"{given['low']}-{given['high']}"
        case v.TARGET:
            return _target(given)
    return word(part.value, given[part.key])


def _target(given: Mapping[str, Any]) -> str:
    user, host, name = given["user"], str(given["host"]), given["target"]
    if ":" in host:
        address, hash_, port = host.partition("#")
        host = f"[{address}]{hash_}{port}"
    return (f"{user}@" if user else "") + host + (f":{name}" if name else "")


def word(value: v.Value, given: Any) -> str:
    """The word for an argument of that kind; an empty one for what is cleared."""
    if value in (v.SIZE, v.SIZE_OR_NONE) and isinstance(given, int) and given:
        return format_size(given)
    if value is v.ASSIGNMENT:
        return "=".join(map(str, given))
    if isinstance(given, list | tuple):
        return ",".join(map(str, given))
    return "" if given is None else str(given)
