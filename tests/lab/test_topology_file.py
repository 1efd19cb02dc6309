"""The lab's topology file: what it means, and every fault named with file, line and key."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lodom.core.errors import ConfigInvalid
from lodom.core.units import GIB, MIB
from lodom.daemon import config
from lodom.lab.lab import Lab, LabFault
from lodom.lab.topology import DEFAULT, LabMachine, Link, Topology, load, machine_toml

FULL = """
[[machine]]
name = "a"
cores = 2
strands-per-core = 8
processor = 'Ultra "SPARC"'
frequency = "1.4GHz"
crypto-units = 1
backing = "tmpfs"
rules = "3.x"
console-ports = "6000-6010"
switches = ["net0", "net1"]
primary-strands = 2
primary-memory = "64M"
set-up = false
region = [{ base = 0x8000000, size = "64M" }, { base = 0x208000000, size = "128M" }]
bus = [{ name = "pci@780", pseudonym = "bus_a" }]

[link]
rate = "100mbit"
"""


def test_a_machine_is_what_its_file_says(tmp_path: Path) -> None:
    """From the topology to the machine that ldmd makes of the file written for it."""
    path = tmp_path / "topology.toml"
    path.write_text(FULL)
    topology = load(path)
    (one,) = topology.machines
    assert (one.console_ports, one.switches, one.set_up) == ((6000, 6010), ("net0", "net1"), False)
    assert (one.primary_strands, one.primary_memory, one.size) == (2, 64 * MIB, 192 * MIB)
    assert topology.link.rate == "100mbit"
    machine = config.parse(machine_toml(one, tmp_path, "10.97.0.1"), "a").machine("id")
    assert (machine.name, machine.processor) == ("a", 'Ultra "SPARC"')
    assert (machine.frequency_hz, len(machine.strands), len(machine.crypto)) == (1.4e9, 16, 1)
    assert [(r.base, r.size) for r in machine.regions] == [
        (0x8000000, 64 * MIB), (0x208000000, 128 * MIB)
    ]  # fmt: skip
    assert [(b.name, b.pseudonym) for b in machine.buses] == [("pci@780", "bus_a")]
    assert machine.rules == "3.x"


def test_the_usual_machines_have_three_gigabytes() -> None:
    assert [(m.name, m.size) for m in DEFAULT.machines] == [
        ("dt90-319", 3 * GIB), ("dt212-239", 3 * GIB)
    ]  # fmt: skip


BAD = {
    "no TOML": ("[[machine\n", "line 1", ""),
    "no machine": ("[link]\n", "", "no [[machine]] is declared"),
    "unknown key": ('[[machine]]\nname = "a"\ncoers = 3\n', "line 3", "did you mean cores?"),
    "unknown link key": ('[link]\nrat = "1mbit"\n', "line 2", "did you mean rate?"),
    "unknown region key": (
        '[[machine]]\nname = "a"\n[[machine.region]]\nbase = 0\nsise = "1M"\n', "line 5", "sise"
    ),
    "machine is a text": ('machine = "x"\n', "line 1", "[[machine]]"),
    "machine is a table": ('[machine]\nname = "a"\n', "line 1", "[[machine]]"),
    "machines are numbers": ("machine = [1, 2]\n", "line 1", "must be a table"),
    "no name": ("[[machine]]\ncores = 3\n", "line 1", "has no name"),
    "a name for no host": ('[[machine]]\nname = "m\u00e4 x"\n', "line 2", "name"),
    "a long name": (f'[[machine]]\nname = "{"a" * 250}"\n', "line 2", "name"),
    "names twice": ('[[machine]]\nname = "a"\n[[machine]]\nname = "a"\n', "line 4", '"a"'),
    "no cores": ('[[machine]]\nname = "a"\ncores = 0\n', "line 3", "cores"),
    "too many cores": ('[[machine]]\nname = "a"\ncores = 100000000\n', "line 3", "cores"),
    "bad size": ('[[machine]]\nname = "a"\nmemory = "1Q"\n', "line 3", '"1Q"'),
    "more than the host": ('[[machine]]\nname = "a"\nmemory = "900G"\n', "line 1", "this host has"),
    "backing": ('[[machine]]\nname = "a"\nbacking = "floppy"\n', "line 3", "floppy"),
    "frequency": ('[[machine]]\nname = "a"\nfrequency = "fast"\n', "line 3", "fast"),
    "rules": ('[[machine]]\nname = "a"\nrules = "9"\n', "line 3", "1.2, 3.x"),
    "units": ('[[machine]]\nname = "a"\ncrypto-units = 999\n', "line 1", "one a core at most"),
    "switches": ('[[machine]]\nname = "a"\nswitches = "abc"\n', "line 3", "list of names"),
    "switch numbers": ('[[machine]]\nname = "a"\nswitches = [1]\n', "line 3", "text"),
    "a name of the lab": ('[[machine]]\nname = "client"\n', "line 2", "for itself"),
    "a folder of the lab": ('[[machine]]\nname = "password"\n', "line 2", "for itself"),
    "the mark of the demo": ('[[machine]]\nname = "Demo"\n', "line 2", "for itself"),
    "one host name twice": ('[[machine]]\nname = "a"\n[[machine]]\nname = "A"\n', "line 4", '"A"'),
    "an address": ('[[machine]]\nname = "0x1F"\n', "line 2", "taken for an address"),
    "too many machines": (
        "".join(f'[[machine]]\nname = "m{i}"\n' for i in range(254)), "line 507", "at most 253"
    ),
    "a switch twice": ('[[machine]]\nname = "a"\nswitches = ["s", "s"]\n', "line 3", '"s"'),
    "a switch that is a disk server": (
        '[[machine]]\nname = "a"\nswitches = ["primary-vds0"]\n', "line 3", "another service"
    ),
    "a switch of no name": ('[[machine]]\nname = "a"\nswitches = ["a b"]\n', "line 3", '"a b"'),
    "ports": ('[[machine]]\nname = "a"\nconsole-ports = "9-1"\n', "line 3", "5000-5100"),
    "set-up": ('[[machine]]\nname = "a"\nset-up = "no"\n', "line 3", "true or false"),
    "strands": (
        '[[machine]]\nname = "a"\ncores = 1\nprimary-strands = 9\n', "line 4", "has, 4"
    ),
    "primary memory": ('[[machine]]\nname = "a"\nmemory = "100M"\n', "line 1", "has, 100M"),
    "no base": (
        '[[machine]]\nname = "a"\nregion = [{ size = "1G" }]\n', "line 1", "has no base"
    ),
    "overlap": (
        '[[machine]]\nname = "a"\n'
        'region = [{ base = 0, size = "1G" }, { base = 0x1000000, size = "1G" }]\n',
        "line 1", "overlaps",
    ),
    "unaligned": (
        '[[machine]]\nname = "a"\nregion = [{ base = 1, size = "1G" }]\n', "line 1", "multiples"
    ),
    "rate": ('[[machine]]\nname = "a"\n[link]\nrate = "fast"\n', "line 4", "100mbit"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_fault_names_file_line_and_key(tmp_path: Path, name: str) -> None:
    text, line, words = BAD[name]
    path = tmp_path / "topology.toml"
    path.write_text(text)
    with pytest.raises(ConfigInvalid) as found:
        load(path)
    said = str(found.value)
    assert str(path) in said
    assert not line or re.search(rf"{line}\b", said), said
    assert words in said, said


def test_a_file_of_no_text(tmp_path: Path) -> None:
    path = tmp_path / "topology.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigInvalid, match=r"topology\.toml"):
        load(path)


def test_more_memory_than_is_free_makes_nothing(tmp_path: Path) -> None:
    """Refused before the first folder: the kernel would kill processes to make the room."""
    lab = Lab(tmp_path / "lab")
    with pytest.raises(LabFault, match=r"5120G in all, and .*M are free"):
        lab.up(Topology((LabMachine("a", memory=5 << 40),)))
    assert not lab.root.exists()


def test_the_tool_says_a_fault_on_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("ldm-lab"), "up", "--file", tmp_path / "none.toml"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_without_its_tools_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found out half way, it could not have been taken down again."""
    monkeypatch.setenv("PATH", str(tmp_path))
    lab = Lab(tmp_path / "lab")
    with pytest.raises(LabFault, match="not installed, or not in PATH: ip, tc,"):
        lab.up(Topology((LabMachine("a", memory=MIB),)))
    assert not lab.root.exists()


def test_a_reader_that_has_gone_is_no_fault() -> None:
    """``ldm-lab status | head -1``."""
    script = f"{Path(sys.executable).with_name('ldm-lab')} status | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "record", [b"", b"{", b"[]", b"{}", b'{"machines": 1}', b'{"machines": [1]}', b"\xff"]
)
def test_a_record_that_is_spoilt_is_told_and_does_not_hold_the_lab(
    tmp_path: Path, record: bytes
) -> None:
    lab = Lab(tmp_path)
    (tmp_path / "lab.json").write_bytes(record)
    with pytest.raises(LabFault, match=r"lab\.json.*ldm-lab down"):
        lab.status()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "machine.toml").touch()
    assert [p.machine.name for p in lab.standing()] == ["a", "b"]


@pytest.mark.parametrize(
    ("link", "kinds"),
    [
        (Link(), []),
        (Link(rate="1gbit"), [("root", "tbf rate 1gbit")]),
        (Link(delay="5ms"), [("root", "netem delay 5ms")]),
        (Link("1gbit", "5ms"), [("root", "netem delay 5ms"), ("parent", "tbf rate 1gbit")]),
    ],
)
def test_a_link_has_the_rate_and_the_delay_of_its_file(
    link: Link, kinds: list[tuple[str, str]]
) -> None:
    """A delay that the kernel can make was read, asked for in vain, and left out."""
    made = link.disciplines
    assert [place for place, *_ in made] == [place for place, _ in kinds]
    assert all(kind in " ".join(words) for words, (_, kind) in zip(made, kinds, strict=True))
