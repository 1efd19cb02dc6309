"""Usage text has the layout of 1.2."""

import pytest

from lodom.grammar.parser import find_verb
from lodom.grammar.table import RESOURCES, VERBS
from lodom.grammar.usage import WIDTH, full_usage, help_text, synopsis

HEAD = """\
Usage:
 ldm [--help] command [options] [properties] operands

Command(s) for each resource (aliases in parens):

     bindings
         list-bindings [-e] [-p] [<ldom>...]
"""
"""First lines of the 1.0.2 text (digest 1.1); its blank lines hold one blank, ours none."""


def test_head_is_the_manuals() -> None:
    assert full_usage().startswith(HEAD)


def test_resource_line_shows_aliases() -> None:
    assert "\n     domain      ( dom )\n         add-domain (-i <file> | " in full_usage()


SYNOPSES = {
    "list-constraints": "list-constraints ([-x] | [-e] [-p]) [<ldom>...]",
    "list-devices": "list-devices [-a] [-p] [cpu] [crypto|mau] [memory] [io]",
    "list-domain": "list-domain [-e] [-l] [-o <format>] [-p] [<ldom>...]",
    "stop-domain": "stop-domain [-f] (-a | <ldom>...)",
    "bind-domain": "bind-domain (-i <file> | <ldom>)",
    "add-vconscon": "add-vcc port-range=<x-y> <vcc-name> <ldom>",
    "set-vconsole": "set-vcons [port=[<port-num>]] [group=<group>] [service=<vcc-server>] <ldom>",
    "add-vdiskserverdevice": "add-vdsdev [-f] [options={ro,slice,excl}] [mpgroup=<mpgroup>]"
    " <backend> <volume-name>@<service-name>",
    "set-vdiskserverdevice": "set-vdsdev [-f] options=[{ro,slice,excl}] [mpgroup=<mpgroup>]"
    " <volume-name>@<service-name>",
    "add-io": "add-io [bypass=on] <bus> <ldom>",
    "cancel-operation": "cancel-operation (migration | reconf) <ldom>",
    "list-spconfig": "list-spconfig [-r [<autosave-name>]]",
    "migrate-domain": "migrate-domain [-f] [-n] [-v] [--json] (-c | [-p <file>])"
    " <source-ldom> [<user>@]<target-host>[:<target-ldom>]",
}


@pytest.mark.parametrize("name", SYNOPSES)
def test_synopsis(name: str) -> None:
    verb = find_verb(name)
    assert verb is not None
    assert SYNOPSES[name] == synopsis(verb)


def test_every_verb_is_listed_under_its_resource_and_no_line_is_too_long() -> None:
    text = full_usage()
    for verb in VERBS:
        assert verb.hidden or f"\n         {verb.shown or verb.name}" in text
        assert verb.hidden or verb.resource in {r.name for r in RESOURCES}
    assert max(map(len, text.splitlines())) <= WIDTH


def test_help_of_one_command() -> None:
    verb = find_verb("add-vcpu")
    assert verb is not None
    assert help_text(verb) == (
        "Usage: ldm add-vcpu <number> <ldom>\n\n"
        "    Add virtual CPUs to a domain\n"
        f"    {'number':<28} whole number from 1\n"
        f"    {'ldom':<28} name of a domain"
    )
