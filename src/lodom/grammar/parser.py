"""From words to a command: options first, then ``property=value``, then operands.

Errors are imported where they are raised: the common path of ``ldm`` must start fast.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from lodom.grammar.form import Form, Operand, Property, Verb
from lodom.grammar.table import ACTIONS, BY_NAME, RESOURCES, REWRITTEN, VERBS
from lodom.grammar.values import Value

_PROPERTY = re.compile(r"([a-z][a-z-]*)=")


class Command(NamedTuple):
    """A parsed command; values are converted (see ``table`` for the names)."""

    verb: str
    options: dict[str, Any]
    properties: dict[str, Any]
    operands: dict[str, Any]

    @property
    def arguments(self) -> dict[str, Any]:
        """Everything in one dict: what goes to ldmd."""
        return {**self.options, **self.properties, **self.operands}


def find_verb(word: str) -> Verb | None:
    """The verb that *word* names: in full, by its aliases, by ``ls-``/``rm-`` and resources'."""
    for verb in VERBS:
        if word and word in (verb.name, verb.shown, *verb.aliases):
            return verb
    action, _, resource = word.partition("-")
    action = next((full for full, short in ACTIONS.items() if short == action), action)
    resource = next((r.name for r in RESOURCES if resource in r.aliases), resource)
    return BY_NAME.get(f"{action}-{resource}")


def parse(argv: Sequence[str]) -> Command:
    """The command that *argv* spells.

    Raises:
        BadUsage: an unknown or misplaced word, with the usage of the command.
        InvalidValue: a word whose value cannot be used.
    """
    words = list(argv)
    if words and words[0] in REWRITTEN:
        words[:1] = REWRITTEN[words[0]]
    verb = find_verb(words[0]) if words else None
    if verb is None:
        problem = f"Unknown command {words[0]}" if words else "No command"
        _fail(f"{problem}; use --help option for list of available commands")
    given, rest = _options(verb, words[1:])
    form = _form(verb, given, rest)
    options = {o.key: given[o.flag] for o in form.options if o.flag in given}
    properties, rest = _properties(verb, form, rest)
    return Command(verb.name, options, properties, _operands(verb, form, rest))


def _fail(problem: str, verb: Verb | None = None) -> NoReturn:
    from lodom.core.errors import BadUsage
    from lodom.grammar.usage import usage

    raise BadUsage(problem=problem, usage=usage(verb) if verb else "")


def _convert(value: Value, what: str, word: str) -> Any:
    try:
        return value.convert(word)
    except ValueError as why:
        from lodom.core.errors import InvalidValue

        raise InvalidValue(what=what, value=word, why=str(why)) from None


# -- options ------------------------------------------------------------------------------------


def _options(verb: Verb, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The options at the head of *words* (flag to value), and the words behind them."""
    known = {option.flag: option for form in verb.forms for option in form.options}
    given: dict[str, Any] = {}
    while words and words[0].startswith("-") and len(words[0]) > 1:
        word = words.pop(0)
        if word == "--":
            break
        for flag, rest in _flags(word):
            option = known.get(flag)
            if option is None:
                _fail(f"Invalid option {flag}", verb)
            if option.value is None:
                given[flag] = True
                continue
            if not (rest or words):
                _fail(f"Option {flag} needs a {option.value.word}", verb)
            given[flag] = _convert(option.value, option.value.word, rest or words.pop(0))
            break
    return given, words


def _flags(word: str) -> list[tuple[str, str]]:
    """(flag, what follows it in the same word): ``-lp`` is ``-l`` with ``p`` behind, and ``-p``."""
    if word.startswith("--"):
        return [(word, "")]
    return [(f"-{letter}", word[i + 2 :]) for i, letter in enumerate(word[1:])]


def _form(verb: Verb, given: dict[str, Any], words: list[str]) -> Form:
    """The form that has all options given, and of several the one with properties if one is."""
    fits = [form for form in verb.forms if given.keys() <= {o.flag for o in form.options}]
    if not fits:
        _fail("Options " + " and ".join(given) + " exclude each other", verb)
    chosen = [f for f in fits if all(o.flag in given for o in f.options if o.required)]
    if not chosen:
        needed = next(o.flag for o in fits[0].options if o.required)
        _fail(f"Option {needed} is missing", verb)
    wanted = any(_PROPERTY.match(word) for word in words)
    return next((form for form in chosen if bool(form.properties) == wanted), chosen[-1])


# -- properties and operands --------------------------------------------------------------------


def _properties(verb: Verb, form: Form, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The properties at the head of *words*, and the words behind them."""
    known = {prop.name: prop for prop in form.properties}
    seen: set[str] = set()
    found: dict[str, Any] = {}
    while words and (match := _PROPERTY.match(words[0])) and match[1] in known:
        if match[1] in seen:
            _fail(f"Property {match[1]} is given twice", verb)
        seen.add(match[1])
        _store(found, known[match[1]], words[0][match.end() :])
        words = words[1:]
    missing = [prop.name for prop in form.properties if prop.required and prop.name not in seen]
    if missing:
        _fail(f"Property {missing[0]}= is missing", verb)
    return found, words


def _store(into: dict[str, Any], part: Property | Operand, word: str) -> None:
    what = part.name if isinstance(part, Property) else part.shown or part.value.word
    value = _convert(part.value, what, word)
    into.update(value if isinstance(value, dict) else {part.key: value})


def _operands(verb: Verb, form: Form, words: list[str]) -> dict[str, Any]:
    """Words to operands: at most one operand takes several; what stands behind it is fixed."""
    wanted = form.operands
    least = sum(not operand.optional for operand in wanted)
    _reject_strays(verb, form, words)
    if len(words) < least:
        lacking = [o for o in wanted if not o.optional][len(words)]
        _fail(f"Missing operand {lacking.usage}", verb)
    spare = len(words) - least
    found: dict[str, Any] = {}
    for operand in wanted:
        take = 0 if operand.optional else 1
        if operand.many:
            take, spare = take + spare, 0
        elif operand.optional and spare:
            take, spare = 1, spare - 1
        mine, words = words[:take], words[take:]
        if operand.many:
            what = operand.shown or operand.value.word
            found[operand.key] = [_convert(operand.value, what, word) for word in mine]
        elif mine:
            _store(found, operand, mine[0])
    if words:
        _fail(f"Too many operands: {words[0]}", verb)
    return found


def _reject_strays(verb: Verb, form: Form, words: list[str]) -> None:
    """Name options and properties that stand behind an operand or that the command lacks."""
    free = any(operand.value.word in ("var-name=[value]", "backend") for operand in form.operands)
    known = {prop.name for prop in form.properties}
    for word in words:
        if len(word) > 1 and word.startswith("-") and not free:
            _fail(f"Option {word} must stand before the operands", verb)
        match = _PROPERTY.match(word)
        if match and match[1] in known:
            _fail(f"Property {word} must stand before the operands", verb)
        if match and not free:
            _fail(f"Unknown property {match[1]}", verb)
