"""docs/install.md, command for command, on two bare Debian hosts; the lab is not in it.

The guest is a Debian with cloud-init that runs PostgreSQL, under load while it moves.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hosts import BUILD, ROOT, Host, Site, made
from pages import Block, blocks

pytestmark = [pytest.mark.live, pytest.mark.long]

PAGE = ROOT / "docs/install.md"
ADDRESS = "198.51.100.11"
BOOT_S = 240.0


def network(host: Host) -> str:
    """Links, addresses, routes and network settings of a host."""
    settings = "/proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/{all,eth0,eth1}/*"
    return host.run(f"ip -br link; ip -br -4 address; ip route; grep -H . {settings}")


class Walk:
    """A walk through the page; each section can be run once, in its order."""

    def __init__(self, site: Site) -> None:
        self.site, self._rest = site, blocks(PAGE)
        self.before = network(site.hosts["alpha"])

    def through(self, heading: str) -> None:
        """Run all blocks up to the end of the section."""
        while any(b.heading == heading for b in self._rest):
            self.step()

    def step(self) -> Block:
        """Run the next block."""
        block = self._rest.pop(0)
        if block.skipped:
            print(f"left out, {block.heading}: {block.skipped}")
            return block
        for prompt, command in block.commands:
            for name, host in self.site.hosts.items():
                if prompt in (name, "both"):
                    host.run(command)
        return block


@pytest.fixture(scope="module")
def walk(site: Site) -> Walk:
    """The page, with the guest's disks in the shared folder."""
    made("postgres")
    image, seed = site.shared / "db1.qcow2", site.shared / "db1-seed.iso"
    subprocess.run(["cp", "--sparse=always", BUILD / "postgres.qcow2", image], check=True)
    subprocess.run([ROOT / "guest/debian.sh", "seed", "db1", seed, f"{ADDRESS}/24"], check=True)
    return Walk(site)


def test_from_bare_hosts_to_trust(walk: Walk) -> None:
    """Installing, configuring, services, trust: as the page says it."""
    walk.through("Trust")
    alpha = walk.site.hosts["alpha"]
    assert "db1" not in alpha.run("ldm list")
    assert alpha.tried("su -s /bin/bash mover -c 'ldm list'").code == 0
    assert alpha.tried("su -s /bin/bash nobody -c 'ldm list'").code != 0
    assert ":6482 " in alpha.run("ss -Hltn")
    second = alpha.tried("ldmd")  # while the first one serves
    assert second.code == 1
    assert second.said.startswith("ldmd: ")
    assert "Traceback" not in second.said


def test_a_database_moves_under_load(walk: Walk, capsys: pytest.CaptureFixture[str]) -> None:
    """Every acknowledged transaction is there, the session goes on, nobody was refused."""
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


def test_upgrade_shutdown_and_boot(walk: Walk) -> None:
    """Guests outlive an upgrade, go down with the host in order, and come back with it."""
    beta = walk.site.hosts["beta"]
    before = beta.run("pidof qemu-system-x86_64")
    walk.through("Upgrading")
    assert beta.run("pidof qemu-system-x86_64") == before
    assert "|state=active|" in beta.run("ldm list -p db1")
    walk.step()  # stop-guests
    assert "|state=bound|" in beta.run("ldm list -p db1")
    assert beta.tried("pidof qemu-system-x86_64").code == 1
    beta.halt()
    beta.boot()
    beta.run("ldmd --reserve-memory")
    assert " /run/lodom/pool tmpfs " in beta.run("cat /proc/mounts")
    beta.run("ldmd >>/var/log/lodom/ldmd.log 2>&1 &")
    beta.run("until ldm -V >/dev/null 2>&1; do sleep 0.2; done")
    beta.eventually("ldm list -p db1", r"\|state=active\|", within=60)
    walk.through("When the host goes down")  # nothing is left to start
    beta.halt()  # without a word to anybody
    beta.boot()
    beta.run("ldmd >>/var/log/lodom/ldmd.log 2>&1 &")
    beta.run("until ldm -V >/dev/null 2>&1; do sleep 0.2; done")
    beta.eventually("ldm list -p db1", r"\|state=active\|", within=60)
    assert beta.tried("./install --uninstall --yes").code == 1  # a guest runs
    beta.run("ldm stop-domain -f db1")


def test_back_up_and_removal(walk: Walk) -> None:
    """Restored, it knows what it knew; removed, nothing is left but its state."""
    alpha = walk.site.hosts["alpha"]
    known = alpha.run("ldm list-services -p")
    walk.through("Back-up")
    assert alpha.run("ldm list-services -p") == known
    walk.through("Removing")
    assert network(alpha) == walk.before
    left = alpha.run("find /usr/local /etc/pam.d /lib/systemd -name '*ldm*' -o -name '*lodom*'")
    assert left == ""
    assert alpha.run("ls /etc/lodom /var/lib/lodom | wc -l") != "0\n"
