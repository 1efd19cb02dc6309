"""UEFI variable stores: made, packed, unpacked; and carried by a live copy."""

import zlib
from dataclasses import replace

import pytest
from sides import SPEC, UUID, Copy, Side

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.errors import InvalidValue, StepFailed
from lodom.drivers.qemu import firmware


def test_a_store_is_made_once_and_kept(tmp_path):
    template, folder = tmp_path / "template", tmp_path / "uefi"
    template.write_bytes(b"first")
    path = firmware.store(folder, UUID, template)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"first", 0o600)
    path.write_bytes(b"written by the guest")
    assert firmware.store(folder, UUID, template).read_bytes() == b"written by the guest"
    with pytest.raises(StepFailed, match="No such file"):
        firmware.store(folder, "another", tmp_path / "none")


def test_what_is_packed_is_unpacked_and_nothing_else(tmp_path):
    assert firmware.packed(tmp_path, UUID) == b""
    firmware.unpack(tmp_path, UUID, zlib.compress(b"variables"))
    assert zlib.decompress(firmware.packed(tmp_path, UUID)) == b"variables"
    bomb, whole = zlib.compress(bytes(firmware.MOST + 1)), zlib.compress(b"x" * 999)
    for bad, why in ((b"no", "header"), (bomb, "too long"), (whole[:-6], "cut off")):
        with pytest.raises(InvalidValue, match=why):
            firmware.unpack(tmp_path, UUID, bad)
    for name in ("../x", "", "a/b", "x\n"):
        with pytest.raises(InvalidValue, match="not a UUID"):
            firmware.unpack(tmp_path, name, whole)
    assert (tmp_path / f"{UUID}.fd").read_bytes() == b"variables"


def test_stores_of_unknown_domains_go(tmp_path):
    for name in ("known", "gone"):
        (tmp_path / f"{name}.fd").touch()
    firmware.sweep(tmp_path, {"known"})
    assert [p.name for p in tmp_path.iterdir()] == ["known.fd"]
    firmware.sweep(tmp_path / "none", set())


@pytest.mark.live
def test_a_live_copy_carries_the_variables(play):
    """The firmware has written boot entries of its own; the target's file is the source's."""
    if not firmware.installed():
        pytest.skip("UEFI needs the package ovmf: tools/setup.sh")
    spec = replace(SPEC, firmware="uefi")

    async def story(a: Side, b: Side) -> None:
        here, there = (side.folder / "uefi" / f"{UUID}.fd" for side in (a, b))
        await a.run(spec)
        await a.type("", "UEFI Interactive Shell")
        written = here.read_bytes()
        assert written != firmware.TEMPLATE.read_bytes()
        copy = Copy(spec)
        await copy.through(a, b)
        assert there.read_bytes() == firmware.TEMPLATE.read_bytes()
        await b.driver.perform(do.RunGuest(UUID, 2))
        await b.until(ev.GuestRunning)
        assert there.read_bytes() == written

    play(story)
