"""One change, exactly that finding: crypto units."""

import pytest

from lodom.core.rules.crypto import streams
from rules import clean
from rules.clean import brief, ids, source_machine, strands, target, target_machine


@pytest.mark.parametrize(("ours", "theirs", "count"), [(0, 0, 2), (4, 2, 4), (0, 9, 2), (9, 9, 8)])
def test_r02_streams_follow_the_units_of_both(ours, theirs, count):
    case = target_machine(source_machine(primary_crypto=ours), primary_crypto=theirs)
    assert streams(case.source.machine, case.target.machine) == count


def test_r02_a_control_domain_without_units_is_noted():
    assert brief(target_machine(source_machine(primary_crypto=6), primary_crypto=0)) == [
        (
            "R02",
            "note",
            "The control domain of beta has no cryptographic units: the copy uses 2 streams; "
            "with 6 it would be up to 4 times as fast",
        )
    ]
    case = source_machine(target_machine(primary_crypto=0), primary_crypto=0)
    assert ids(case) == ["R02", "R02"]
    assert ids(clean.domain(case, state="bound")) == []


def test_r43_units_and_several_strands():
    case = clean.domain(strands(), crypto=1)
    assert brief(case)[0] == (
        "R43",
        "blocker",
        "LDom ldg-src has 1 cryptographic units bound and 2 VCPUs; "
        "with units bound only one VCPU can be migrated",
    )
    assert ids(case) == ["R43", "L22"]
    assert ids(clean.domain(case, state="bound")) == []


def test_r43_one_strand_may_have_units():
    assert ids(clean.domain(crypto=1)) == []


def test_l21_no_units_on_the_target():
    assert brief(target(clean.domain(crypto=1), crypto_free=0)) == [
        (
            "L21",
            "warning",
            "beta has 0 free cryptographic units on the cores for LDom ldg-src, which has 1 bound",
        )
    ]
