"""Arguments of programs: what a typed line could give passes, all else is named."""

import json
import re
import shlex
from typing import Any

import pytest

from lodom.core.errors import InvalidValue
from lodom.grammar.arguments import check
from lodom.grammar.parser import parse

LINES = """
add-domain mac-addr=0:14:4f:fc:0:1 hostid=0x1f failure-policy=stop master=a,b ldg1
add-domain ldg1 ldg2
set-domain master= ldg1
remove-domain -a
list-domain -l -o cpu,disk
stop-domain -f ldg1
migrate-domain -n --json ldg1 root@t2#6482:ldg2
set-vcpu 0 ldg1
set-memory 512M ldg1
cancel-operation reconf ldg1
list-spconfig
set-variable boot-args= "boot-device=disk net" ldg1
add-vcc port-range=5000-5100 vcc0 primary
add-vdsdev options=ro,excl mpgroup=m /srv/a.img v@s
set-vdsdev options= v@s
add-vdisk timeout=0 id=3 d v@s ldg1
add-vnet vid=2,3 pvid= mtu=9000 n vsw0 ldg1
add-vsw net-dev= mode=sc vsw0 primary
list-devices -a crypto
list-history --json -n 3
explain R18
"""


@pytest.mark.parametrize("line", LINES.strip().splitlines())
def test_what_is_typed_fits(line: str) -> None:
    command = parse(shlex.split(line))
    check(command.verb, json.loads(json.dumps(command.arguments)))


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("list-domain", {}), ("stop-guests", {"timeout": 0}), ("trust-peer", {"host": "t2"}),
        ("migrate-domain", {"ldom": "a", "host": "t2", "password": "x", "accept": "y"}),
    ],
)  # fmt: skip
def test_what_our_programs_send_fits(verb: str, arguments: dict[str, Any]) -> None:
    check(verb, arguments)


@pytest.mark.parametrize(
    ("verb", "arguments", "why"),
    [
        ("frob", {}, "command 'frob': not known"),
        ("add-vcpu", {"number": 1}, "argument 'ldom': add-vcpu needs it"),
        ("add-domain", {"ldoms": []}, "argument 'ldoms': add-domain needs it"),
        ("migrate-domain", {"ldom": "a"}, "argument 'host'"),
        ("add-vcpu", {"number": "1", "ldom": "a"}, "argument number '1': whole number"),
        ("add-vcpu", {"number": True, "ldom": "a"}, "not a whole number"),
        ("add-vcpu", {"number": 0, "ldom": "a"}, "not between"),
        ("add-vcpu", {"number": 1, "ldom": ["a"]}, "argument ldom"),
        ("add-domain", {"ldoms": "a"}, "argument ldoms 'a': name of a domain"),
        ("add-domain", {"ldoms": ["../../etc/a"]}, "a name is a letter or digit"),
        ("add-domain", {"ldoms": ["a"], "masters": "b"}, "argument masters"),
        ("add-vdisk", {"name": "d", "volume": "a/b", "service": "s", "ldom": "a"}, "volume"),
        ("set-variable", {"variables": ["a=b"], "ldom": "a"}, "argument variables"),
        ("stop-domain", {"ldoms": ["a"], "force": "yes"}, "true or nothing"),
        ("list-history", {"number": "x"}, "not a whole number"),
        ("explain", {}, "argument 'id'"),
    ],
)
def test_what_nobody_could_type_is_named(verb: str, arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidValue, match=re.escape(why)):
        check(verb, arguments)
