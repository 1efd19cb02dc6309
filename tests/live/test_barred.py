"""What two machines refuse while a migration is in progress between them, and what they do not."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from facts_means import A, B, bound
from machines import Domain, Machine, World, eventually
from test_cancel import copying, slow_link

from lodom.core.errors import Kind
from lodom.lab.watch import Heartbeats

pytestmark = pytest.mark.live
__all__ = ["slow_link"]

Make = Callable[..., Domain]

BARRED = {
    "R46": ("a set-memory 192M primary", "b set-memory 192M primary"),
    "R47": (
        "a set-variable x=1 ldg1", "a add-vnet v9 primary-vsw0 ldg1", "b set-vcpu 2 ldg1",
        "a set-vconsole group=mine ldg1",
    ),
    "R48": ("a stop-domain ldg1", "a unbind-domain ldg1", "b stop-domain ldg1"),
    "R49": (
        "a bind-domain spare", "a unbind-domain other", "a start-domain other",
        "b unbind-domain user",
        "b stop-domain user", "b add-domain new", "a migrate-domain -p {password} other {b}",
    ),
}  # fmt: skip
"""Machine and words of what each rule forbids."""
UNBARRED = ("a set-variable x=1 ldg1", "b unbind-domain user")
"""Some of it, tried again afterwards."""
ALLOWED = ("list", "list -l ldg1", "list -o status ldg1", "list-bindings", "list-constraints",
           "list-devices -a", "list-services", "list-history")  # fmt: skip


@dataclass
class Seen:
    """What was seen while the copy was under way, and after it was cancelled."""

    refused: dict[str, list[tuple[str, int, str]]]
    lists: list[int]
    dry: dict[str, list[tuple[str, str]]]
    rebooted: bool
    strands: tuple[list[int], list[int]]
    changed: bool
    after: dict[str, int]


def findings(world: World, ldom: str) -> list[tuple[str, str]]:
    """(rule, text) of the blockers of a dry run."""
    said = world.a.tried(*world.a.migrate_words(ldom, world.b, "-n", "--json"))
    found = json.loads(said.out)["findings"]
    return [(f["rule"], f["text"]) for f in found if f["severity"] == "blocker"]


def tried(world: World, line: str) -> tuple[str, int, str]:
    """The line, its exit code and what it said."""
    which, _, words = line.partition(" ")
    filled = words.format(password=world.a.password, b=world.b.name)
    said = (world.a if which == "a" else world.b).tried(*filled.split())
    return line, said.code, said.err


def shown(machine: Machine) -> str:
    """What is asked of and given to all domains but the one that moves."""
    return "".join(machine.ldm("list-constraints", "-p", n) for n in machine.names() if n != "ldg1")


@pytest.fixture(scope="module")
def seen(world: World) -> Iterator[Seen]:
    """One copy on a slow link; meanwhile everything is tried, and the other guest boots anew."""
    a, b = world.a, world.b
    link = slow_link.__wrapped__(world)  # type: ignore[attr-defined]
    moving, other = world.domain("ldg1", vcpus=2), world.domain("other")
    a.ldm("add-domain", "spare")
    try:
        with Heartbeats() as beats, bound(b, "user"):
            moving.start(beats)
            first = other.start(beats)
            next(link)
            moving.status.say("dirty 40 48")
            strands, before = a.strands("other"), (shown(a), shown(b))
            ldm = a.begin(*a.migrate_words("ldg1", b))
            eventually(lambda: copying(world, "ldg1"), "the copy")
            other.status.say("reboot")
            refused = {r: [tried(world, line) for line in lines] for r, lines in BARRED.items()}
            lists = [m.tried(*words.split()).code for m in (a, b) for words in ALLOWED]
            dry = {name: findings(world, name) for name in ("ldg1", "other")}
            rebooted = beats.first("other", within=30, unlike=first) != first
            assert copying(world, "ldg1"), "the copy was over before all was tried"
            a.ldm("cancel-operation", "migration", "ldg1")
            a.end(ldm)
            eventually(lambda: a.row("ldg1")["flags"] == "-n----", "an ordinary domain again")
            eventually(lambda: "ldg1" not in b.names(), "the target's shell is gone")
            yield Seen(
                refused, lists, dry, rebooted, (strands, a.strands("other")),
                (shown(a), shown(b)) != before,
                {line: tried(world, line)[1] for line in UNBARRED},
            )  # fmt: skip
    finally:
        next(link, None)
        a.tried("remove-domain", "spare")
        world.clear()


@pytest.mark.parametrize("rule", BARRED)
def test_refused_while_it_moves(seen: Seen, rule: str) -> None:
    """R46, R47, R48, R49: on both machines, with the migration's name, other machine and time."""
    since = r"since \d\d:\d\d:\d\d UTC"
    for line, code, said in seen.refused[rule]:
        way = f"to {B}" if line.startswith("a") else f"from {A}"
        verb = line.split()[1]
        text = f"{verb} is not permitted: a migration of LDom ldg1 {way} is in progress {since} "
        assert re.fullmatch(rf"{text}\(R46 to R49\)\n", said), (line, said)
        assert code == Kind.TRY_LATER.exit_code
    assert not seen.changed


def test_r48_lists_and_cancel_are_not_refused(seen: Seen) -> None:
    """Looking changes nothing; that the domain is an ordinary one again shows the cancel."""
    assert set(seen.lists) == {0}
    assert set(seen.after.values()) == {0}, "and what was refused is not any more"


def test_l06_l07_a_dry_run_says_what_is_in_the_way(seen: Seen) -> None:
    """Of the domain that moves and of another one: a dry run is never refused outright."""
    under_way = [
        ("L07", f"A migration of LDom ldg1 to {B} is in progress on {A}"),
        ("L07", f"A migration of LDom ldg1 from {A} is in progress on {B}"),
    ]
    assert seen.dry["other"] == under_way
    rules = [rule for rule, _ in seen.dry["ldg1"]]
    assert "L06" in rules
    assert rules.count("L07") == 2


def test_r49_another_guest_boots_anew_and_keeps_its_strands(seen: Seen) -> None:
    """Its own reboot is not an order of the administrator."""
    assert seen.rebooted
    assert seen.strands[0] == seen.strands[1] != []
