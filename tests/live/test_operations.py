"""docs/operations.md, typed; a migration moves the metrics, and is in both histories and logs."""

import json
import re
import subprocess
from collections.abc import Iterator

import pytest
from machines import Domain, Machine, World, eventually
from test_pages import Page, commands

from lodom.lab.watch import Heartbeats

pytestmark = pytest.mark.live


def get(machine: Machine, path: str) -> str:
    """What the local API answers."""
    curl = ["curl", "-sf", "--unix-socket", str(machine.placed.socket), f"http://localhost{path}"]
    return subprocess.run(curl, capture_output=True, text=True, check=True).stdout


def value(machine: Machine, line: str) -> float:
    """One line of the metrics; nothing counted yet is none."""
    found = re.search(rf"^{re.escape(line)} (\S+)$", get(machine, "/metrics"), re.M)
    return float(found[1]) if found else 0.0


def past(machine: Machine, **wanted: object) -> list[dict[str, object]]:
    """The records of ldg1 in the machine's history."""
    found = json.loads(machine.ldm("list-history", "--json", "ldg1"))["history"]
    return [e for e in found if all(e[k] == v for k, v in wanted.items())]


@pytest.fixture
def moved(world: World) -> Iterator[tuple[World, Domain]]:
    """ldg1 runs on the first machine."""
    try:
        with Heartbeats() as beats:
            domain = world.domain("ldg1")
            domain.start(beats)
        yield world, domain
    finally:
        world.clear()


def test_a_migration_is_told_everywhere(moved: tuple[World, Domain], tmp_path: object) -> None:
    world, _ = moved
    a, b = world.a, world.b
    stream = subprocess.Popen(
        ["curl", "-sN", "--unix-socket", str(a.placed.socket), "http://localhost/events?domain=ldg1"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert stream.stdout
    try:
        assert stream.stdout.readline() == ": lodom\n"
        ended = 'lodom_migrations_total{result="done",role="%s"}'
        counted = {m: value(m, ended % r) for m, r in ((a, "source"), (b, "target"))}
        sent = value(a, 'lodom_migration_bytes_total{role="source"}')
        numbers = a.migrate("ldg1", b)
        for machine, role in ((a, "source"), (b, "target")):
            eventually(lambda m=machine, r=role: value(m, ended % r) == counted[m] + 1, role)
        assert (
            value(a, 'lodom_migration_bytes_total{role="source"}') == sent + numbers["transferred"]
        )
        assert value(a, "lodom_migration_downtime_seconds_count") >= 1
        assert value(b, 'lodom_domains{state="active"}') == 2
        heard: list[str] = []
        while '"phase":"ended"' not in "".join(heard):
            heard.append(stream.stdout.readline())
    finally:
        stream.kill()
        stream.communicate()
    said = "".join(heard)
    assert [f'"phase":"{p}"' in said for p in ("copying", "ceded", "cleaning")] == [True] * 3
    assert "event: progress" in said
    source = past(a, role="source")[-1]  # the lab's earlier tests are in the histories too
    (target,) = past(b, role="target", id=source["id"])
    assert (source["ended"], target["ended"], source["user"]) == ("done", "done", "root")
    assert source["numbers"]["transferred"] == numbers["transferred"]  # type: ignore[index]
    assert {"copying", "ceded"} <= {p["phase"] for p in source["phases"]}  # type: ignore[attr-defined]
    for machine in (a, b):
        log = (machine.placed.folder / "log/ldmd.log").read_text().splitlines()
        lines = [json.loads(line) for line in log if line.startswith("{")]
        assert any(line.get("migration") == source["id"] for line in lines)


def test_each_command_of_the_page(moved: tuple[World, Domain], tmp_path: object) -> None:
    world, _ = moved
    page = Page.__new__(Page)
    page.world, page.folder = world, tmp_path  # type: ignore[assignment]
    assert len(commands("operations.md")) >= 9
    page.run("operations.md")
