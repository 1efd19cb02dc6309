"""Facts of back ends: files, images of the real tool, loop devices."""

import os
import struct
import subprocess
from itertools import pairwise
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
    for backend in ("nbd://host/disk", "rbd:pool/image"):
        assert disks.probe(backend).kind == "url"


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
    assert (facts.format, facts.size, facts.layers) == ("qcow2", 64 * MIB, ())
    (base,) = disks.probe(str(child)).layers
    assert (base.path, base.format, base.size) == (str(raw), "raw", MIB)
    with pytest.raises(InvalidValue, match="in another file"):
        disks.probe(str(external))
    hidden = tmp_path / "cloud.img"
    plain.rename(hidden)
    assert (disks.probe(str(hidden)).format, disks.probe(str(hidden)).odd[:5]) == ("raw", "holds")


@pytest.mark.live
def test_a_chain_of_images_is_followed_to_its_end(raw, tmp_path):
    images = [raw, *(tmp_path / f"{n}.qcow2" for n in range(3))]
    for lower, upper in pairwise(images):
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", lower.name, "-F"]
        run(*create, lower.suffix.replace(".img", ".raw")[1:], str(upper))
    layers = disks.probe(str(images[-1])).layers
    assert [(x.path, x.format) for x in layers] == [
        (str(images[2]), "qcow2"), (str(images[1]), "qcow2"), (str(raw), "raw"),
    ]  # fmt: skip
    raw.unlink()
    with pytest.raises(InvalidValue, match=f"backing file '{raw}': No such file"):
        disks.probe(str(images[-1]))


def image(path: Path, backing: str = "", form: str = "") -> Path:
    """A qcow2 header of version 3, written by hand."""
    name, kind = backing.encode(), form.encode()
    extension = struct.pack(">II", 0xE2792ACA, len(kind)) + kind.ljust(8, b"\0") if form else b""
    place = 1024 if backing else 0
    head = struct.pack(">4sIQIIQ", b"QFI\xfb", 3, place, len(name), 16, MIB).ljust(100, b"\0")
    path.write_bytes((head + struct.pack(">I", 104) + extension).ljust(1024, b"\0") + name)
    return path


@pytest.mark.parametrize(
    ("backing", "form", "why"),
    [
        ("top.qcow2", "qcow2", "more than 16 images deep"),
        ("nbd://host/x", "raw", "must lie on a file"),
        ('json:{"driver":"null-co"}', "raw", "must lie on a file"),
        ("base.img", "", "does not say that it is raw or qcow2"),
        ("base.img", "vmdk", "does not say that it is raw or qcow2"),
        ("base.img", "qcow2", "should be qcow2, and is not"),
        ("none.img", "raw", "No such file"),
        ("/etc/passwd", "raw", "not in the folder"),
        ("../base.img", "raw", "not in the folder"),
        ("folder/../base.img", "raw", "not in the folder"),
    ],
)
def test_a_chain_that_no_guest_may_have(tmp_path, backing, form, why):
    (tmp_path / "base.img").write_bytes(bytes(MIB))
    with pytest.raises(InvalidValue, match=why):
        disks.probe(str(image(tmp_path / "top.qcow2", backing, form)))


def test_the_written_header_is_one(tmp_path):
    assert disks.probe(str(image(tmp_path / "top.qcow2"))).size == MIB
    (base,) = disks.probe(str(image(tmp_path / "up.qcow2", "top.qcow2", "qcow2"))).layers
    assert (base.path, base.format) == (str(tmp_path / "top.qcow2"), "qcow2")


def test_a_link_in_the_folder_leads_anywhere(tmp_path, raw):
    """Images come from anywhere; a link is the administrator's."""
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "base.img").symlink_to(raw)
    for name in ("base.img", str(folder / "base.img"), "./base.img"):
        (base,) = disks.probe(str(image(folder / "top.qcow2", name, "raw"))).layers
        assert base.size == MIB


def test_who_has_a_file_open_is_named(raw):
    with raw.open("rb"):
        names = disks.openers(disks.probe(str(raw)))
    assert [n for n in names if n.endswith(f"(process {os.getpid()})")]
    assert disks.openers(disks.probe(str(raw))) == []


def test_sizes_are_looked_up_without_opening(raw):
    assert (disks.size(str(raw)), disks.size("/nonexistent")) == (MIB, 0)


HOLDERS = {
    "holders/dm-1/dm/uuid": "LVM-abc", "holders/dm-1/dm/name": "vg-data",
    "holders/dm-2/dm/uuid": "mpath-3600", "holders/dm-2/dm/name": "mpatha",
    "holders/dm-3/dm/uuid": "CRYPT-LUKS2-1", "holders/dm-3/dm/name": "secret",
    "holders/md0/dev": "9:0",
}  # fmt: skip


def test_who_holds_a_device_is_named(tmp_path):
    """Recorded trees: LVM, multipath, encryption, RAID."""
    sysfs(tmp_path, HOLDERS)
    assert [disks._holder(h) for h in sorted((tmp_path / "holders").iterdir())] == [
        "LVM volume vg-data (dm-1)", "multipath device mpatha (dm-2)",
        "encrypted device secret (dm-3)", "md0",
    ]  # fmt: skip


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


def test_whether_a_process_has_a_file_open(tmp_path):
    """By what the file is, not by its name: a replaced one is another."""
    image, other = tmp_path / "vol1.img", tmp_path / "new.img"
    image.write_bytes(b"old")
    other.write_bytes(b"new")
    with image.open():
        assert disks.has_open(os.getpid(), str(image)) is True
        other.rename(image)
        assert disks.has_open(os.getpid(), str(image)) is False
        image.unlink()
        assert disks.has_open(os.getpid(), str(image)) is None
