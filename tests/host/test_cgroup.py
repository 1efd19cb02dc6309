"""Groups of guests, on recorded hosts and on this one."""

import subprocess
from pathlib import Path

import pytest

from lodom.core.errors import StepFailed
from lodom.host import cgroup

V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"
V1 = (
    "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
    "cgroup /sys/fs/cgroup/freezer cgroup rw,freezer 0 0\n"
)
HYBRID = V1 + "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"


def host(root: Path, mounts: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mounts").write_text(mounts)
    return root


@pytest.mark.parametrize(
    ("mounts", "kind", "base"),
    [
        (V2, "v2", "sys/fs/cgroup"),
        (HYBRID, "v2", "sys/fs/cgroup/unified"),
        (V1, "v1", "sys/fs/cgroup/freezer"),
        ("proc /proc proc rw 0 0\n", "none", None),
    ],
)
def test_the_flavour_is_read_from_the_mounts(tmp_path, mounts, kind, base):
    found = cgroup.flavour(host(tmp_path, mounts))
    assert found.kind == kind
    assert found.base == (tmp_path / base if base else None)
    assert found.reason


def test_systemd_is_preferred(tmp_path):
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert cgroup.flavour(host(tmp_path, V2)).kind == "systemd"


def test_a_host_without_groups_works():
    none = cgroup.Flavour("none", "")
    assert cgroup.adopt("m1", "u1", 1, none) == ""
    assert cgroup.members("m1", "u1", none) == ()
    cgroup.release("m1", "u1", none)


@pytest.mark.live
def test_a_guest_has_a_group_from_adopt_to_release():
    found = cgroup.flavour()
    if not found.base:
        pytest.skip(f"no directory of groups to write to: {found.reason}")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        group = Path(cgroup.adopt("test", "u1", process.pid, found))
        assert cgroup.members("test", "u1", found) == (process.pid,)
        cgroup.release("test", "u1", found)
        assert group.is_dir(), "a group with a process in it stays"
        process.stdin.close()
        process.wait()
    cgroup.release("test", "u1", found)
    cgroup.release("test", "u1", found)
    assert not group.exists()
    assert not group.parent.exists()


@pytest.mark.live
def test_a_process_that_is_gone_leaves_no_group():
    found = cgroup.flavour()
    if not found.base:
        pytest.skip(f"no directory of groups to write to: {found.reason}")
    with subprocess.Popen(["true"]) as process:
        process.wait()
    with pytest.raises(StepFailed, match="No such process"):
        cgroup.adopt("test", "u1", process.pid, found)
    assert not (found.base / "lodom" / "test").exists()


@pytest.mark.parametrize("answer", ["", "#!/bin/sh\nexec sleep 60\n"], ids=["missing", "hangs"])
def test_systemd_that_cannot_be_asked_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """The guest runs all the same (``daemon.groups``), and nobody waits for longer."""
    if answer:
        (tmp_path / "busctl").write_text(answer)
        (tmp_path / "busctl").chmod(0o755)
    path = f"{tmp_path}:/bin:/usr/bin" if answer else str(tmp_path)
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(cgroup, "BUS_S", 0.2)
    with pytest.raises(StepFailed, match="scope"):
        cgroup.adopt("m", "u", 1, cgroup.Flavour("systemd", ""))
