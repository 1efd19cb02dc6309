"""Each rule that forbids a migration, met by two real ldmds: one fact of the world is changed.

Clean, then refused in the specification's words by the dry run and by the real one, nothing
changed on either machine, and clean again when the fact is put back.
"""

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import facts_hosts
import facts_said
import pytest
from facts_changed import ELSEWHERE, NOT_HERE
from facts_means import DISK, ROWS, Pair, Row
from machines import Machine, World, eventually

from lodom.core.errors import Kind
from lodom.core.rules.catalogue import CHECKS
from lodom.lab.watch import Heartbeats

pytestmark = pytest.mark.live
__all__ = ["facts_hosts", "facts_said"]

LISTS = ("list-constraints -p", "list-bindings -p", "list -l -p")
CLEAN = "it can move again: what others had is scrubbed"
_MOVING = re.compile(r"\|(?:util|uptime)=[^|\n]*")


@pytest.fixture(scope="module")
def pair(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A running domain of two strands, with a disk and a network device."""
    domain = world.domain("ldg1", vcpus=2, disk=DISK)
    try:
        with Heartbeats() as beats:
            domain.start(beats)
        pair = Pair(world, domain, tmp_path_factory.mktemp("facts"))
        assert clean(pair)
        yield pair
    finally:
        world.clear()


def everything(machine: Machine) -> tuple[str, ...]:
    """All that a refused migration must not change: every list, and the journal itself."""
    lists = [_MOVING.sub("", machine.ldm(*words.split())) for words in LISTS]
    # ldmd holds its journal for itself alone; what is durable can be copied.
    with TemporaryDirectory() as folder:
        for part in (machine.placed.folder / "state").glob("*.db*"):
            shutil.copy(part, folder)
        with closing(sqlite3.connect(next(Path(folder).glob("*.db")))) as journal:
            rows = journal.execute("SELECT tab, key, body FROM record ORDER BY tab, key").fetchall()
    assert rows
    return (*lists, *map(str, rows))


def judged(pair: Pair, row: Row) -> list[str]:
    """What a dry run finds, of the row's severity."""
    words = pair.a.migrate_words(row.ldom, pair.b, "-n", "--json", *row.options)
    found = json.loads(pair.a.tried(*words).out)["findings"]
    return [f["text"] for f in found if f["severity"] == row.severity]


def clean(pair: Pair) -> bool:
    """``ldg1`` can move."""
    said = pair.a.tried(*pair.a.migrate_words("ldg1", pair.b, "-n"))
    return (said.code, said.out, said.err) == (0, "", "")


BLOCKERS = [row for row in ROWS if row.severity == "blocker"]
OTHERS = [row for row in ROWS if row.severity != "blocker"]


def _id(row: Row) -> str:
    return f"{'-'.join(row.rules)}-{row.name}"


@pytest.mark.parametrize("row", BLOCKERS, ids=_id)
def test_refused(pair: Pair, row: Row) -> None:
    """R21: dry run and real one say the causes, then the verdict, and nothing has changed."""
    with row.change(pair):
        before = everything(pair.a), everything(pair.b)
        for options, verdict in ((("-n",), "would fail if attempted"), ((), "failed")):
            said = pair.a.tried(*pair.a.migrate_words(row.ldom, pair.b, *options))
            last = f"Domain Migration of LDom {row.ldom} {verdict}"
            assert said.err.splitlines() == [*row.lines, last]
            assert (said.code, said.out) == (Kind.REFUSED.exit_code, "")
        assert judged(pair, row) == list(row.lines)
        assert (everything(pair.a), everything(pair.b)) == before
    eventually(lambda: clean(pair), CLEAN)


@pytest.mark.parametrize("row", OTHERS, ids=_id)
def test_said(pair: Pair, row: Row) -> None:
    """The dry run ends well and says it; without the fact it says nothing of the kind."""
    with row.change(pair):
        before = everything(pair.a), everything(pair.b)
        words = pair.a.migrate_words(row.ldom, pair.b, "-n", *row.options)
        said = pair.a.tried(*words)
        warned = [f"Warning: {line}" for line in row.lines if row.severity == "warning"]
        assert (said.code, said.err.splitlines()) == (0, warned)
        told = judged(pair, row)
        assert set(row.lines) <= set(told)
        assert (everything(pair.a), everything(pair.b)) == before
    eventually(lambda: clean(pair), CLEAN)


def test_l22_the_one_strand_is_said(pair: Pair) -> None:
    """What is said of a domain with two strands that can move."""
    said = pair.a.tried(*pair.a.migrate_words("ldg1", pair.b, "-n", "-v"))
    assert said.err.splitlines()[0] == (
        "Note: L22 LDom ldg1 will run on one of its 2 strands during the copy"
    )


@pytest.mark.parametrize("rule", sorted(NOT_HERE))
def test_not_on_this_host(rule: str) -> None:
    """Skipped, with the reason."""
    pytest.skip(f"{rule}: {NOT_HERE[rule]}")


def test_every_check_has_a_fact_or_a_reason() -> None:
    shown = {rule for row in ROWS for rule in row.rules}
    checks = {check.id for check in CHECKS}
    assert checks - shown == set(NOT_HERE) | set(ELSEWHERE)
    for rule, file in ELSEWHERE.items():
        text = (Path(__file__).parent / file).read_text()
        assert re.search(rf"^def test_\w*{rule.lower()}_", text, re.MULTILINE), rule
