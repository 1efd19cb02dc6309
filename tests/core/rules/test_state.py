"""One change, exactly that finding: state of machines and domain, and ownership."""

import pytest

from lodom.core.rules.case import MigrationFacts
from rules.clean import (
    brief,
    domain,
    ids,
    source,
    source_machine,
    target,
    target_machine,
)


def test_r45_on_either_machine():
    assert brief(source_machine(delayed=True)) == [
        ("R45", "blocker", "A delayed reconfiguration is active on alpha")
    ]
    assert brief(target_machine(delayed=True)) == [
        ("R45", "blocker", "A delayed reconfiguration is active on beta")
    ]
    assert ids(domain(target_machine(delayed=True), state="inactive")) == ["R45"]


def test_l01_no_common_protocol():
    assert brief(target_machine(protocols=(3,))) == [
        ("L01", "blocker", "alpha and beta share no protocol version: 1, 2 and 3")
    ]
    assert ids(target_machine(protocols=(2, 3))) == []


def test_l02_clone():
    assert ids(target_machine(instance="i-alpha")) == ["L02"]


@pytest.mark.parametrize(
    ("epoch", "owner", "stale"),
    [
        (0, "", False),
        (2, "i-beta", False),  # it was there before
        (3, "i-alpha", False),  # it came from there: the record of its leaving
        (3, "i-beta", True),
        (4, "i-alpha", True),
        (4, "i-beta", True),
    ],
)
def test_l03_epochs(epoch, owner, stale):
    assert ids(target(epoch=epoch, owner=owner)) == (["L03"] if stale else [])


def test_l03_source_is_not_the_owner():
    assert brief(source(owner="i-beta")) == [
        ("L03", "blocker", "alpha is not the owner of LDom ldg-src (epoch 3)")
    ]


def test_l04_name_taken():
    assert brief(domain(target_name="ldg7", name="ldg7")) == [
        ("R39", "blocker", "Console group ldg7 exists already on beta"),
        ("L04", "blocker", "A domain named ldg7 exists already on beta"),
    ]
    assert ids(target(names=("ldg-src",))) == ["L04"]


def test_l05_second_copy():
    assert ids(target(known_state="bound")) == ["L05"]
    assert ids(target(known_state="inactive")) == []


@pytest.mark.parametrize("state", ["starting", "stopping", "binding", "unbinding", "suspended"])
def test_l06_unsettled(state):
    assert brief(domain(state=state)) == [("L06", "blocker", f"LDom ldg-src is {state}")]


def test_l06_held():
    assert brief(domain(locked_by="migration 7")) == [
        ("L06", "blocker", "LDom ldg-src is held by migration 7")
    ]


def test_l07_migrations_do_not_cross():
    other = MigrationFacts("ldg2", "target", "gamma")
    assert brief(target_machine(migrations=(other,))) == [
        ("L07", "blocker", "A migration of LDom ldg2 from gamma is in progress on beta")
    ]
    leaving = MigrationFacts("ldg2", "source", "gamma")
    assert brief(source_machine(migrations=(leaving,))) == [
        ("L07", "blocker", "A migration of LDom ldg2 to gamma is in progress on alpha")
    ]


def test_l23_the_next_boot_restores_a_configuration_without_it():
    assert brief(target(boots_without="factory-default")) == [
        (
            "L23",
            "warning",
            "The next boot of beta restores the configuration factory-default, without "
            "LDom ldg-src",
        )
    ]
