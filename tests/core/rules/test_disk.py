"""One change, exactly that finding: virtual disks."""

from dataclasses import replace

from lodom.core.rules.case import BackendFacts
from lodom.core.rules.catalogue import judge
from lodom.grammar.parser import parse
from rules import clean
from rules.clean import CLEAN, LUN, brief, disk, ids, target, volume

OTHER = replace(LUN, ids=("naa.6002",))


def test_r25_no_such_server():
    case = target(disk_servers=(), volumes=())
    assert brief(case) == [
        (
            "R25",
            "blocker",
            "Virtual disk server primary-vds0, used by disk vdisk0, does not exist on beta",
        )
    ]
    assert ids(clean.domain(case, state="inactive")) == []


def test_r26_no_such_volume():
    assert brief(target(volumes=())) == [
        ("R26", "blocker", "Volume vol0@primary-vds0 of disk vdisk0 does not exist on beta")
    ]


def test_r26_used_there():
    assert brief(volume(user="ldg7")) == [
        (
            "R26",
            "blocker",
            "Volume vol0@primary-vds0 of disk vdisk0 is used by LDom ldg7 on beta",
        )
    ]


def test_r26_any_number_may_read():
    assert ids(volume(disk(options=("ro",)), options=("ro",), user="ldg7")) == []


def test_r26_cannot_be_opened():
    assert brief(volume(backend=BackendFacts(problem="no such file"))) == [
        (
            "R26",
            "blocker",
            "Volume vol0@primary-vds0 of disk vdisk0 cannot be used on beta: no such file",
        )
    ]


def test_r27_other_storage():
    assert brief(volume(backend=OTHER)) == [
        (
            "R27",
            "blocker",
            "vol0@primary-vds0 of disk vdisk0 is other storage on beta: "
            "the identities differ: naa.6001 and naa.6002",
        )
    ]


def test_r27_a_file_replaced_under_the_running_domain():
    """The lock handshake proves that both machines see the new one; the domain has the old."""
    case = volume(backend=BackendFacts(handshake=True))
    (disk,) = case.domain.disks
    stale = replace(disk, backend=replace(disk.backend, replaced="another file is open"))
    moved = replace(case, domain=replace(case.domain, disks=(stale,)))
    assert [(r, s, t.rpartition(": ")[2]) for r, s, t in brief(moved)] == [
        ("R27", "blocker", "another file is open")
    ]


def test_r27_no_evidence_is_a_warning():
    assert [(r, s) for r, s, _ in brief(volume(backend=BackendFacts()))] == [("R27", "warning")]


def test_r28_force_names_what_is_overwritten():
    forced = replace(volume(backend=OTHER), force=True)
    assert brief(forced) == [
        (
            "R28",
            "warning",
            "LDom ldg-src will read AND OVERWRITE vol0@primary-vds0 of beta as its boot disk "
            "vdisk0, which is other storage: the identities differ: naa.6001 and naa.6002",
        )
    ]
    assert ids(replace(CLEAN, force=True)) == []


def test_l16_host_cache():
    case = volume(backend=replace(LUN, direct=False))
    assert brief(case) == [
        (
            "L16",
            "warning",
            "Volume vol0@primary-vds0 of disk vdisk0 goes through the page cache of beta",
        )
    ]
    assert brief(clean.source_machine(case, strict=True))[0][:2] == ("L16", "blocker")


def test_l17_options_and_mpgroup():
    assert brief(volume(options=("ro",))) == [
        (
            "L17",
            "blocker",
            'Options of volume vol0@primary-vds0 differ: "" on alpha, "ro" on beta',
        )
    ]
    assert ids(disk(mpgroup="m")) == ["L17"]
    for case in (volume(options=("ro",)), disk(mpgroup="m")):
        (finding,) = judge(case)
        order = finding.remedy.removeprefix("On beta: ldm ")
        assert parse(order.split()).operands == {"volume": "vol0", "service": "primary-vds0"}
    assert ids(clean.domain(disk(mpgroup="m"), state="bound")) == []
