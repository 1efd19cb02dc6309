"""``ldmd --doctor``: facts in, checks out; what it prints; its exit codes."""

import json
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lodom.core.units import GIB, MIB
from lodom.daemon.doctor import decide, form, local
from lodom.daemon.doctor.decide import MemoryFacts, Port
from lodom.daemon.doctor.form import Check, State
from lodom.daemon.doctor.peer import PeerFacts, VolumeSeen
from lodom.drivers import qemu
from lodom.host.accelerator import Verdict
from lodom.host.firewall import Chain, Firewall
from lodom.host.probe import Feature

OK, LIMIT, LACK, UNKNOWN = State


@pytest.mark.parametrize(
    ("wanted", "found", "state"),
    [
        ("auto", Verdict("kvm", "0.2 s"), OK),
        ("auto", Verdict("tcg", "/dev/kvm: no"), LIMIT),
        ("tcg", Verdict("tcg", "/dev/kvm: no"), LIMIT),
        ("kvm", Verdict("tcg", "/dev/kvm: no"), LACK),
        ("auto", Verdict("tcg", "/dev/kvm: Permission denied"), UNKNOWN),
        ("kvm", Verdict("tcg", "/dev/kvm: Permission denied"), UNKNOWN),
        ("auto", None, LACK),
    ],
)
def test_accelerator(wanted, found, state):
    check = decide.accelerator(wanted, found, "qemu is not installed")
    assert check.state is state
    assert (check.remedy == "run as root") is (state is UNKNOWN)


@pytest.mark.parametrize(
    ("version", "missing", "state"),
    [
        ("10.0.2", (), OK),
        ("8.2", (), OK),
        ("8.1.9", (), LACK),
        ("7.2.15", (), LACK),
        ("", (), LACK),
        ("9.0", ("virtio-net-pci",), LACK),
    ],
)
def test_qemu(version, missing, state):
    assert decide.qemu(version, missing).state is state


def test_every_device_that_domains_are_made_of_is_asked_for():
    (folder,) = qemu.__path__
    source = "".join(path.read_text() for path in Path(folder).glob("*.py"))
    made = set(re.findall(r'"driver"[:,] ?"([a-z0-9-]+)"', source))
    assert made - {"file", "nbd", "raw", "rbd"} <= set(decide.DEVICES)


HOST = MemoryFacts(2 * GIB, 2 * MIB, "hugetlb-2M", total=8 * GIB, available=4 * GIB)


@pytest.mark.parametrize(
    ("facts", "state", "words"),
    [
        (HOST, OK, "2G on hugetlb-2M; 4G can be had now"),
        (replace(HOST, reserved=GIB), OK, "5G can be had now, 1G of it reserved as huge pages"),
        (replace(HOST, wanted=6 * GIB), LIMIT, "hugepagesz=2M hugepages=3072"),
        (replace(HOST, wanted=6 * GIB, backing="tmpfs"), LIMIT, "ldm set-memory"),
        (replace(HOST, wanted=6 * GIB, made=True), OK, "the pool is made"),
        (replace(HOST, wanted=9 * GIB), LACK, "the host has 8G"),
        (replace(HOST, supported=False), LACK, 'backing = "tmpfs"'),
    ],
)
def test_memory(facts, state, words):
    check = decide.memory(facts)
    assert check.state is state
    assert words in check.found + check.remedy


def test_kernel_features():
    assert decide.feature(Feature("taps", False, "no", "modprobe tun")).state is LACK
    assert decide.feature(Feature("VFIO", False, "no", "modprobe vfio-pci")).state is LIMIT
    assert decide.feature(Feature("VFIO", True, "yes")).state is OK


@pytest.mark.parametrize(
    ("fire", "states"),
    [
        (Firewall(), [OK]),
        (Firewall(unknown="nft is not installed"), [UNKNOWN]),
        (Firewall(chains=(Chain("ip", "x"),)), [OK]),
        (Firewall(frozenset({"ip"}), (Chain("ip", "x"), Chain("bridge", "y"))), [LACK, LACK]),
    ],
)
def test_firewall(fire, states):
    assert [check.state for check in decide.firewall(fire)] == states


def test_passwords_trust_and_daemon():
    assert decide.users("pam", "/etc/pam.d/lodom", there=True).state is OK
    assert "/etc/pam.d/lodom" in decide.users("pam", "/etc/pam.d/lodom", there=False).remedy
    assert decide.users("file", "/etc/lodom/users", there=False).state is LACK
    assert decide.trust(["other"]).state is OK
    assert decide.trust([]).remedy.startswith("ldm-setup trust")
    assert decide.trust([], "Permission denied").state is UNKNOWN
    assert decide.running("m1", "").state is OK
    assert decide.running("m1", "no answer").state is LIMIT


def test_a_port_that_somebody_else_has_is_named():
    free, taken = Port("6482", "port in section [migration]"), Port("9482", "listen", "in use")
    assert [check.state for check in decide.ports([free], root=True)] == [OK]
    (check,) = decide.ports([free, taken], root=True)
    assert (check.state, "9482: in use") == (LACK, check.found)
    assert "listen of machine.toml" in check.remedy
    assert [check.state for check in decide.ports([taken, taken], root=False)] == [UNKNOWN] * 2


def test_a_port_is_tried_without_listening_on_it():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert local.refused("127.0.0.1", port) == "Address already in use"
        assert local.refused("", port) == "Address already in use"
    assert local.refused("127.0.0.1", port) == ""
    assert local.refused("192.0.2.1", port) == "Cannot assign requested address"


SOUND = PeerFacts("other", fingerprint="SHA256:x", machine="m2", release="1.0", doubt_s=0.1)


def states(facts: PeerFacts) -> dict[str, State]:
    return {check.name: check.state for check in decide.peer(facts, 6482, 6482)}


def test_a_remedy_names_the_port_that_is_closed():
    back = replace(SOUND, back="refused")
    (check,) = [c for c in decide.peer(back, 7000, 7001) if c.name == "from peer"]
    assert "TCP port 7001 to this host" in check.remedy


def test_a_sound_peer():
    volumes = tuple(VolumeSeen(f"{v}@s", v, "why") for v in ("same", "unknown", "other", "missing"))
    assert states(replace(SOUND, volumes=volumes)) == {
        **dict.fromkeys(("peer", "peer trust", "from peer", "memory out", "memory in"), OK),
        "clock": OK,
        "volume same@s": OK,
        "volume unknown@s": UNKNOWN,
        "volume other@s": LACK,
        "volume missing@s": LIMIT,
    }


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({"reach": "refused"}, {"peer": LACK}),
        ({"unasked": "no ldmd here"}, {"peer": OK, "peer trust": UNKNOWN}),
        ({"trust": "not accepted"}, {"peer": OK, "peer trust": LACK}),
        ({"asked": "no login"}, {"peer": OK, "peer trust": LACK}),
    ],
)
def test_the_first_lack_hides_what_cannot_be_known(changed, shown):
    assert states(replace(SOUND, **changed)) == shown


@pytest.mark.parametrize(
    ("changed", "name", "state"),
    [
        ({"back": "no answer in 5 s"}, "from peer", LACK),
        ({"stream_out": "port 8101: no answer"}, "memory out", LACK),
        ({"stream_in": "port 8101: no answer"}, "memory in", LACK),
        ({"clock_s": 7.0}, "clock", LIMIT),
        ({"clock_s": -7.0}, "clock", LIMIT),
        ({"clock_s": 7.0, "doubt_s": 3.0}, "clock", OK),
        ({}, "volumes", LIMIT),
    ],
)
def test_each_way_on_its_own(changed, name, state):
    assert states(replace(SOUND, **changed))[name] is state


def test_each_lack_is_one_line_and_one_line_of_remedy():
    checks = [
        Check("QEMU", OK, "10.0"),
        Check("memory", LACK, "two\nlines", "do\nthis"),
    ]
    assert form.text(checks) == (
        "ok       QEMU    10.0\n"
        "lack     memory  two lines\n"
        "                 remedy: do this\n"
        "1 ok, 0 limit, 1 lack, 0 unknown"
    )
    assert form.exit_code(checks) == 1
    assert form.exit_code(checks[:1]) == 0


def test_the_json_has_the_fields_that_are_told():
    made = json.loads(form.document([Check("QEMU", LACK, "old", "new")], machine="m", peer="p"))
    assert made == {
        "version": 1,
        "machine": "m",
        "peer": "p",
        "lacks": 1,
        "checks": [{"name": "QEMU", "state": "lack", "found": "old", "remedy": "new"}],
    }
    nested = {f"checks[].{name}" for name in made["checks"][0]}
    assert set(form.FIELDS) == {*made, *nested}


# -- the program --------------------------------------------------------------------------------


def ldmd(*words: str | Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("ldmd")
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


@pytest.fixture
def toml(tmp_path):
    """A machine that never ran."""
    file = tmp_path / "machine.toml"
    file.write_text(
        f'[machine]\nname = "never"\nstate-dir = "{tmp_path}/state"\nrun-dir = "{tmp_path}/run"\n'
        '[memory]\nsize = "64M"\nbacking = "tmpfs"\n[auth]\nbackend = "file"\n'
        f'users = "{tmp_path}/users"\n[network]\nuplinks = {{ vsw0 = "nowhere0" }}\n'
    )
    return file


def test_a_host_is_examined_and_nothing_is_made(toml):
    done = ldmd("--doctor", "--json", "--config", toml)
    made = json.loads(done.stdout)
    checks = {check["name"]: check for check in made["checks"]}
    assert (made["machine"], done.stderr) == ("never", "")
    assert done.returncode == (1 if made["lacks"] else 0)
    assert checks["passwords"]["state"] == "lack"
    assert checks["switch vsw0"]["state"] == "lack"
    assert "no such network device" in checks["switch vsw0"]["found"]
    assert checks["memory"]["state"] == "ok"
    assert checks["ldmd"]["state"] == "limit"
    assert all(c["state"] == "ok" or c["remedy"] for c in made["checks"])
    told = {name.partition(" NAME")[0].partition(" VOLUME@")[0] for name in form.CHECKS}
    assert {"switch" if n.startswith("switch ") else n for n in checks} <= told
    assert sorted(path.name for path in toml.parent.iterdir()) == ["machine.toml"]


def test_a_peer_that_nobody_answers_at_is_told_from_one_line(toml):
    done = ldmd("--doctor", "--config", toml, "--peer", "127.0.0.1#1")
    assert done.returncode == 1
    assert "\nlack     peer " in done.stdout
    assert "Connection refused" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--doctor", "--config", "/nowhere/machine.toml"), "/nowhere/machine.toml"),
        (("--json",), "--json and --peer go with --doctor"),
        (("--doctor", "--peer", "host#many"), "target port"),
    ],
)
def test_what_cannot_be_used_is_named(words, said):
    done = ldmd(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
