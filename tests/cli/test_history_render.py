"""``list-history`` as people and as programs read it."""

import json
from dataclasses import replace

import pytest

from lodom.cli.render import render
from lodom.core.history import COMMAND, DONE, FAILED, MIGRATION, Entry, list_history

PAST = [
    Entry(
        "1", COMMAND, 0.0, "root", ldoms=("ldg1",), command="ldm add-vcpu 9 ldg1", ended=FAILED,
        seconds=0.25, exit=5, code="LDM-020", reason="Not enough free CPUs\nor | bars",
    ),
    Entry(
        "abcdef0123", MIGRATION, 60.0, peer="b", ldoms=("ldg1",), ended=DONE, seconds=2.5,
        role="source", phases=(("copying", 1.5), ("ceded", 0.05)),
        numbers={"transferred": 3 << 20, "total_ms": 900, "downtime_ms": 20},
    ),
    Entry("3", COMMAND, 90.0, "root", command="ldm bind-domain ldg1"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def shown(entries, **arguments):
    return render("list-history", arguments, list_history({}, entries))


def test_for_people():
    assert shown(PAST) == [
        "WHEN                 WHO               TOOK     ENDED        WHAT",
        "1970-01-01 00:00:00  root              0.25s    exit 5       ldm add-vcpu 9 ldg1",
        "    LDM-020 Not enough free CPUs",
        "    or | bars",
        "1970-01-01 00:01:00  b                 2.50s    done         "
        "migration abcdef01 of ldg1 to b",
        "    phases: copying 1.50s, ceded 0.05s",
        "    copy: 3.0 MiB sent, in 900 ms, stopped for 20 ms",
        "1970-01-01 00:01:30  root                       under way    ldm bind-domain ldg1",
    ]


def test_no_history_prints_nothing():
    assert shown([]) == []


def test_a_record_is_one_line_with_no_bar_in_a_field():
    lines = shown(PAST, parseable=True)
    assert lines[0] == "VERSION 1.3"
    fields = dict(part.split("=", 1) for part in lines[1].split("|")[1:])
    assert fields["reason"] == "Not enough free CPUs; or / bars"
    assert (fields["exit"], fields["ldoms"]) == ("5", "ldg1")
    assert lines[3:6] == [
        "|phase=copying|seconds=1.5",
        "|phase=ceded|seconds=0.05",
        "|downtime_ms=20|total_ms=900|transferred=3145728",
    ]


def test_json_is_the_document():
    found = json.loads("\n".join(shown(PAST[:1], json=True)))
    assert found["history"][0]["exit"] == 5
    assert found == list_history({}, [replace(PAST[0])])
