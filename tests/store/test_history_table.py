"""The table of history on a real file."""

import sqlite3
import time

import pytest

from lodom.core.history import COMMAND, DONE, INTERRUPTED, MIGRATION, UNDER_WAY, Entry
from lodom.core.model.inventory import Change, Ownership
from lodom.store import history
from lodom.store.sqlite import Store

NOW = 1_800_000_000.0


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "journal.db", fresh_instance="i")
    yield opened
    opened.close()


def test_an_entry_takes_the_place_of_the_one_with_its_id(store):
    store.note([Entry("1", COMMAND, NOW, command="ldm x")], NOW)
    whole = Entry(
        "1", COMMAND, NOW, "root", "b", ("ldg1",), "ldm x", DONE, 1.5, numbers={"total": 3}
    )
    source = Entry("2", MIGRATION, NOW, role="source", phases=(("copying", 0.5),))
    target = Entry("2", MIGRATION, NOW, role="target")
    store.note([whole, source, target], NOW)
    assert store.history()() == [whole, source, target]


def test_it_is_bounded_by_count_and_by_age(store, monkeypatch):
    monkeypatch.setattr(history, "COUNT_MAX", 3)
    store.note([Entry(str(n), COMMAND, NOW + n) for n in range(5)], NOW)
    assert [e.id for e in store.history()()] == ["2", "3", "4"]
    store.note([Entry("5", COMMAND, NOW + 5)], NOW + 4.5 + history.AGE_MAX_S)
    assert [e.id for e in store.history()()] == ["5"]


def test_what_was_under_way_when_ldmd_went_is_told_as_interrupted(store):
    store.note(
        [
            Entry("1", COMMAND, NOW, ended=UNDER_WAY),
            Entry("2", COMMAND, NOW, ended=DONE),
            Entry("3", MIGRATION, NOW, role="source", ended=UNDER_WAY),
        ],
        NOW,
    )
    store.interrupted(NOW)
    assert [e.ended for e in store.history()()] == [INTERRUPTED, DONE, UNDER_WAY]


def test_a_record_that_cannot_be_read_is_left_out(store):
    store.note([Entry("1", COMMAND, NOW), Entry("2", COMMAND, NOW)], NOW)
    store._db.execute("UPDATE history SET body = '{' WHERE id = '1'")
    assert [e.id for e in store.history()()] == ["2"]


def test_a_journal_of_two_releases_before_is_taken_over(tmp_path):
    """Made as release 1 of the schema made it: no checksums, no history."""
    path = tmp_path / "journal.db"
    store = Store.open(path, fresh_instance="i")
    store.write([Change("ownership", "u", None, Ownership("u", 1, "a"))])
    store.close()
    db = sqlite3.connect(path)
    db.executescript(
        "ALTER TABLE record DROP COLUMN crc; DROP TABLE history; "
        "DELETE FROM meta WHERE name = 'sequence'; PRAGMA user_version = 1"
    )
    db.close()
    again = Store.open(path, fresh_instance="other")
    assert (again.instance, again.ownership()["u"].epoch) == ("i", 1)
    assert (again.sequence, again.history()()) == (0, [])
    again.note([Entry("1", COMMAND, NOW)], NOW)
    assert len(again.history()()) == 1
    again.close()


def test_the_sequence_counts_writes_over_restarts(tmp_path, store):
    records = [Ownership("u", n, "a") for n in range(1, 4)]
    store.write([])
    store.write([Change("ownership", "u", None, records[0])])
    store.write([Change("ownership", "u", records[0], records[1])])
    assert store.sequence == 2
    store.close()
    again = Store.open(tmp_path / "journal.db", fresh_instance="i")
    assert again.sequence == 2
    again.close()


def test_a_full_history_is_read_soon(store):
    """Ten thousand records; only the first part holds up the loop."""
    store.note([Entry(str(n), COMMAND, NOW + n, "root") for n in range(history.COUNT_MAX)], NOW)
    begin = time.monotonic()
    rest = store.history()
    assert time.monotonic() - begin < 0.5
    assert len(rest()) == history.COUNT_MAX
