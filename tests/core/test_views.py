"""The documents of the reading verbs; their text is tested in tests/cli."""

import json
from dataclasses import replace

import pytest

from lodom.core.errors import DomainUnknown, ObjectUnknown
from lodom.core.model.devices import Concentrator, Console
from lodom.core.model.domain import Bindings, Block, Constraints, Domain, State, Vcpu
from lodom.core.model.host import Machine, Region, Strand
from lodom.core.model.inventory import Inventory
from lodom.core.units import MIB
from lodom.core.views import VIEWS, Live, Moving, view

GUEST = Domain(
    uuid="u1",
    name="ldg1",
    mac="00:14:4f:f8:00:01",
    state=State.ACTIVE,
    agent=True,
    running_since=40,
    constraints=Constraints(vcpu=2, memory=64 * MIB, variables=(("a", "1"), ("b", ""))),
    bindings=Bindings((Vcpu(0, 1),), (Block(0x8000000, 0x1000000, 32 * MIB),), held=(2,)),
)
MACHINE = Machine(
    "m1", "i1", "cpu", None, tuple(Strand(i, i // 2, i) for i in range(4)),
    (Region(0x1000000, 64 * MIB),), 4096,
)  # fmt: skip
INVENTORY = Inventory(
    MACHINE, {"u0": Domain(uuid="u0", name="primary", mac="", state=State.ACTIVE), "u1": GUEST}
)


def flags(domain: Domain, live: Live, inventory: Inventory = INVENTORY) -> str:
    inventory = inventory.with_domain(domain)
    document = view("list-domain", {"ldoms": [domain.name]}, inventory, live)
    return str(document["domains"][0]["flags"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "-n----"),
        ({"agent": False}, "-t----"),
        ({"state": State.STARTING, "agent": False}, "st----"),
        ({"state": State.STOPPING}, "sn----"),
        ({"state": State.SUSPENDED}, "-n----"),
        ({"state": State.BOUND}, "------"),
        ({"state": State.INACTIVE}, "------"),
    ],
)
def test_flags_follow_the_state(change: dict[str, object], expected: str) -> None:
    assert flags(replace(GUEST, **change), Live()) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("letter", ["s", "t", "e"])
def test_sixth_flag_is_the_migration(letter: str) -> None:
    assert flags(GUEST, Live(moving={"u1": Moving(letter, "m2")})) == f"-n---{letter}"


def test_third_and_fifth_flag() -> None:
    vcc = INVENTORY.put("vcc", "vcc0", Concentrator("vcc0", "ldg1", 1, 2))
    assert flags(GUEST, Live(), vcc) == "-n--v-"


def test_control_domain_is_always_normal() -> None:
    assert flags(INVENTORY.primary, Live()) == "-n-c--"


def test_bound_figures_are_what_was_given_else_what_was_asked() -> None:
    bound = view("list-domain", {"ldoms": ["ldg1"]}, INVENTORY, Live(now=100))["domains"][0]
    assert (bound["vcpus"], bound["memory"], bound["uptime"]) == (1, 32 * MIB, 60)
    unbound = INVENTORY.with_domain(replace(GUEST, state=State.INACTIVE, bindings=None))
    asked = view("list-domain", {"ldoms": ["ldg1"]}, unbound, Live(now=100))["domains"][0]
    assert (asked["vcpus"], asked["memory"], asked["uptime"]) == (2, 64 * MIB, None)


def test_control_domain_has_run_since_the_boot() -> None:
    live = Live(now=100, booted=30)
    assert (
        view("list-domain", {"ldoms": ["primary"]}, INVENTORY, live)["domains"][0]["uptime"] == 70
    )


def test_a_port_that_was_asked_for_shows_before_binding() -> None:
    asked = replace(GUEST, bindings=None, constraints=Constraints(console=Console(port=5007)))
    inventory = INVENTORY.with_domain(asked)
    assert view("list-domain", {"ldoms": ["ldg1"]}, inventory, Live())["domains"][0]["console"] == (
        "5007"
    )


def test_primary_comes_first_and_names_choose_and_order() -> None:
    def names(*ldoms: str) -> list[str]:
        document = view("list-domain", {"ldoms": list(ldoms)}, INVENTORY, Live())
        return [d["name"] for d in document["domains"]]

    assert names() == ["primary", "ldg1"]
    assert names("ldg1") == ["ldg1"]
    with pytest.raises(DomainUnknown):
        names("ldg1", "nobody")


def test_held_strands_are_neither_free_nor_bound() -> None:
    strands = view("list-devices", {}, INVENTORY, Live())["vcpu"]
    assert [(s["free"], s["bound"], s["held"]) for s in strands] == [
        (100, "", ""),
        (0, "ldg1", ""),
        (0, "", "ldg1"),
        (100, "", ""),
    ]


def test_memory_is_cut_into_bound_and_free() -> None:
    assert view("list-devices", {}, INVENTORY, Live())["memory"] == [
        {"pa": "0x1000000", "size": 32 * MIB, "bound": "ldg1"},
        {"pa": "0x3000000", "size": 32 * MIB, "bound": ""},
    ]


def test_variables_all_and_named_and_missing() -> None:
    def names(*wanted: str) -> list[str]:
        arguments = {"ldom": "ldg1", "names": list(wanted)}
        return [v["name"] for v in view("list-variable", arguments, INVENTORY, Live())["variables"]]

    assert names() == ["a", "b"]
    assert names("b") == ["b"]
    with pytest.raises(ObjectUnknown, match="not found"):
        names("c")


@pytest.mark.parametrize("verb", VIEWS)
def test_documents_are_json(verb: str) -> None:
    document = view(verb, {"ldom": "ldg1"}, INVENTORY, Live())
    assert json.loads(json.dumps(document)) == document


def test_a_verb_without_a_view_is_refused() -> None:
    with pytest.raises(ObjectUnknown):
        view("add-vcpu", {}, INVENTORY, Live())
