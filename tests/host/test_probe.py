"""Features of the kernel, on recorded trees and on this host."""

import asyncio

import pytest

from lodom.host import probe


def test_huge_page_sizes_are_read(tmp_path):
    for size in (1048576, 2048):
        (tmp_path / f"sys/kernel/mm/hugepages/hugepages-{size}kB").mkdir(parents=True)
    assert probe.huge_pages(tmp_path) == probe.Feature("huge pages", True, "2M, 1024M")


def test_vfio_needs_an_iommu_too(tmp_path):
    assert not probe.vfio(tmp_path).present
    (tmp_path / "dev/vfio").mkdir(parents=True)
    (tmp_path / "dev/vfio/vfio").touch()
    assert probe.vfio(tmp_path).why == "no IOMMU groups"
    (tmp_path / "sys/kernel/iommu_groups/0").mkdir(parents=True)
    assert probe.vfio(tmp_path).present


@pytest.mark.parametrize("feature", [probe.huge_pages, probe.vfio, probe.taps])
def test_what_is_missing_has_a_remedy(tmp_path, feature):
    found = feature(tmp_path)
    assert not found.present
    assert found.why
    assert found.remedy


@pytest.mark.live
def test_this_host_answers_for_every_feature():
    found = asyncio.run(probe.features())
    assert [f.name for f in found] == [
        "VLAN filtering",
        "802.1Q",
        "taps",
        "VFIO",
        "huge pages",
        "control groups",
    ]
    assert all(f.why for f in found)
    assert all(bool(f.remedy) != f.present for f in found)
