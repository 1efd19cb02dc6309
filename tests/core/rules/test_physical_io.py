"""One change, exactly that finding: physical I/O."""

from lodom.core.rules.catalogue import judge
from rules.clean import brief, domain, ids


def test_r23_direct_access():
    assert brief(domain(direct=("vf0",))) == [
        ("R23", "blocker", "Device vf0 of LDom ldg-src has direct access to a physical device")
    ]
    assert ids(domain(direct=("vf0",), state="inactive")) == []


def test_r24_io_domain():
    case = domain(io=("pci_0",))
    assert brief(case) == [("R24", "blocker", "LDom ldg-src is an I/O domain: it has bus pci_0")]
    assert ids(domain(case, state="inactive")) == []


def test_r24_a_bus_goes_while_the_domain_is_stopped():
    case = domain(io=("pci_0",))
    remove = "ldm remove-io pci_0 ldg-src"
    assert [f.remedy for f in judge(case)] == [f"ldm stop-domain ldg-src, {remove}"]
    assert [f.remedy for f in judge(domain(case, state="bound"))] == [remove]


def test_r24_control_and_service_domain():
    assert brief(domain(control=True, services=("primary-vds0",))) == [
        ("R24", "blocker", "LDom ldg-src is the control domain")
    ]
    assert brief(domain(services=("vds1",))) == [
        ("R24", "blocker", "LDom ldg-src is a service domain: it provides vds1")
    ]
