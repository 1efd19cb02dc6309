"""Words become commands: order, aliases, values, and errors that name the word."""

import json

import pytest

from lodom.core.errors import BadUsage, InvalidValue, LodomError
from lodom.grammar.parser import find_verb, parse
from lodom.grammar.table import VERBS

GIGABYTE = 1 << 30

LINES = {
    "add-vcpu 4 ldg1": ("add-vcpu", {"number": 4, "ldom": "ldg1"}),
    "set-mau 0 primary": ("set-mau", {"number": 0, "ldom": "primary"}),
    "set-crypto 1 primary": ("set-mau", {"number": 1, "ldom": "primary"}),
    "rm-mem 512m ldg1": ("remove-memory", {"size": 1 << 29, "ldom": "ldg1"}),
    "add-memory 4G ldg1": ("add-memory", {"size": 4 * GIGABYTE, "ldom": "ldg1"}),
    "add-memory 8192 ldg1": ("add-memory", {"size": 8192, "ldom": "ldg1"}),
    "ls": ("list-domain", {"ldoms": []}),
    "list -lp a b": ("list-domain", {"long": True, "parseable": True, "ldoms": ["a", "b"]}),
    "list -o net,mem ldg1": (
        "list-domain",
        {"formats": ["network", "memory"], "ldoms": ["ldg1"]},
    ),
    "ls-devices -a mem crypto": ("list-devices", {"all": True, "devices": ["memory", "mau"]}),
    "add-dom a b": ("add-domain", {"ldoms": ["a", "b"]}),
    "add-domain mac-addr=2:0:0:0:0:A master=x,y a": (
        "add-domain",
        {"mac": "02:00:00:00:00:0a", "masters": ["x", "y"], "ldoms": ["a"]},
    ),
    "set-domain master= failure-policy=stop a": (
        "set-domain",
        {"masters": [], "failure_policy": "stop", "ldom": "a"},
    ),
    "destroy -a": ("remove-domain", {"all": True}),
    "stop -f -a": ("stop-domain", {"force": True, "all": True}),
    "stop -fa": ("stop-domain", {"force": True, "all": True}),
    "start a b": ("start-domain", {"ldoms": ["a", "b"]}),
    "cancel-op mig ldg1": ("cancel-operation", {"operation": "migration", "ldom": "ldg1"}),
    "cancel-reconf primary": ("cancel-operation", {"operation": "reconf", "ldom": "primary"}),
    "remove-reconf primary": ("cancel-operation", {"operation": "reconf", "ldom": "primary"}),
    "add-vsw net-dev=eth0 vid=2,3 mtu=9000 primary-vsw0 primary": (
        "add-vswitch",
        {
            "net_dev": "eth0",
            "vids": [2, 3],
            "mtu": 9000,
            "name": "primary-vsw0",
            "ldom": "primary",
        },
    ),
    "set-vnet mtu= mode= vswitch=v2 vnet0 ldg1": (
        "set-vnet",
        {"mtu": None, "mode": "", "switch": "v2", "name": "vnet0", "ldom": "ldg1"},
    ),
    "add-vcc port-range=5000-5100 vcc0 primary": (
        "add-vconscon",
        {"low": 5000, "high": 5100, "name": "vcc0", "ldom": "primary"},
    ),
    "set-vcons port= group=SP service=primary-vcc0 ldom1": (
        "set-vconsole",
        {"port": None, "group": "SP", "service": "primary-vcc0", "ldom": "ldom1"},
    ),
    "add-vdsdev -f options=ro,slice mpgroup=g /dev/x=1 vol1@vds0": (
        "add-vdiskserverdevice",
        {
            "force": True,
            "options": ["ro", "slice"],
            "mpgroup": "g",
            "backend": "/dev/x=1",
            "volume": "vol1",
            "service": "vds0",
        },
    ),
    "set-vdsdev options= vol1@vds0": (
        "set-vdiskserverdevice",
        {"options": [], "volume": "vol1", "service": "vds0"},
    ),
    "add-vdisk timeout=60 id=2 d0 vol1@vds0 ldg1": (
        "add-vdisk",
        {"timeout": 60, "id": 2, "name": "d0", "volume": "vol1", "service": "vds0", "ldom": "ldg1"},
    ),
    "set-var auto-boot?=false nvramrc=a=b boot-device= ldg1": (
        "set-variable",
        {
            "variables": [["auto-boot?", "false"], ["nvramrc", "a=b"], ["boot-device", ""]],
            "ldom": "ldg1",
        },
    ),
    "list-variable ldg1": ("list-variable", {"names": [], "ldom": "ldg1"}),
    "list-var boot-device ldg1": ("list-variable", {"names": ["boot-device"], "ldom": "ldg1"}),
    "add-config -r old new": ("add-spconfig", {"autosave": True, "name": "old", "new_name": "new"}),
    "add-spconfig one": ("add-spconfig", {"name": "one"}),
    "ls-spconfig -r": ("list-spconfig", {"autosave": True}),
    "migrate ldg1 t2": ("migrate-domain", {"ldom": "ldg1", "host": "t2"}),
    "migrate-domain -n -p /etc/pw ldg1 bob@t2.example:ldg-new": (
        "migrate-domain",
        {
            "dry_run": True,
            "password_file": "/etc/pw",
            "ldom": "ldg1",
            "user": "bob",
            "host": "t2.example",
            "target": "ldg-new",
        },
    ),
    "migrate -c ldg1 [fe80::1]:new": (
        "migrate-domain",
        {"certificates": True, "ldom": "ldg1", "host": "fe80::1", "target": "new"},
    ),
    "migrate -c ldg1 t2#6999:new": (
        "migrate-domain",
        {"certificates": True, "ldom": "ldg1", "host": "t2#6999", "target": "new"},
    ),
    "explain R18": ("explain", {"id": "R18"}),
}


@pytest.mark.parametrize("line", LINES)
def test_line_becomes_command(line: str) -> None:
    verb, arguments = LINES[line]
    command = parse(line.split())
    assert (verb, arguments) == (command.verb, command.arguments)
    assert arguments == json.loads(json.dumps(arguments))


FAULTS = {
    "": "No command; use --help option for list of available commands",
    "foo": "Unknown command foo; use --help option for list of available commands",
    "list -z": "Invalid option -z",
    "list -o": "Option -o needs a format",
    "list -o d": "Invalid format 'd': could be disk, domain",
    "list -o core": "Invalid format 'core': not one of console, cpu, crypto, disk, domain, memory,"
    " network, physio, serial, status",
    "list ldg1 -p": "Option -p must stand before the operands",
    "list-constraints -x -p": "Options -x and -p exclude each other",
    "add-vcpu x ldg1": "Invalid number 'x': not a whole number",
    "add-vcpu 0 ldg1": "Invalid number '0': not between 1 and 1048576",
    "add-vcpu 4": "Missing operand <ldom>",
    "add-vcpu 4 a b": "Too many operands: b",
    "add-memory 4T a": "Invalid size '4T': not a size such as 512M or 4G (without a letter: bytes)",
    "add-dom mac-addr=2:0:0:0:0:1 a b": "Too many operands: b",
    "add-dom a/b": "Invalid ldom 'a/b': a name is a letter or digit, then letters, digits or any"
    " of -_+#.:;~()",
    "add-dom color=red a": "Unknown property color",
    "add-dom mac-addr=1:0:0:0:0:1 a": "Invalid mac-addr '1:0:0:0:0:1': not the address of one"
    " device",
    "add-vcc vcc0 primary": "Property port-range= is missing",
    "add-vcc port-range=9-5 vcc0 primary": "Invalid port-range '9-5': the first port is above the"
    " last",
    "add-vnet mtu=1 mtu=2 v s l": "Invalid mtu '1': not between 1500 and 16000",
    "add-vnet mtu=1500 mtu=1500 v s l": "Property mtu is given twice",
    "add-vnet v s l mtu=1500": "Property mtu=1500 must stand before the operands",
    "add-vnet vid=4095 v s l": "Invalid vid '4095': not between 1 and 4094",
    "add-vdisk d0 vol1 ldg1": "Invalid volume-name@service-name 'vol1': not of the form"
    " volume-name@service-name",
    "remove-domain": "Missing operand <ldom>...",
    "set-domain master=a,b,c,d,e x": "Invalid master 'a,b,c,d,e': more than 4",
    "migrate ldg1 @t2": "Invalid [user@]target-host[:target-ldom] '@t2': not of the form"
    " [user@]target-host[:target-ldom]",
    "migrate -c -p f ldg1 t2": "Options -c and -p exclude each other",
    "add-spconfig " + "x" * 65: f"Invalid config-name '{'x' * 65}': longer than 64 characters",
}


@pytest.mark.parametrize("line", FAULTS)
def test_fault_names_the_word(line: str) -> None:
    with pytest.raises(LodomError) as caught:
        parse(line.split())
    assert FAULTS[line] == str(caught.value)
    assert isinstance(caught.value, BadUsage | InvalidValue)


def test_bad_usage_shows_the_usage() -> None:
    with pytest.raises(BadUsage) as caught:
        parse(["add-vcpu", "4"])
    assert caught.value.usage == "Usage: ldm add-vcpu <number> <ldom>"


def test_spellings_are_unique() -> None:
    """No alias names two verbs; every verb is found by its name and its short form."""
    spellings = [s for v in VERBS for s in {v.name, v.shown, *v.aliases} - {""}]
    assert len(spellings) == len(set(spellings))
    for verb in VERBS:
        assert find_verb(verb.name) is verb
        assert find_verb(verb.shown or verb.name) is verb


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("rm-vds", "remove-vdiskserver"),
        ("ls-dom", "list-domain"),
        ("rm-vdsdev", "remove-vdiskserverdevice"),
        ("set-vcons", "set-vconsole"),
        ("ls-bindings", "list-bindings"),
        ("rm-config", "remove-spconfig"),
        ("add-cpu", "add-vcpu"),
        ("create", "add-domain"),
        ("modify", "set-domain"),
        ("panic", "panic-domain"),
    ],
)
def test_aliases(alias: str, name: str) -> None:
    found = find_verb(alias)
    assert found is not None
    assert found.name == name
