"""machine.toml: defaults of the host, values, and errors that name file, line and key."""

from pathlib import Path

import pytest

from lodom.core.errors import ConfigInvalid
from lodom.core.model.host import Bus, CryptoUnit, Region, Strand
from lodom.core.units import GIB, MIB
from lodom.daemon import config
from lodom.daemon.config import Config

INSTANCE = "i-1"


@pytest.fixture
def host(tmp_path) -> Path:
    """A recorded host: 4 CPUs in 2 cores, AES, 2G of memory and a bit, no huge pages."""
    root = tmp_path / "host"
    files = {
        "sys/devices/system/cpu/online": "0-3",
        "proc/cpuinfo": "model name : CPU X @ 2.00GHz\nflags : aes\n",
        "proc/meminfo": "MemTotal: 2098000 kB\n",
    }
    for cpu in range(4):
        base = f"sys/devices/system/cpu/cpu{cpu}/topology"
        files |= {f"{base}/physical_package_id": "0", f"{base}/core_id": str(cpu % 2)}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "sys/devices/pci0000:00").mkdir()
    return root


@pytest.fixture
def load(tmp_path):
    """Loads a text as machine.toml."""

    def read(text: str) -> Config:
        path = tmp_path / "machine.toml"
        path.write_text(text)
        return config.load(path)

    return read


def test_every_value_has_a_default_of_the_host(host):
    machine = Config().machine(INSTANCE, root=host)
    assert machine.name
    assert machine.instance == INSTANCE
    assert (machine.processor, machine.frequency_hz) == ("CPU X", 2_000_000_000)
    assert machine.strands == (Strand(0, 0, 0), Strand(1, 1, 1), Strand(2, 0, 2), Strand(3, 1, 3))
    assert machine.crypto == (CryptoUnit(0, 0), CryptoUnit(1, 1))
    assert machine.regions == (Region(0, 2048 * MIB),)
    assert (machine.backing, machine.page, machine.ra_base) == ("tmpfs", 2 * MIB, 0x8000000)
    assert machine.buses == (Bus("pci@0", "bus_a", "sysfs"),)
    assert (machine.rules, machine.strict, machine.emulated) == ("1.2", False, False)


def test_this_host_needs_no_file():
    assert Config().machine(INSTANCE).strands


def test_huge_pages_are_the_default_where_there_are_some(host):
    (host / "sys/kernel/mm/hugepages/hugepages-2048kB").mkdir(parents=True)
    assert Config().machine(INSTANCE, root=host).backing == "hugetlb-2M"


FULL = """
[machine]
name = "t1"
processor = "UltraSPARC T2"
frequency = "1200MHz"
accelerator = "tcg"
ra-base = 0x10000000
run-dir = "/run/t1"

[strands]
cpus = "0,2"
emulated = true
cores = 2
threads-per-core = 4

[memory]
backing = "hugetlb-1G"
[[memory.region]]
base = 0x180000000
size = "1G"
[[memory.region]]
base = 0x100000000
size = 1073741824

[crypto]
units = 1

[[io.bus]]
name = "pci@780"
pseudonym = "bus_a"

[network.uplinks]
primary-vsw0 = "eth1"

[migration]
rules = "3.x"
strict = true
port = 6500
stream-address = "192.0.2.1"

[auth]
backend = "file"
[auth.write]
groups = ["wheel"]
"""


def test_a_full_file_says_it_all(load, host):
    loaded = load(FULL)
    machine = loaded.machine(INSTANCE, root=host, vlans=True)
    assert (machine.name, machine.processor, machine.frequency_hz) == (
        "t1",
        "UltraSPARC T2",
        1_200_000_000,
    )
    assert [(s.pid, s.core, s.cpu) for s in machine.strands] == [
        (pid, pid // 4, (0, 2)[pid % 2]) for pid in range(8)
    ]
    assert machine.regions == (Region(0x100000000, GIB), Region(0x180000000, GIB))
    assert machine.crypto == (CryptoUnit(0, 0),)
    assert machine.buses == (Bus("pci@780", "bus_a"),)
    assert (machine.ra_base, machine.page) == (0x10000000, GIB)
    assert (machine.rules, machine.strict, machine.vlans) == ("3.x", True, True)
    assert machine.uplinks == {"primary-vsw0": "eth1"}
    assert (loaded.migration.port, loaded.migration.stream_address) == (6500, "192.0.2.1")
    assert loaded.auth.write.groups == ("wheel",)
    assert loaded.socket == Path("/run/t1/ldmd.sock")


def test_a_bus_may_be_called_as_its_device(load):
    text = "[[io.bus]]\nname = 'pci@1'\npseudonym = 'pci@1'\n[[io.bus]]\nname = 'pci@2'\n"
    assert len(load(text + "[[io.bus]]\nname = 'pci@3'").io.bus) == 3


def test_the_pool_is_made_of_the_machine(load, host):
    loaded = load('[machine]\nrun-dir = "/run/t1"\n[memory]\nsize = "512M"\n')
    kept = (Region(0, 128 * MIB),)
    spec = loaded.pool(loaded.machine(INSTANCE, root=host), kept)
    assert (spec.directory, spec.own) == (Path("/run/t1/pool"), True)
    assert spec.domain_memory() == (Region(128 * MIB, 384 * MIB),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[machine]\nnmae = "x"', "line 2: [machine] nmae: unknown; did you mean name?"),
        ("[strand]\n", "line 1: strand: unknown; did you mean strands?"),
        ("\n[api]\nzzz = 1", "line 3: [api] zzz: unknown; known: socket"),
        ('[memory]\nsize = "12X"', 'line 2: [memory] size: "12X": must be bytes, or a text such'),
        ("[memory]\nsize = true", "line 2: [memory] size: true: must be bytes"),
        ('[strands]\ncpus = "3-1"', 'line 2: [strands] cpus: "3-1": must be a list'),
        ("[strands]\nemulated = 1", "line 2: [strands] emulated: 1: must be true or false"),
        ('[machine]\nfrequency = "fast"', 'line 2: [machine] frequency: "fast": must be hertz'),
        ('[machine]\nrun-dir = "run"', "[machine] run-dir: \"run\": must be an absolute path"),
        ("[migration]\nport = 70000", "port: 70000: must be a whole number, 1 to 65535"),
        ("[machine]\nra-base = 0x1000", "line 2: [machine] ra-base: 4096: must be a multiple"),
        ('[migration]\nrules = "1.3"', "must be one of 1.2, 3.x"),
        ('[migration]\naddress = "host"', "must be an IP address"),
        ("[migration]\nlease = 10", "line 2: [migration] lease: unknown"),
        ("[auth.read]\nusers = 'me'", "line 2: [auth.read] users: \"me\": must be a list of names"),
        ("[memory]\nregion = 1", "line 2: [memory] region: must be an array of tables"),
        ("machine = 1", "line 1: machine: must be a table"),
        ("[[io.bus]]\npseudonym = 'a'", "line 1: [io] bus[0]: has no name"),
        (
            "[[io.bus]]\nname = 'pci@1'\n[[io.bus]]\nname = 'pci@1'",
            'line 3: [io] bus[1]: "pci@1": the name of another bus',
        ),
        (
            "[[io.bus]]\nname = 'pci@1'\n[[io.bus]]\nname = 'pci@2'\npseudonym = 'pci@1'",
            'line 3: [io] bus[1]: "pci@1": the name of another bus',
        ),
        (
            "[machine]\nra-base = '0xfffffffffff00000'",
            "line 2: [machine] ra-base: \"0xfffffffffff00000\": must leave room for 65536G",
        ),
        (
            "[[memory.region]]\nbase = '0x10000000000000000'",
            "line 2: [memory.region[0]] base: \"0x10000000000000000\": must be below 2^64",
        ),
        ("[[memory.region]]\n[[memory.region]]\nbase = -2", "line 3: [memory.region[1]] base"),
        ("network = { uplinks = { a = 1 } }", "line 1: [network] uplinks: "),
        ("[machine]\nname = ", "line 2: Invalid value"),
        ("[machine]\n[machine]", "line 2: Cannot declare"),
    ],
)  # fmt: skip
def test_a_wrong_file_names_line_and_key(load, text, message):
    with pytest.raises(ConfigInvalid) as fault:
        load(text)
    assert message in str(fault.value)
    assert "machine.toml" in str(fault.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[strands]\ncpus = "0,7-9"', "line 2: [strands] cpus: CPUs 7-9 are not on line"),
        ("[strands]\ncores = 2", "line 2: [strands] cores: only with emulated = true"),
        ("[memory]\nsize = '1M'", "line 2: [memory] size: base and size must be multiples of the"),
        ("[crypto]\nunits = 3", "line 2: [crypto] units: 3: one a core at most, and there are 2"),
        ("[[memory.region]]\nbase = 0", "line 1: [memory] region[0]: has no size"),
        (
            "[memory]\nsize = '1G'\n[[memory.region]]\nbase = 0\nsize = '1G'",
            "line 2: [memory] size: give either a size or regions",
        ),
        (
            "[[memory.region]]\nbase = 0\nsize = '1G'\n[[memory.region]]\nbase = 0\nsize = '2G'",
            "line 4: [memory] region[1]: overlaps the region before it",
        ),
        (
            "[memory]\nbase = '0xfffffffff0000000'\nsize = '1G'",
            "line 3: [memory] size: goes past the last address, 2^64",
        ),
    ],
)
def test_what_the_host_cannot_give_names_line_and_key(load, host, text, message):
    with pytest.raises(ConfigInvalid) as fault:
        load(text).machine(INSTANCE, root=host)
    assert message in str(fault.value)


def test_a_file_that_is_named_must_be_there(tmp_path):
    with pytest.raises(ConfigInvalid, match=r"none\.toml: No such file"):
        config.load(tmp_path / "none.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "machine.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigInvalid, match="can't decode"):
        config.load(tmp_path / "machine.toml")
