"""What is told of the past, and of what just changed."""

from dataclasses import replace

from lodom.core.history import DONE, MIGRATION, Entry, list_history
from lodom.core.model.domain import State
from lodom.core.news import moving, news, percent
from lodom.sim.chaos import estate
from lodom.sim.world import World

PAST = [
    Entry("1", "command", 10.0, "root", ldoms=("ldg1",), command="ldm add-domain ldg1", ended=DONE),
    Entry(
        "2", MIGRATION, 20.0, peer="b", ldoms=("ldg1",), role="source", phases=(("copying", 1.5),)
    ),
    Entry("3", "command", 30.0, ldoms=("ldg2",), ended="failed", exit=5, code="LDM-020"),
]


def ids(**arguments):
    return [e["id"] for e in list_history(arguments, PAST)["history"]]


def test_all_the_last_or_those_of_a_domain_are_listed_in_their_order():
    assert ids() == ids(ldoms=[]) == ["1", "2", "3"]
    assert ids(number=2) == ["2", "3"]
    assert ids(ldoms=["ldg1"], number=1) == ["2"]
    assert ids(ldoms=["gone"]) == []


def test_an_exit_code_is_told_of_what_has_one():
    shown = list_history({}, PAST)["history"]
    assert [e["exit"] for e in shown] == [0, None, 5]
    assert shown[1]["phases"] == [{"phase": "copying", "seconds": 1.5}]


def test_a_change_of_state_is_news_and_no_change_is_none():
    before = estate()[0]
    d = before.named("ldg0")
    assert news(before, before) == ()
    assert news(before, before.with_domain(replace(d))) == ()
    (one,) = news(before, before.with_domain(replace(d, state=State.STOPPING)))
    assert (one.kind, one.ldom, one.data["state"]) == ("domain", "ldg0", "stopping")
    assert one.data["flags"][0] == "s"
    (gone,) = news(before, before.drop("domains", d.uuid))
    assert (gone.ldom, gone.data["state"]) == ("ldg0", "removed")


def test_a_migration_is_told_phase_by_phase_on_both_sides():
    """On the simulation's machines: every hundredth of a second each is asked for its news."""
    world = World(configured=estate()[:2])
    for host in world.hosts.values():
        host.up = False
        host.restart()
    world.run(10.0)
    known = {name: host.engine.inventory for name, host in world.hosts.items()}
    phases = {"source": [], "target": []}
    flags = set()

    def look():
        for name, host in world.hosts.items():
            for one in news(known[name], host.engine.inventory):
                if one.kind == "migration":
                    phases[one.data["role"]].append(one.data["phase"])
                    ended = one.data.get("result")
                else:
                    flags.add(one.data["flags"][5:])
                    ended = None
                assert (ended is not None) == (one.data.get("phase") == "ended")
                assert ended in (None, "done")
            known[name] = host.engine.inventory
            for found in moving(host.engine.inventory).values():
                assert found.flag in "st"

    world.hosts["a"].order("migrate-domain", ldom="ldg0", host="b")
    for _ in range(4000):
        world.run(0.01)
        look()
    assert phases["source"][-1] == phases["target"][-1] == "ended"
    assert "copying" in phases["source"]
    assert "running" in phases["target"]
    assert {"s", "t", "-"} <= flags


def test_a_copy_is_never_whole_before_its_end():
    assert percent({}) == 0
    assert percent({"total": 200, "remaining": 50}) == 75
    assert percent({"total": 200, "remaining": 0}) == 99
    assert percent({"total": 200, "remaining": 900}) == 0
