"""Facts of back ends: files, images of the real tool, loop devices."""

import os
import struct
import subprocess
from pathlib import Path

import pytest

from lodom.core.errors import InvalidValue
from lodom.host import disks
from lodom.host.locks import ImageLock

MIB = 1 << 20


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "raw.img"
    path.write_bytes(bytes(MIB))
    return path


def test_a_plain_file_is_raw(raw):
    facts = disks.probe(str(raw))
    assert (facts.kind, facts.size, facts.format) == ("file", MIB, "raw")
    assert (facts.inode, facts.device) == (raw.stat().st_ino, raw.stat().st_dev)
    assert facts.ids == facts.users == ()
    assert facts.lock == ImageLock()
    assert facts.writable


def test_files_of_one_file_system_share_its_identity(raw, tmp_path):
    other = tmp_path / "b.img"
    other.write_bytes(b"")
    assert disks.probe(str(raw)).filesystem == disks.probe(str(other)).filesystem


def test_a_url_is_left_to_the_hypervisor():
    assert disks.probe("nbd://host/disk").kind == "url"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/nonexistent/disk", "No such file"),
        ("/dev/null", "neither a file nor a block device"),
        ("/dev/tty", "neither a file nor a block device"),
        ("/proc", "neither a file nor a block device"),
        ("a\0b", "null"),
    ],
)
def test_what_is_no_disk_is_refused(path, why):
    with pytest.raises(InvalidValue, match=why):
        disks.probe(path)


def test_direct_access_is_tried_by_reading(raw):
    """The answer is that of an open and a read of our own."""
    try:
        os.close(os.open(raw, os.O_RDONLY | os.O_DIRECT))
        can = True
    except OSError:
        can = False
    assert disks.probe(str(raw)).direct == can


def designator(kind: int, name: bytes, association: int = 0) -> bytes:
    return bytes([1, association << 4 | kind, 0, len(name)]) + name


def vpd(*designators: bytes) -> bytes:
    body = b"".join(designators)
    return struct.pack(">BBH", 0, 0x83, len(body)) + body


NAA = bytes.fromhex("5000c500a1b2c3d4")


def test_vpd_names_of_the_logical_unit_are_read_and_those_of_ports_not():
    eui = bytes.fromhex("0011223344556677")
    page = vpd(designator(3, NAA), designator(4, b"port", 1), designator(3, eui, 1))
    assert list(disks.designators(page)) == [f"naa.{NAA.hex()}"]
    page = vpd(designator(1, b"ATA QM00001"), designator(2, eui))
    assert list(disks.designators(page)) == [f"eui.{eui.hex()}"]


def test_a_cut_vpd_page_is_no_error():
    assert list(disks.designators(b"\0\x83\0\x0c\1\4\0")) == []
    assert list(disks.designators(b"")) == []


def sysfs(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text if isinstance(text, bytes) else f"{text}\n".encode())
    return root


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({"device/wwid": f"naa.{NAA.hex()}"}, {f"naa.{NAA.hex()}"}),
        ({"device/vpd_pg83": vpd(designator(3, NAA))}, {f"naa.{NAA.hex()}"}),
        ({"dm/uuid": f"mpath-3{NAA.hex()}"}, {f"naa.{NAA.hex()}"}),
        ({"wwid": "eui.00A0", "nguid": "00a0", "eui": "00 00 00 00"}, {"eui.00a0"}),
        ({"uuid": "0a-0b"}, {"uuid.0a0b"}),
        ({"device/wwid": "t10.ATA     QEMU HARDDISK   QM00001"}, set()),
        ({"wwid": "nvme.1b36-6465-51-00000001"}, set()),
        ({"dm/uuid": "LVM-abc"}, set()),
        ({}, set()),
    ],
)
def test_one_lun_has_one_name_however_it_is_seen(tmp_path, files, names):
    assert set(disks._block_ids(sysfs(tmp_path, files))) == names


def test_a_partition_has_its_disks_name_and_its_number(tmp_path):
    sysfs(tmp_path, {"device/wwid": "naa.5000", "sda2/partition": "2"})
    assert set(disks._block_ids(tmp_path / "sda2")) == {"naa.5000-part2"}


# -- with the real tools ------------------------------------------------------------------------


@pytest.mark.live
def test_a_qcow2_image_has_its_inner_size_and_names_what_it_refers_to(raw, tmp_path):
    plain, child = tmp_path / "a.qcow2", tmp_path / "b.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", str(plain), "64M")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(raw), "-F", "raw", str(child))
    external = tmp_path / "c.qcow2"
    option = f"data_file={tmp_path / 'data'}"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", option, str(external), "1M")
    facts = disks.probe(str(plain))
    assert (facts.format, facts.size, facts.refers_to) == ("qcow2", 64 * MIB, "")
    assert disks.probe(str(child)).refers_to == str(raw)
    assert disks.probe(str(external)).refers_to == "an external data file"


@pytest.fixture
def loop(raw):
    """A block device over the image."""
    done = subprocess.run(
        ["losetup", "--find", "--show", str(raw)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no loop device here: {done.stderr.strip()}")
    device = done.stdout.strip()
    yield device
    run("losetup", "-d", device)


@pytest.mark.live
def test_a_block_device_is_told_from_a_file(loop, raw):
    facts = disks.probe(loop)
    assert (facts.kind, facts.size, facts.device) == ("block", MIB, os.stat(loop).st_rdev)
    assert facts.users == ()
    assert disks.probe(str(raw)).users == (f"held by {Path(loop).name}",)


@pytest.mark.live
def test_a_mounted_device_names_its_mount(loop, tmp_path):
    where = tmp_path / "mnt"
    where.mkdir()
    run("mkfs.ext4", "-q", loop)
    run("mount", loop, str(where))
    try:
        assert disks.probe(loop).users == (f"mounted at {where}",)
    finally:
        run("umount", str(where))


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)
