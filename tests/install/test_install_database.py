"""docs/install.md, up to the migration, with a guest as people have it.

A Debian with cloud-init that runs PostgreSQL moves under load; the lab is not in it.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hosts import BUILD, ROOT, Site, made
from walk import Walk

pytestmark = [pytest.mark.live, pytest.mark.long]

ADDRESS = "198.51.100.11"


@pytest.fixture(scope="module")
def walk(site: Site) -> Walk:
    """The page, with the guest's disks in the shared folder."""
    made("postgres")
    image, seed = site.shared / "db1.qcow2", site.shared / "db1-seed.iso"
    subprocess.run(["cp", "--sparse=always", BUILD / "postgres.qcow2", image], check=True)
    subprocess.run([ROOT / "guest/debian.sh", "seed", "db1", seed, f"{ADDRESS}/24"], check=True)
    return Walk(site)


def test_a_database_moves_under_load(walk: Walk, capsys: pytest.CaptureFixture[str]) -> None:
    """Every acknowledged transaction is there, the session goes on, nobody was refused."""
    walk.through("Trust")
    walk.through("The first guest")
    walk.step()  # may it move?
    program = [sys.executable, str(Path(__file__).with_name("load.py")), ADDRESS]
    with subprocess.Popen(
        walk.site.wire.command(*program),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as load:  # fmt: skip
        assert load.stdout
        assert load.stdout.readline() == "busy\n"
        walk.through("The first migration")
        out, _ = load.communicate(timeout=60)
    told = json.loads(out)
    beta = walk.site.hosts["beta"]
    assert "db1" in beta.run("ldm list")
    assert "db1" not in walk.site.hosts["alpha"].run("ldm list")
    assert (told["lost"], told["refused"]) == ([], [])
    assert len(told["acknowledged"]) > 20
    assert told["found"] == told["acknowledged"]
    with capsys.disabled():
        print(
            f"\n  {len(told['acknowledged'])} transactions, longest wait for one "
            f"{told['longest_commit']:.2f} s; {told['opened']} sessions opened, longest "
            f"{told['longest_open']:.2f} s"
        )
