"""A command is told as it would be typed: what is told means the same command again."""

import shlex

import pytest

from lodom.grammar.parser import parse
from lodom.grammar.words import typed, words

LINES = """
add-domain ldg1 ldg2
add-domain mac-addr=00:14:4f:fb:00:01 hostid=0x84fb0001 failure-policy=stop master=a,b ldg1
set-domain failure-policy=reset master= ldg1
remove-domain -a
stop-domain -f ldg1
migrate-domain -n -f -p /root/password ldg1 root@dt212-239:ldg7
migrate-domain -c ldg1 [fe80::1%eth0]#7000
migrate ldg1 b
recover-domain -y ldg1
add-vcpu 3 ldg1
set-memory 1536M ldg1
set-memory 0 ldg1
cancel-op mig ldg1
add-io bypass=on pci_0 primary
add-spconfig one
add-variable auto-boot?=true boot-args=console=ttyS0\\ quiet ldg1
remove-variable boot-args auto-boot? ldg1
add-vcc port-range=5000-5100 primary-vcc0 primary
set-vcons port= group=web service=primary-vcc0 ldg1
add-vdisk timeout=5 id=3 vdisk0 vol1@primary-vds0 ldg1
set-vdisk volume=vol2@primary-vds0 vdisk0 ldg1
add-vdsdev -f options=ro,excl mpgroup=one /srv/vol1.img vol1@primary-vds0
set-vdsdev options= vol1@primary-vds0
add-vnet mode=hybrid pvid=2 vid=3,4 mtu=9000 vnet0 primary-vsw0 ldg1
add-vsw default-vlan-id=2 net-dev=eth1 mode=sc primary-vsw0 primary
set-vsw mtu= net-dev= primary-vsw0
rm-vsw -f primary-vsw0
""".strip().splitlines()


@pytest.mark.parametrize("line", LINES)
def test_it_comes_back(line):
    first = parse(shlex.split(line))
    assert parse(words(first.verb, first.arguments)) == first


def test_what_is_no_part_of_it_is_left_out():
    given = {"ldom": "ldg1", "host": "b", "user": "u", "password": "hidden", "accept": "SHA256:x"}
    assert typed("migrate-domain", given) == "ldm migrate-domain ldg1 u@b"
    assert typed("nonsense", {"password": "hidden"}) == "ldm nonsense"
