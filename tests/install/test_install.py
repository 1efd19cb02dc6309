"""docs/install.md, command for command, on two bare Debian hosts; the lab is not in it.

The guest is the small one of the tests, which counts on a TCP port.
"""

import re
import subprocess

import pytest
from hosts import ROOT, Site
from walk import Walk, network

pytestmark = [pytest.mark.live, pytest.mark.long]

ADDRESS = "198.51.100.11"


@pytest.fixture(scope="module")
def walk(site: Site) -> Walk:
    """The page; the guest starts from a kernel and an initrd in the shared folder."""
    built = subprocess.run([ROOT / "guest/build.sh"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    for name in ("vmlinuz", "initrd"):
        subprocess.run(["cp", ROOT / "build/guest" / name, site.shared], check=True)
    subprocess.run(["qemu-img", "create", "-qfqcow2", site.shared / "db1.qcow2", "64M"], check=True)
    (site.shared / "db1-seed.iso").write_bytes(bytes(1 << 20))
    page = Walk(site)
    page.first["ldm bind-domain db1"] = [
        "ldm set-variable boot-kernel=/srv/domains/vmlinuz boot-initrd=/srv/domains/initrd "
        f"'boot-args=console=ttyS0 quiet no_timer_check lodom.name=db1 lodom.ip={ADDRESS}/24' db1"
    ]
    return page


def test_from_bare_hosts_to_trust(walk: Walk) -> None:
    """Installing, configuring, services, trust: as the page says it."""
    walk.through("Trust")
    alpha = walk.site.hosts["alpha"]
    assert "db1" not in alpha.run("ldm list")
    assert alpha.tried("su -s /bin/bash mover -c 'ldm list'").code == 0
    assert alpha.tried("su -s /bin/bash nobody -c 'ldm list'").code != 0
    assert ":6482 " in alpha.run("ss -Hltn")
    assert re.search(r" done +ldm trust-peer .* beta\n", alpha.run("ldm list-history"))
    second = alpha.tried("ldmd")  # while the first one serves
    assert second.code == 1
    assert second.said.startswith("ldmd: ")
    assert "Traceback" not in second.said


def test_a_guest_moves_and_a_connection_stays(walk: Walk) -> None:
    """The counter goes on in the same connection, without a number left out."""
    walk.through("The first guest")
    with subprocess.Popen(
        walk.site.wire.command("bash", "-c", f"exec cat </dev/tcp/{ADDRESS}/7000"),
        stdout=subprocess.PIPE, text=True,
    ) as counter:  # fmt: skip
        assert counter.stdout
        first = counter.stdout.readline().split()
        walk.through("The first migration")
        assert "|state=active|" in walk.site.hosts["beta"].run("ldm list -p db1")
        for number in range(int(first[1]) + 1, int(first[1]) + 3000):
            boot, shown, _ = counter.stdout.readline().split()
            assert (boot, int(shown)) == (first[0], number)
        counter.kill()
    assert "db1" not in walk.site.hosts["alpha"].run("ldm list")


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
    alpha.run("kill $(pidof -x ldmd); while pidof -x ldmd >/dev/null; do sleep 0.2; done")
    hold = "import socket, time; s = socket.create_server(('', 6482)); print(1); time.sleep(99)"
    taken = alpha.tried(f'exec 3< <(exec python3 -uc "{hold}"); read -ru3 _; ldmd; kill $!')
    assert "Traceback" not in taken.said
    assert "Address already in use" in taken.said
    alpha.run("ldmd >>/var/log/lodom/ldmd.log 2>&1 &")
    alpha.run("until ldm -V >/dev/null 2>&1; do sleep 0.2; done")
    walk.through("Removing")
    assert network(alpha) == walk.before
    assert "/run/lodom/pool" not in alpha.run("cat /proc/mounts")
    left = alpha.run("find /usr/local /etc/pam.d /lib/systemd -name '*ldm*' -o -name '*lodom*'")
    assert left == ""
    assert alpha.run("ls /etc/lodom /var/lib/lodom | wc -l") != "0\n"
