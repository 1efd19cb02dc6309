"""What the socket takes is what a command line could have said; all else is refused by name."""

import shlex

import pytest
from test_words import LINES

from lodom.core.errors import InvalidValue
from lodom.grammar.judge import judge
from lodom.grammar.parser import parse

UNFIT = [
    ("add-domain", {}, "ldoms"),
    ("add-domain", {"ldoms": "ab"}, "ldoms"),
    ("add-domain", {"ldoms": [3]}, "ldoms"),
    ("add-domain", {"ldoms": ["../x"]}, "ldoms"),
    ("add-domain", {"ldoms": ["a|b\nDOMAIN"]}, "ldoms"),
    ("remove-domain", {"all": False, "ldoms": [3]}, "ldoms"),
    ("add-domain", {"ldoms": ["a"], "mac": "zz"}, "mac"),
    ("set-vcpu", {"number": "x", "ldom": "a"}, "number"),
    ("set-vcpu", {"number": 1.5, "ldom": "a"}, "number"),
    ("set-vcpu", {"number": True, "ldom": "a"}, "number"),
    ("set-memory", {"size": None, "ldom": "a"}, "size"),
    ("set-memory", {"size": True, "ldom": "a"}, "size"),
    ("set-domain", {"hostid": "q", "ldom": "a"}, "hostid"),
    ("set-domain", {"masters": ["b", 1], "ldom": "a"}, "masters"),
    ("set-variable", {"ldom": "a", "variables": ["x"]}, "variables"),
    ("set-variable", {"ldom": "a", "variables": [3]}, "variables"),
    ("set-variable", {"ldom": "a", "variables": [["boot-kernel", 5]]}, "variables"),
    ("add-vdisk", {"name": "d", "ldom": "a"}, "volume"),
    ("set-vdisk", {"name": "d", "ldom": "a", "volume": "v"}, "volume"),
    ("add-vnet", {"name": "n", "switch": ["x"], "ldom": "a"}, "switch"),
    ("add-vconscon", {"low": 0, "high": 9, "name": "v", "ldom": "primary"}, "low"),
    ("set-vconsole", {"port": "7", "ldom": "a"}, "port"),
    ("stop-domain", {"ldoms": ["a"], "force": "yes"}, "force"),
    ("migrate-domain", {"ldom": "a"}, "host"),
    ("migrate-domain", {"ldom": "a", "host": 5}, "host"),
    ("migrate-domain", {"ldom": "a", "host": "b", "target": "x y"}, "host"),
    ("migrate-domain", {"ldom": "a", "host": "b", "password": 4}, "password"),
]


@pytest.mark.parametrize(("verb", "arguments", "key"), UNFIT)
def test_what_no_words_mean_is_refused(verb, arguments, key):
    with pytest.raises(InvalidValue) as found:
        judge(verb, arguments)
    assert key in str(found.value)


@pytest.mark.parametrize("line", LINES)
def test_what_words_mean_passes(line):
    command = parse(shlex.split(line))
    judge(command.verb, command.arguments)


FIT = [
    ("list-domain", {}),
    ("list-domain", {"ldoms": []}),
    ("list-devices", {"all": True, "devices": []}),
    ("set-vnet", {"name": "n", "ldom": "a", "mtu": None, "vids": [], "pvid": None, "mode": ""}),
    ("set-vsw", {"name": "n", "net_dev": None}),
    ("add-vnet", {"name": "n", "switch": "s", "ldom": "a", "mac": "02:AA:BB:00:00:01"}),
    ("migrate-domain", {"ldom": "a", "host": "fe80::1%eth0#7000", "user": "u", "password": "p"}),
    ("migrate-domain", {"ldom": "a", "host": "b", "dry_run": True, "accept": "SHA256:x"}),
    ("stop-guests", {"timeout": 0}),
    ("trust-peer", {"host": "b"}),
    ("a-verb-of-tomorrow", {"x": object()}),
]


@pytest.mark.parametrize(("verb", "arguments"), FIT)
def test_what_programs_say_passes(verb, arguments):
    judge(verb, arguments)
