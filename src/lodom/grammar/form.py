"""What a command is made of: verbs, their forms, options, properties and operands."""

from typing import NamedTuple

from lodom.grammar.values import Value


class Option(NamedTuple):
    """A flag, or with *value* an option with a word; ``required``: this form is chosen by it."""

    flag: str
    key: str
    value: Value | None = None
    required: bool = False
    shown: str = ""
    """The value's word in usage lines where it differs from the kind's."""

    @property
    def usage(self) -> str:
        """``-f``, ``[-o format]``."""
        text = self.flag + (f" <{self.shown or self.value.word}>" if self.value else "")
        return text if self.required else f"[{text}]"


class Property(NamedTuple):
    """``name=value``."""

    name: str
    key: str
    value: Value
    required: bool = False
    shown: str = ""

    @property
    def usage(self) -> str:
        """``[mac-addr=<num>]``, ``port-range=<x-y>``, ``[mode=sc]``, ``[mode=[sc]]``."""
        word = self.shown or (self.value.word if self.value.literal else f"<{self.value.word}>")
        text = f"{self.name}={word}"
        return text if self.required else f"[{text}]"


class Operand(NamedTuple):
    """A positional word; ``many`` collects a list, ``optional`` may be absent."""

    key: str
    value: Value
    many: bool = False
    optional: bool = False
    shown: str = ""

    @property
    def usage(self) -> str:
        """``<ldom>``, ``<ldom>...``, ``[<ldom>...]``."""
        text = _SPELLED.get(self.shown or self.value.word)
        if text is None:
            text = f"<{self.shown or self.value.word}>"
        elif text.startswith("["):
            return text
        text += "..." if self.many else ""
        return f"[{text}]" if self.optional else text


_SPELLED = {
    "cpu|mau|memory|io": "[cpu] [crypto|mau] [memory] [io]",
    "migration | reconf": "(migration | reconf)",
    "volume-name@service-name": "<volume-name>@<service-name>",
    "[user@]target-host[:target-ldom]": "[<user>@]<target-host>[:<target-ldom>]",
    "var-name=[value]": "<var-name>=[<value>]",
}
"""Words that are more than one placeholder."""


class Form(NamedTuple):
    """One way to write a command."""

    options: tuple[Option, ...] = ()
    properties: tuple[Property, ...] = ()
    operands: tuple[Operand, ...] = ()


class Verb(NamedTuple):
    """A subcommand.

    ``name`` is what the API and the engine call it; ``shown`` is the short spelling of the usage
    text; ``role`` is ``read`` or ``write``; ``hidden`` verbs are for programs of ours alone.
    """

    name: str
    resource: str
    role: str
    help: str
    forms: tuple[Form, ...]
    aliases: tuple[str, ...] = ()
    shown: str = ""
    implemented: bool = True
    ours: bool = False
    hidden: bool = False
    note: str = ""

    @property
    def keys(self) -> dict[str, str]:
        """Argument name to a phrase about its value, over all forms."""
        found: dict[str, str] = {}
        for form in self.forms:
            for option in form.options:
                found[option.key] = option.value.form if option.value else "true"
            for prop in form.properties:
                found |= _keys(prop.key, prop.value.form)
            for operand in form.operands:
                form_text = operand.value.form
                found |= _keys(operand.key, f"list: {form_text}" if operand.many else form_text)
        return found


def _keys(key: str, form: str) -> dict[str, str]:
    """A key with commas names what a converter merges: ``volume,service``."""
    return dict.fromkeys(key.split(","), form)


class Resource(NamedTuple):
    """A group of the usage text, with the aliases of the word in verb names."""

    name: str
    aliases: tuple[str, ...] = ()
