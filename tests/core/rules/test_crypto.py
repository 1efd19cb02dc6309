"""One change, exactly that finding: crypto units."""

from rules import clean
from rules.clean import brief, ids, strands, target


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
        ("L21", "warning", "beta has 0 free cryptographic units, LDom ldg-src has 1 bound")
    ]
