"""The journal on a real file."""

import sqlite3

import pytest

from lodom.core.lifecycle.factory import first_inventory
from lodom.core.lifecycle.reconf import snapshot
from lodom.core.model.host import Machine, Region, Strand
from lodom.core.model.inventory import Change, Freed, Inventory, Ownership, changes
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


def _filled(path):
    """A journal of many pages, closed: one file, no log beside it."""
    store = _store(path)
    inventory = first_inventory(MACHINE, "u", "00:14:4f:f8:00:01")
    for number in range(200):
        inventory = inventory.put("ownership", f"u{number}", Ownership(f"u{number}", 1, "a" * 100))
    store.write(changes(Inventory(MACHINE), inventory))
    store.close()
    return path / "journal.db"


def _truncated(data):
    return data[: len(data) * 2 // 3]


def _cut_short(data):
    return data[:50]


def _garbled_head(data):
    return b"\xff" * 100 + data[100:]


def _garbled_middle(data):
    middle = len(data) // 2
    return data[:middle] + bytes(range(256)) * 32 + data[middle + 8192 :]


def _bit_flipped_in_a_page(data):
    """One bit of the head of a page: how many cells it has."""
    page = int.from_bytes(data[16:18], "big")
    at = 3 * page + 4
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _bit_flipped_in_a_value(data):
    """An epoch is another, and all else is well-formed."""
    at = data.index(b'"epoch":1') + len(b'"epoch":')
    return data[:at] + bytes([data[at] ^ 2]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        _truncated,
        _cut_short,
        _garbled_head,
        _garbled_middle,
        _bit_flipped_in_a_page,
        _bit_flipped_in_a_value,
    ],
)
def test_a_journal_damaged_in_any_way_is_reported_and_left_alone(damage, tmp_path):
    path = _filled(tmp_path)
    broken = damage(path.read_bytes())
    path.write_bytes(broken)
    with pytest.raises(JournalUnusable, match=r"damaged|cannot be"):
        _store(tmp_path).load(MACHINE)
    assert path.read_bytes() == broken


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("UPDATE record SET body = '{' WHERE tab = 'domains'", "cannot be read"),
        ("UPDATE record SET body = '{}' WHERE key = 'u7'", "cannot be read"),
        ("UPDATE record SET tab = 'later' WHERE key = 'u7'", "cannot be read"),
        ("DROP TABLE record", "has columns none"),
        ("DROP TABLE meta", "has columns none"),
        ("ALTER TABLE record RENAME COLUMN body TO text", "has columns"),
    ],
)
def test_a_journal_that_says_what_it_cannot_is_reported_and_left_alone(statement, word, tmp_path):
    path = _filled(tmp_path)
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(JournalUnusable, match=word):
        _store(tmp_path).load(MACHINE)
    assert path.read_bytes() == before


def test_another_program_s_database_is_reported_and_left_alone(tmp_path):
    path = tmp_path / "journal.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE recipes (name TEXT)")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(JournalUnusable, match="not a journal"):
        _store(tmp_path)
    assert path.read_bytes() == before


def test_a_journal_of_the_release_before_is_taken_over(tmp_path):
    path = _filled(tmp_path)
    db = sqlite3.connect(path)
    db.execute("ALTER TABLE record DROP COLUMN crc")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    store = _store(tmp_path)
    inventory = store.load(MACHINE)
    assert len(inventory.ownership) >= 200
    old = inventory.ownership["u7"]
    store.write([Change("ownership", "u7", old, Ownership("u7", 2, "b"))])
    assert store.ownership()["u7"] == Ownership("u7", 2, "b")
    store.close()
    assert _store(tmp_path).load(MACHINE).ownership["u7"].epoch == 2


def test_every_kind_of_record_is_a_compare_and_set(tmp_path):
    """Somebody else's write between two of ours is noticed by an update, a removal, an insert."""
    _filled(tmp_path)
    store = _store(tmp_path)
    record = store.load(MACHINE).ownership["u7"]
    for after in (Ownership("u7", 5, "x"), None):
        store._db.execute("UPDATE record SET version = version + 1 WHERE key = 'u7'")
        with pytest.raises(JournalConflict):
            store.write([Change("ownership", "u7", record, after)])
        store._db.execute("UPDATE record SET version = version - 1 WHERE key = 'u7'")
    store._db.execute("INSERT INTO record VALUES ('dirty', '0x0', 1, '{}', NULL)")
    with pytest.raises(JournalConflict):
        store.write([Change("dirty", "0x0", None, Freed(Region(0, 1 << 21)))])
