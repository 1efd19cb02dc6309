"""CPU DR, planned."""

import pytest

from lodom.core.model.domain import Vcpu
from lodom.drivers.qemu import vcpus
from lodom.drivers.qemu.vcpus import Change


def thread(tid: int, cpus: str, *, kernel: bool = False) -> str:
    path = f"/proc/{tid}/task/{tid}/status"
    lines = [f"{path}:Name:\tx", f"{path}:Cpus_allowed_list:\t{cpus}"]
    return "\n".join(lines if kernel else [*lines, f"{path}:VmSize:\t    100 kB"]) + "\n"


@pytest.mark.parametrize(
    ("wanted", "plugged", "online", "change"),
    [({0, 1}, {0, 1}, {0, 1}, Change((), (), ())),
     ({0, 1, 2}, {0, 1}, {0, 1}, Change((2,), (2,), ())),
     ({0}, {0, 1, 2}, {0, 1, 2}, Change((), (), (1, 2))),
     ({0, 2}, {0, 1}, {0, 1}, Change((2,), (2,), (1,))),
     ({0, 3}, {0}, {0}, Change((1, 2, 3), (3,), ()))],
)  # fmt: skip
def test_the_change(wanted, plugged, online, change):
    """Slots are plugged without a gap, so that a slot and the guest's number are the same."""
    assert vcpus.plan(wanted, plugged, online) == change


def test_parked_slots_share_the_strands_of_the_others():
    """A guest that brings a parked CPU back slows only itself (DESIGN, section 4)."""
    pins = vcpus.pinning((Vcpu(0, 10), Vcpu(2, 12)), ((10, 4), (12, 6), (13, 7)), {0, 1, 2})
    assert pins == {0: (4,), 1: (4, 6), 2: (6,)}


@pytest.mark.parametrize(
    ("report", "reasons"),
    [(thread(1, "0-3"), ()),
     (thread(1, "0-3") + thread(9, "1"), ((1, "cpu has bound thread"),)),
     (thread(9, "1") + thread(8, "1"), ((1, "cpu has bound threads"),)),
     (thread(1, "0-3") + thread(2, "1", kernel=True), ()),
     (thread(9, "0-1"), ()),
     # CPU 3 is off line already: nothing is left for a thread of 1 and 3.
     (thread(9, "1,3"), ((1, "cpu has bound thread"),)),
     (thread(1, "0-3") + "@ 1\n", ((1, "last online cpu in processor set 1"),)),
     (thread(1, "0-3") + "@ 0\n@ 1-2\n", ((2, "last online cpu in processor set 2"),))],
)  # fmt: skip
def test_what_holds_a_cpu(report, reasons):
    """R11: CPUs 0 to 2 are on line, 1 and 2 are to go; words of the original."""
    assert vcpus.blockers(report, {0, 1, 2}, {1, 2}) == reasons


@pytest.mark.parametrize("report", ["", "sh: grep: not found\n", thread(1, "0-99999999999")])
def test_a_report_that_makes_no_sense(report):
    """The guest is not trusted, and no report is not the same as nothing bound."""
    with pytest.raises(ValueError):
        vcpus.blockers(report, {0, 1}, {1})
