"""Who watches the loop: history, metrics, events, and a log whose lines say what they are about."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest

from lodom.api.events import Events
from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.errors import ConfigInvalid, StrandsExhausted
from lodom.core.migration import source
from lodom.core.migration.orders import TargetChecked
from lodom.core.model.domain import State
from lodom.core.rules.form import Finding, Severity
from lodom.daemon import config
from lodom.daemon.log import about
from lodom.daemon.metrics import TABLE, Metrics
from lodom.daemon.recorder import Recorder
from lodom.sim import handover
from lodom.sim.chaos import estate
from lodom.store.sqlite import Store


class Watched:
    """A recorder on a journal in *path*."""

    def __init__(self, path):
        self.inventory = estate()[0]
        self.store = Store.open(path / "journal.db", fresh_instance="i")
        self.metrics = Metrics(lambda: self.inventory, dict, lambda: 7, 100.0)
        self.events = Events(0, 0)
        self.recorder = Recorder(self.store, self.metrics, self.events)

    def value(self, line):
        """The value of one line of a scrape."""
        lines = dict(x.rsplit(" ", 1) for x in self.metrics.text().decode().splitlines() if x)
        return float(lines.get(line, "nan"))


@pytest.fixture
def watched(tmp_path):
    made = Watched(tmp_path)
    yield made
    made.store.close()


def run(main):
    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_command_is_told_with_how_it_ended(watched):
    async def main():
        noted = watched.recorder.noted
        with noted("1", "root", "add-domain", {"ldoms": ["new"], "password": "hidden"}):
            assert [e.ended for e in await watched.recorder.history()] == ["under way"]
        with (
            pytest.raises(StrandsExhausted),
            noted("2", "u", "add-vcpu", {"number": 9, "ldom": "x"}),
        ):
            raise StrandsExhausted(wanted=9, free=2)
        with (
            pytest.raises(asyncio.CancelledError),
            noted("3", "u", "start-domain", {"ldoms": ["x"]}),
        ):
            raise asyncio.CancelledError
        done, refused, gone = await watched.recorder.history()
        assert (done.ended, done.user, done.command) == ("done", "root", "ldm add-domain new")
        assert (refused.ended, refused.exit, refused.code) == ("failed", 5, "LDM-020")
        assert "9 wanted" in refused.reason
        assert (gone.ended, gone.reason) == ("interrupted", "who asked went away")
        assert b"hidden" not in b"".join(
            r[0].encode() for r in watched.store._rows("SELECT body FROM history")
        )

    run(main)
    assert watched.value('lodom_commands_total{exit="5",verb="add-vcpu"}') == 1
    assert watched.value('lodom_command_seconds_count{verb="add-domain"}') == 1


def test_a_migration_is_in_the_history_while_it_is_under_way(watched):
    async def main():
        row = handover.first().s.row
        begun = watched.inventory.put("outgoing", row.id, row)
        copying = begun.put("outgoing", row.id, replace(row, phase=source.Phase.COPYING))
        watched.recorder.seen(None, watched.inventory, begun)
        watched.recorder.seen(None, begun, copying)
        watched.recorder.seen(
            ev.CopyProgressed(row.uuid, row.id, {"transferred": 7}), copying, copying
        )
        [moving] = await watched.recorder.history()
        assert (moving.id, moving.ended) == (row.id, "under way")
        assert moving.numbers == {"transferred": 7}
        assert [phase for phase, _ in moving.phases] == ["preparing"]
        watched.recorder.seen(None, copying, watched.inventory)
        [ended] = await watched.recorder.history()
        assert ended.ended == "failed"
        assert [phase for phase, _ in ended.phases] == ["preparing", "copying"]

    run(main)


def test_history_is_written_behind_the_end_and_a_full_disk_holds_up_nobody(watched, monkeypatch):
    async def main():
        with monkeypatch.context() as patch:
            patch.setattr(
                watched.store,
                "note",
                lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("full")),
            )
            with watched.recorder.noted("1", "root", "add-domain", {"ldoms": ["new"]}):
                pass
            watched.recorder.flush()
            assert watched.store.history()() == []
            assert [e.id for e in await watched.recorder.history()] == ["1"]
        watched.recorder.flush()
        assert [e.id for e in watched.store.history()()] == ["1"]

    run(main)


def test_a_change_is_an_event_with_the_journals_sequence(watched):
    async def main():
        stopping = asyncio.Event()
        heard = watched.events.follow(watched.events.since(""), "ldg0", stopping)
        assert await anext(heard) == b": lodom\n\n"
        before = watched.inventory
        after = before.with_domain(replace(before.named("ldg0"), state=State.STOPPING))
        watched.recorder.seen(None, before, after)
        text = (await anext(heard)).decode()
        assert text.startswith("id: 0-1\nevent: domain\ndata: ")
        assert json.loads(text.split("data: ")[1])["state"] == "stopping"
        stopping.set()
        assert [x async for x in heard] == []

    run(main)


def test_each_metric_of_the_table_is_in_a_scrape_and_no_other(watched):
    families = {
        line.split()[2]
        for line in watched.metrics.text().decode().splitlines()
        if line[:6] == "# TYPE"
    }
    assert families == {m.name for m in TABLE}
    assert watched.value('lodom_domains{state="active"}') >= 2
    assert watched.value("lodom_journal_sequence") == 7


def test_a_line_of_the_log_says_what_it_is_about():
    inventory = estate()[0]
    uuid = inventory.named("ldg0").uuid
    assert about(do.DestroyGuest(uuid), inventory) == {"domain": "ldg0"}
    assert about(ev.TimerFired("lease:m1"), inventory) == {"migration": "m1"}
    assert about(ev.TimerFired(f"stop:{uuid}"), inventory) == {"domain": "ldg0"}
    given = ev.CommandGiven("r1", "add-domain", {}, {})
    assert about(given, inventory) == {"operation": "r1"}


LOG = """
import logging, structlog
from lodom.daemon.log import set_up_log
set_up_log(debug=False, form={form!r})
structlog.get_logger().info("told", domain="ldg1")
logging.getLogger("lodom.api.server").info("denied user=%s", "x")
logging.getLogger("other").info("not told")
try:
    hidden = "password"
    1 / len(hidden[9:])
except ZeroDivisionError:
    structlog.get_logger().exception("crashed")
"""


def test_off_a_terminal_each_line_is_json():
    done = subprocess.run(
        [sys.executable, "-c", LOG.format(form="auto")], capture_output=True, text=True, check=True
    )
    told, denied, crashed = map(json.loads, done.stderr.splitlines())
    assert (told["event"], told["level"], told["domain"]) == ("told", "info", "ldg1")
    assert told["timestamp"].endswith("Z")
    assert (denied["event"], denied["logger"]) == ("denied user=x", "lodom.api.server")
    assert "password" not in done.stderr.replace("hidden", "")
    assert (crashed["level"], crashed["exception"][0]["exc_type"]) == ("error", "ZeroDivisionError")


def test_text_when_it_is_asked_for():
    done = subprocess.run(
        [sys.executable, "-c", LOG.format(form="text")], capture_output=True, text=True, check=True
    )
    assert "told" in done.stderr
    assert not done.stderr.startswith("{")


def test_under_journald_each_line_has_its_level(monkeypatch):
    """As sd-daemon(3) has it, and only where standard error is the journal's stream."""
    program = (
        "import os, sys\n"
        "s = os.fstat(2)\n"
        "os.environ['JOURNAL_STREAM'] = f'{s.st_dev}:{s.st_ino}'\n" + LOG.format(form="json")
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert [line[:4] for line in done.stderr.splitlines()] == ["<6>{", "<6>{", "<3>{"]


def test_where_metrics_listen_is_an_address_and_a_port():
    text = '[metrics]\nlisten = "[::1]:9482"\n[log]\nformat = "json"\n'
    found = config.parse(text, "machine.toml")
    assert (found.metrics.listen, found.log.format) == (("::1", 9482), "json")
    for wrong in ("9482", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:70000", "host:9482"):
        with pytest.raises(ConfigInvalid, match=r"line 2: \[metrics\] listen: "):
            config.parse(f'[metrics]\nlisten = "{wrong}"\n', "machine.toml")


def test_a_refusal_is_counted_by_rule_and_a_dry_run_is_none(watched):
    finding = Finding("R18", Severity.BLOCKER, "text", "remedy", "target")
    note = replace(finding, rule="R11", severity=Severity.WARNING)
    checked = TargetChecked(
        "r", "u", "m", (finding, note), "t", "b", "b", 6482, "ldg0", 2, "", dry_run=False
    )
    for event in (checked, replace(checked, dry_run=True)):
        watched.recorder.seen(event, watched.inventory, watched.inventory)
    assert watched.value('lodom_migration_refusals_total{rule="R18"}') == 1
    assert "R11" not in watched.metrics.text().decode()
