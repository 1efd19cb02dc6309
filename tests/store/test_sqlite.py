"""The journal on a real file."""

import sqlite3

import pytest

from lodom.core.lifecycle.factory import first_inventory
from lodom.core.lifecycle.reconf import snapshot
from lodom.core.model.host import Machine, Region, Strand
from lodom.core.model.inventory import Change, Inventory, Ownership, changes
from lodom.core.model.saved import Mark, Reconfiguration
from lodom.store.sqlite import JournalConflict, JournalUnusable, Store

MACHINE = Machine("a", "i", "cpu", 1, (Strand(0, 0, 0),), (Region(0, 1 << 30),), 1 << 21)


def _store(path):
    return Store.open(path / "journal.db", fresh_instance="fresh")


def test_an_inventory_comes_back_as_it_was(tmp_path):
    inventory = first_inventory(MACHINE, "u", "00:14:4f:f8:00:01")
    store = _store(tmp_path)
    assert store.load(MACHINE) is None
    inventory = inventory.put("configs", "one", snapshot(inventory, "one"))
    waits = Reconfiguration(inventory.primary.constraints, inventory.primary.bound)
    inventory = inventory.put("reconf", "primary", waits).put("marks", "boot", Mark("1"))
    store.write(changes(Inventory(MACHINE), inventory))
    store.close()
    again = _store(tmp_path)
    assert inventory == again.load(MACHINE)
    assert again.instance == "fresh"


def test_a_record_written_by_somebody_else_stops_the_write(tmp_path):
    store = _store(tmp_path)
    record = Ownership("u", 1, "a")
    store.write([Change("ownership", "u", None, record)])
    store._versions["ownership", "u"] = 7
    with pytest.raises(JournalConflict):
        store.write([Change("ownership", "u", record, Ownership("u", 2, "b"))])
    assert store.ownership() == {"u": record}


def test_a_transaction_is_all_or_nothing(tmp_path):
    store = _store(tmp_path)
    good = Change("ownership", "u", None, Ownership("u", 1, "a"))
    store._versions["ownership", "v"] = 3
    bad = Change("ownership", "v", None, Ownership("v", 1, "a"))
    with pytest.raises(JournalConflict):
        store.write([good, bad])
    assert store.ownership() == {}


def test_a_newer_journal_is_left_alone(tmp_path):
    _store(tmp_path).close()
    db = sqlite3.connect(tmp_path / "journal.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = (tmp_path / "journal.db").read_bytes()
    with pytest.raises(JournalUnusable, match="newer"):
        _store(tmp_path)
    assert before == (tmp_path / "journal.db").read_bytes()


def test_a_damaged_journal_is_reported_and_left_alone(tmp_path):
    (tmp_path / "journal.db").write_bytes(b"not a database" * 400)
    before = (tmp_path / "journal.db").read_bytes()
    with pytest.raises(JournalUnusable, match="not changed"):
        _store(tmp_path)
    assert before == (tmp_path / "journal.db").read_bytes()


def test_a_second_daemon_cannot_open_the_same_journal(tmp_path):
    first = _store(tmp_path)
    first.write([Change("ownership", "u", None, Ownership("u", 1, "a"))])
    with pytest.raises(JournalUnusable, match="another ldmd"):
        _store(tmp_path)
