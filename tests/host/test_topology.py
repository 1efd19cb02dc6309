"""Topology from recorded trees."""

from pathlib import Path

import pytest

from lodom.core.model.host import CryptoUnit, Strand
from lodom.host import topology
from lodom.host.topology import Cpu


def record(root: Path, files: dict[str, str]) -> Path:
    """A tree with those files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def two_packages(root: Path) -> Path:
    """Two packages of one core of two threads; thread numbers as x86 hosts give them."""
    files = {"sys/devices/system/cpu/online": "0-3\n"}
    for cpu, package in ((0, 0), (1, 1), (2, 0), (3, 1)):
        base = f"sys/devices/system/cpu/cpu{cpu}/topology"
        files |= {f"{base}/physical_package_id": f"{package}\n", f"{base}/core_id": "0\n"}
    files |= {
        "sys/devices/system/node/node0/cpulist": "0,2\n",
        "sys/devices/system/node/node1/cpulist": "1,3\n",
    }
    return record(root, files)


@pytest.mark.parametrize(
    ("text", "numbers"), [("0-3,8", (0, 1, 2, 3, 8)), ("5", (5,)), ("", ()), ("3,1-2", (1, 2, 3))]
)
def test_cpu_lists_are_read(text, numbers):
    assert topology.parse_cpu_list(text) == numbers


def test_a_backward_range_is_no_cpu_list():
    with pytest.raises(ValueError, match="3-1"):
        topology.parse_cpu_list("3-1")


def test_cpu_lists_are_written_as_ranges():
    assert topology.format_cpu_list([8, 0, 2, 1, 3, 10]) == "0-3,8,10"


def test_core_ids_that_repeat_in_packages_are_told_apart(tmp_path):
    found = topology.cpus(two_packages(tmp_path))
    assert found == (
        Cpu((0, 0), 0, 0),
        Cpu((0, 0), 2, 0),
        Cpu((1, 0), 1, 1),
        Cpu((1, 0), 3, 1),
    )
    assert topology.strands(found) == (
        Strand(0, 0, 0),
        Strand(1, 1, 1),
        Strand(2, 0, 2),
        Strand(3, 1, 3),
    )


def test_a_host_without_topology_has_cores_of_one_cpu(tmp_path):
    root = record(tmp_path, {"sys/devices/system/cpu/online": "0-1"})
    assert topology.strands(topology.cpus(root)) == (Strand(0, 0, 0), Strand(1, 1, 1))


def test_threads_per_core_regroups_cpus_of_a_host_that_hides_its_cores(tmp_path):
    root = record(tmp_path, {"sys/devices/system/cpu/online": "0-2"})
    found = topology.strands(topology.cpus(root), threads_per_core=2)
    assert found == (Strand(0, 0, 0), Strand(1, 0, 1), Strand(2, 1, 2))


def test_emulated_strands_are_shared_out_over_the_real_cpus():
    cpus = (Cpu((0, 0), 4), Cpu((0, 1), 5))
    found = topology.emulated_strands(cpus, cores=2, threads_per_core=3)
    assert [(s.pid, s.core, s.cpu) for s in found] == [
        (0, 0, 4),
        (1, 0, 5),
        (2, 0, 4),
        (3, 1, 5),
        (4, 1, 4),
        (5, 1, 5),
    ]
    assert topology.crypto_units(found) == (CryptoUnit(0, 0), CryptoUnit(1, 1))


XEON = "model name\t: Intel(R)  Xeon(R) CPU E5 @ 2.40GHz\nflags\t\t: fpu aes constant_tsc\n"
EPYC = (
    "model name\t: AMD EPYC\ncpu MHz\t\t: 3391.1\nbogomips\t: 5192.24\n"
    "flags\t\t: fpu aes constant_tsc nonstop_tsc\n"
)


def test_the_processor_name_has_no_frequency(tmp_path):
    assert topology.processor(record(tmp_path, {"proc/cpuinfo": XEON})) == "Intel(R) Xeon(R) CPU E5"


@pytest.mark.parametrize(
    ("files", "hertz"),
    [
        ({"cpufreq/base_frequency": "2100000"}, 2_100_000_000),
        ({"acpi_cppc/nominal_freq": "2450"}, 2_450_000_000),
        ({"acpi_cppc/nominal_freq": "0"}, 2_400_000_000),
        ({}, 2_400_000_000),
    ],
)
def test_the_nominal_frequency_comes_from_the_best_source(tmp_path, files, hertz):
    tree = {f"sys/devices/system/cpu/cpu0/{name}": text for name, text in files.items()}
    root = record(tmp_path, {"proc/cpuinfo": XEON, **tree})
    assert topology.frequency(root) == hertz


def test_a_constant_tsc_is_nominal_and_calibration_noise_is_rounded_away(tmp_path):
    assert topology.frequency(record(tmp_path, {"proc/cpuinfo": EPYC})) == 2_600_000_000


def test_the_current_frequency_is_never_taken(tmp_path):
    text = "model name\t: AMD EPYC\ncpu MHz\t\t: 3391.1\nbogomips\t: 5192.24\nflags\t: fpu\n"
    assert topology.frequency(record(tmp_path, {"proc/cpuinfo": text})) is None


def test_aes_counts_only_when_every_cpu_has_it(tmp_path):
    assert topology.has_aes(record(tmp_path / "a", {"proc/cpuinfo": XEON}))
    assert not topology.has_aes(record(tmp_path / "b", {"proc/cpuinfo": XEON + "flags\t: fpu\n"}))
    assert not topology.has_aes(tmp_path / "none")


def test_this_host_can_be_read():
    assert topology.cpus()
    assert topology.memory_total() > 0
    assert topology.processor() != ""
