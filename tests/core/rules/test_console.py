"""One change, exactly that finding: the console."""

from lodom.core.model.devices import Console
from lodom.core.model.domain import Constraints
from lodom.core.rules.case import ConsoleFacts
from rules import clean
from rules.clean import brief, ids, target


def test_r35_no_concentrator():
    case = target(console=ConsoleFacts())
    assert brief(case) == [
        ("R35", "blocker", "The control domain of beta has no virtual console concentrator")
    ]
    assert ids(clean.domain(case, state="inactive")) == []


def test_r35_no_free_port():
    assert brief(target(console=ConsoleFacts("primary-vcc0", 5000, 5001, 0))) == [
        (
            "R35",
            "blocker",
            "Virtual console concentrator primary-vcc0 of beta has no free port in 5000-5001",
        )
    ]


def test_r36_wishes_are_dropped_with_a_note():
    asked = Constraints(vcpu=1, memory=1, console=Console(group="mine", port=5100))
    assert brief(clean.domain(constraints=asked)) == [
        (
            "R36",
            "note",
            "The console of LDom ldg-src is set anew on beta; port=5100 group=mine is not kept",
        )
    ]


def test_r39_group_is_the_new_name():
    case = target(groups=("ldg-new",))
    assert ids(case) == []
    assert brief(clean.domain(case, target_name="ldg-new")) == [
        ("R39", "blocker", "Console group ldg-new exists already on beta")
    ]
