"""One change, exactly that finding: hypervisors."""

from dataclasses import replace

from lodom.core.rules.case import FileFacts
from rules import clean
from rules.clean import CLEAN, brief, hypervisor, ids, target


def test_l08_machine_type():
    case = hypervisor(machine_types=("pc-q35-8.2",))
    assert brief(case) == [
        (
            "L08",
            "blocker",
            "LDom ldg-src needs machine type pc-q35-10.0, which beta (QEMU 10.0.2) does not have",
        )
    ]
    assert ids(clean.domain(case, platform=None)) == []


def test_l09_features():
    assert brief(hypervisor(cpu_features=("sse2",))) == [
        ("L09", "blocker", "beta lacks CPU features of alpha: aes")
    ]
    assert ids(hypervisor(cpu_features=("aes", "avx2", "sse2"))) == []


def test_l10_host_model():
    host = replace(CLEAN.domain.platform, cpu_model="host")
    case = clean.domain(platform=host)
    assert ids(case) == []
    more = clean.hypervisor(case, cpu_features=("aes", "avx2", "sse2"))
    assert brief(more) == [
        ("L10", "blocker", "CPU model host of LDom ldg-src means different CPUs on alpha and beta")
    ]


def test_l11_accelerator():
    assert brief(hypervisor(accelerator="kvm")) == [
        ("L11", "blocker", "alpha runs guests under tcg, beta under kvm")
    ]


def test_l12_firmware():
    assert brief(hypervisor(firmware={"bios": "sha256:b2"})) == [
        ("L12", "blocker", "Firmware bios differs: sha256:b1 on alpha, sha256:b2 on beta")
    ]
    assert brief(clean.domain(hypervisor(firmware={}), state="bound")) == [
        ("L12", "blocker", "beta has no firmware bios")
    ]
    assert ids(clean.domain(hypervisor(firmware={"bios": "sha256:b2"}), state="bound")) == []


def test_l13_boot_files():
    assert brief(target(files=())) == [
        ("L13", "blocker", "kernel /boot/vmlinuz of LDom ldg-src does not exist on beta")
    ]
    assert brief(target(files=(FileFacts("kernel", "/boot/vmlinuz", "sha256:bb"),))) == [
        ("L13", "blocker", "kernel /boot/vmlinuz of LDom ldg-src is another file on beta")
    ]


def test_l15_older_hypervisor():
    assert brief(hypervisor(version="9.2.4")) == [
        ("L15", "warning", "beta has QEMU 9.2.4, older than 10.0.2 on alpha")
    ]
    assert ids(hypervisor(version="10.0.1 (Debian)")) == []
