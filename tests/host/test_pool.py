"""The memory pool, on tmpfs as any user and on real mounts as root."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from lodom.core.errors import HugePagesShort, InvalidValue, StepFailed, WrongPool
from lodom.core.model.host import Region
from lodom.core.units import MIB
from lodom.host import hugepages
from lodom.host.boot import boot_id
from lodom.host.pool import CHUNK, Pool, PoolSpec

BASE = 0x1_0000_0000
REGIONS = (Region(BASE, 8 * MIB), Region(BASE + 64 * MIB, 4 * MIB))
KEPT = (Region(BASE + 2 * MIB, 2 * MIB),)


def shared(tmp_path: Path, **fields) -> PoolSpec:
    """A pool in a directory given, which needs no mount."""
    fields = {"regions": REGIONS, "kept": KEPT, "own": False, **fields}
    return PoolSpec(backing="tmpfs", directory=tmp_path / "pool", **fields)


@pytest.fixture
def directory():
    """A directory on tmpfs."""
    path = Path("/dev/shm") / f"lodom-test-{os.getpid()}"
    path.mkdir()
    yield path
    for left in sorted(path.rglob("*"), reverse=True):
        left.rmdir() if left.is_dir() else left.unlink()
    path.rmdir()


def write(pool: Pool, pa: int, data: bytes) -> None:
    path, offset = pool.backing(pa, len(data))
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def read(pool: Pool, pa: int, size: int) -> bytes:
    path, offset = pool.backing(pa, size)
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def test_domain_memory_is_the_regions_without_what_is_kept(tmp_path):
    assert shared(tmp_path).domain_memory() == (
        Region(BASE, 2 * MIB),
        Region(BASE + 4 * MIB, 4 * MIB),
        Region(BASE + 64 * MIB, 4 * MIB),
    )


def test_an_address_is_a_file_and_an_offset(tmp_path):
    pool = Pool(shared(tmp_path))
    path, offset = pool.backing(BASE + 64 * MIB + 2 * MIB, 2 * MIB)
    assert (path.name, offset) == (f"{BASE + 64 * MIB:x}", 2 * MIB)


@pytest.mark.parametrize(
    ("pa", "size", "why"),
    [
        (BASE + 6 * MIB, 4 * MIB, "no region holds it"),
        (BASE - 2 * MIB, 2 * MIB, "no region holds it"),
        (BASE, 4 * MIB, "the control domain keeps it"),
    ],
)
def test_memory_that_is_not_the_domains_has_no_backing(tmp_path, pa, size, why):
    with pytest.raises(InvalidValue, match=why):
        Pool(shared(tmp_path)).backing(pa, size)


def test_a_range_off_the_page_is_refused(tmp_path):
    with pytest.raises(InvalidValue, match="multiples of 2M"):
        asyncio.run(Pool.open(shared(tmp_path, kept=(Region(BASE, MIB),))))


def test_what_the_control_domain_keeps_is_a_hole(directory):
    async def run():
        pool = await Pool.open(shared(directory))
        path, _ = pool.backing(BASE, MIB)
        assert path.stat().st_size == 8 * MIB
        assert path.stat().st_blocks * 512 == 6 * MIB
        await pool.remove()

    asyncio.run(run())


def test_opening_again_keeps_the_content(directory):
    async def run():
        pool = await Pool.open(shared(directory))
        write(pool, BASE + 4 * MIB, b"guest")
        again = await Pool.open(shared(directory))
        assert read(again, BASE + 4 * MIB, 5) == b"guest"
        await again.remove()
        assert not list((directory / "pool").iterdir())

    asyncio.run(run())


def test_a_pool_of_another_shape_is_not_touched(directory):
    async def run():
        pool = await Pool.open(shared(directory))
        write(pool, BASE, b"guest")
        with pytest.raises(WrongPool):
            await Pool.open(shared(directory, regions=(Region(BASE, 4 * MIB),), kept=()))
        assert read(pool, BASE, 5) == b"guest"
        await pool.remove()

    asyncio.run(run())


def test_what_the_control_domain_gives_up_becomes_pool_and_back(directory):
    async def run():
        pool = await Pool.open(shared(directory))
        write(pool, BASE + 4 * MIB, b"guest")
        await pool.keep(())
        write(pool, KEPT[0].base, b"more")
        assert read(pool, KEPT[0].base, 4) == b"more"
        await pool.keep(KEPT)
        with pytest.raises(InvalidValue, match="control domain"):
            pool.backing(KEPT[0].base, MIB)
        again = await Pool.open(shared(directory, kept=()))
        assert read(again, KEPT[0].base, 4) == bytes(4)
        assert read(again, BASE + 4 * MIB, 5) == b"guest"
        await again.remove()

    asyncio.run(run())


def test_scrubbing_zeroes_the_region_and_nothing_else(directory):
    async def run():
        pool = await Pool.open(shared(directory))
        for pa in (BASE + 4 * MIB, BASE + 6 * MIB):
            write(pool, pa, b"\xaa" * 2 * MIB)
        await pool.scrub(Region(BASE + 4 * MIB, 2 * MIB))
        assert read(pool, BASE + 4 * MIB, 2 * MIB) == bytes(2 * MIB)
        assert read(pool, BASE + 6 * MIB, 2 * MIB) == b"\xaa" * 2 * MIB
        await pool.remove()

    asyncio.run(run())


def test_a_cancelled_scrub_stops_writing_before_it_returns(directory):
    big = (Region(0, 6 * CHUNK),)

    async def run():
        pool = await Pool.open(shared(directory, regions=big, kept=()))
        write(pool, 5 * CHUNK, b"\xaa")
        task = asyncio.ensure_future(pool.scrub(big[0]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert read(pool, 5 * CHUNK, 1) == b"\xaa"
        write(pool, 0, b"\xbb")
        assert read(pool, 0, 1) == b"\xbb"
        await pool.remove()

    asyncio.run(run())


def test_released_memory_is_given_back_and_returns_as_zero(directory):
    async def run():
        pool = await Pool.open(shared(directory))
        region = Region(BASE + 64 * MIB, 2 * MIB)
        write(pool, region.base, b"\xaa")
        path, _ = pool.backing(region.base, region.size)
        before = path.stat().st_blocks
        pool.release(region)
        assert (before - path.stat().st_blocks) * 512 == region.size
        await pool.populate([region])
        assert path.stat().st_blocks == before
        assert read(pool, region.base, 1) == b"\0"
        await pool.remove()

    asyncio.run(run())


# -- with mounts --------------------------------------------------------------------------------


def owned(directory: Path, backing: str, **fields) -> PoolSpec:
    return PoolSpec(
        **{"regions": REGIONS, "kept": KEPT, "directory": directory / "pool", **fields},
        backing=backing,
    )


@pytest.mark.live
@pytest.mark.parametrize("backing", ["tmpfs", "hugetlb-2M"])
def test_a_mounted_pool_lives_and_leaves_nothing(directory, backing):
    pages = hugepages.count(2 * MIB)

    async def run():
        spec = owned(directory, backing)
        pool = await Pool.open(spec)
        assert spec.directory.is_mount()
        if backing == "hugetlb-2M":
            assert hugepages.count(2 * MIB) == pages + 5
            assert hugepages.available(2 * MIB) == 0
        await pool.scrub(REGIONS[1])
        again = await Pool.open(spec)
        await again.remove()
        await again.remove()
        assert not spec.directory.exists()

    asyncio.run(run())
    assert hugepages.count(2 * MIB) == pages
    assert list(directory.iterdir()) == []


@pytest.mark.live
def test_a_pool_that_lost_its_mount_is_not_made_anew_under_running_domains(directory):
    async def run():
        spec = owned(directory, "tmpfs")
        pool = await Pool.open(spec)
        await asyncio.to_thread(subprocess.run, ["umount", "-l", spec.directory], check=True)
        with pytest.raises(StepFailed, match="not mounted any more"):
            await Pool.open(spec)
        await pool.remove()

    asyncio.run(run())
    assert list(directory.iterdir()) == []


@pytest.mark.live
def test_too_few_huge_pages_say_how_many_are_missing_and_leave_nothing(directory):
    pages = hugepages.count(2 * MIB)
    vast = (Region(0, 1 << 50),)
    with pytest.raises(HugePagesShort, match=r"huge pages of 2M are missing of .* > /sys/kernel"):
        asyncio.run(Pool.open(owned(directory, "hugetlb-2M", regions=vast, kept=())))
    assert hugepages.count(2 * MIB) == pages
    assert list(directory.iterdir()) == []


@pytest.mark.live
def test_pages_noted_but_never_raised_are_not_given_back(directory):
    """A crash between the note and the deed must not lower the count of others."""
    pages = hugepages.count(2 * MIB)
    pool = Pool(owned(directory, "hugetlb-2M"))
    pool._note(raised=5, needs=pages + 5)
    assert pool._raised() == 0
    asyncio.run(pool.remove())
    assert hugepages.count(2 * MIB) == pages


@pytest.mark.live
def test_two_pools_give_back_what_each_has_raised_in_any_order(directory):
    pages = hugepages.count(2 * MIB)

    async def run():
        pools = []
        for name in "ab":
            (directory / name).mkdir()
            pools.append(await Pool.open(owned(directory / name, "hugetlb-2M")))
        assert hugepages.count(2 * MIB) == pages + 10
        for pool in pools:
            await pool.remove()

    asyncio.run(run())
    assert hugepages.count(2 * MIB) == pages


@pytest.mark.live
@pytest.mark.parametrize("backing", ["tmpfs", "hugetlb-2M"])
def test_a_pool_half_made_by_a_dead_ldmd_is_made_anew(directory, backing):
    pages = hugepages.count(2 * MIB)

    async def run():
        Pool(owned(directory, backing))._make()
        wider = (*REGIONS, Region(BASE + 128 * MIB, 2 * MIB))
        pool = await Pool.open(owned(directory, backing, regions=wider))
        await pool.scrub(wider[2])
        await pool.remove()

    asyncio.run(run())
    assert hugepages.count(2 * MIB) == pages


@pytest.mark.live
def test_the_record_of_an_earlier_boot_counts_for_nothing(directory):
    pool = Pool(owned(directory, "hugetlb-2M"))
    pool._note(raised=5)
    text = pool._record.read_text()
    assert pool._raised() == 5
    pool._record.write_text(text.replace(boot_id(), "another"))
    assert pool._raised() == 0
    asyncio.run(pool.remove())


@pytest.mark.live
def test_a_pool_in_use_is_not_removed(directory):
    async def run():
        pool = await Pool.open(owned(directory, "tmpfs"))
        path, _ = pool.backing(BASE, MIB)
        with path.open("rb"), pytest.raises(StepFailed, match="busy"):
            await pool.remove()
        await pool.remove()

    asyncio.run(run())
