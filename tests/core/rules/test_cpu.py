"""One change, exactly that finding: processors and strands."""

from dataclasses import replace

from lodom.core.rules.case import CoreFacts
from rules import clean
from rules.clean import CLEAN, agent, brief, ids, source_machine, strands, target, target_machine

NOTE = (
    "L22",
    "note",
    "LDom ldg-src will run on one of its {} strands during the copy",
)


def note(count):
    return (*NOTE[:2], NOTE[2].format(count))


def test_r03_type_differs():
    assert brief(target_machine(processor="SPARC-T4")) == [
        (
            "R03",
            "blocker",
            "The processor type differs: alpha has UltraSPARC-T2, beta has SPARC-T4",
        )
    ]


def test_r03_frequency_differs():
    assert brief(target_machine(frequency_hz=1415_000_000)) == [
        ("R03", "blocker", "The processor frequency differs: alpha has 1165 MHz, beta has 1415 MHz")
    ]


def test_r03_both_causes_are_told():
    assert ids(target_machine(processor="x", frequency_hz=1)) == ["R03", "R03"]


def test_r03_unknown_is_a_warning():
    assert brief(target_machine(frequency_hz=None)) == [
        (
            "R03",
            "warning",
            "The processor frequency cannot be compared: alpha has 1165 MHz, beta has unknown",
        )
    ]


def test_r03_is_for_active_domains():
    assert ids(clean.domain(target_machine(processor="SPARC-T4"), state="bound")) == []


def test_r04_too_few_strands():
    case = target(cores=(CoreFacts(0, (0, 1), ()),))
    assert brief(case) == [
        ("R04", "blocker", "Not enough free strands on beta: 1 needed, 0 free"),
    ]
    assert ids(clean.domain(case, state="bound")) == ["R04"]
    assert ids(clean.domain(case, state="inactive")) == []


def test_r05_shared_cores_do_not_count():
    case = target(cores=(CoreFacts(0, (0, 1), (1,)), CoreFacts(1, (2, 3), (3,))))
    assert brief(case) == [
        (
            "R05",
            "blocker",
            "Not enough free cores on beta: 1 strands needed on whole cores, "
            "0 free cores with 0 strands (2 strands free)",
        )
    ]
    both = target_machine(source_machine(case, rules="3.x"), rules="3.x")
    assert ids(both) == []
    assert ids(source_machine(case, rules="3.x")) == ["R05"]


def test_r09_silent_agent():
    assert brief(agent(strands(), answers=False)) == [
        (
            "R09",
            "blocker",
            "LDom ldg-src has 2 strands and cannot be shrunk to one: its guest agent is silent",
        ),
        note(2),
    ]


def test_r09_guest_without_cpu_dr():
    assert ids(agent(strands(), cpu_dr=False)) == ["R09", "L22"]


def test_r09_one_strand_needs_no_agent():
    assert ids(agent(answers=False, cpu_dr=False)) == []


def test_r11_bound_threads():
    assert brief(agent(strands(count=3), bound=((1, 1), (2, 4)))) == [
        ("R11", "blocker", "Removing cpu 1 would fail, reason: cpu has bound thread"),
        ("R11", "blocker", "Removing cpu 2 would fail, reason: cpu has bound threads"),
        note(3),
    ]


def test_r11_processor_set():
    assert brief(agent(strands(), emptied_sets=("1",))) == [
        (
            "R11",
            "blocker",
            "Shrinking to one cpu would fail, reason: last online cpu in processor set 1",
        ),
        note(2),
    ]


def test_r11_cannot_be_known():
    case = agent(strands(), bindings_known=False)
    assert [(r, s) for r, s, _ in brief(case)] == [("R11", "warning"), ("L22", "note")]
    assert brief(target_machine(case, strict=True))[0][:2] == ("R11", "blocker")


def test_l22_later_rules_keep_the_strands():
    assert brief(strands()) == [note(2)]
    assert ids(target_machine(source_machine(strands(), rules="3.x"), rules="3.x")) == []


def test_an_inactive_domain_counts_what_it_asks_for():
    asked = replace(CLEAN.domain.constraints, vcpu=7)
    assert clean.domain(vcpus=(), constraints=asked, state="inactive").domain.strands == 7


def test_r11_a_control_domain_has_no_agent_to_ask():
    """R24 says all that there is to say."""
    assert "R11" not in ids(clean.domain(agent(strands(), bindings_known=False), control=True))
