"""The boot's id and clock."""

import uuid

from lodom.host import boot


def test_the_boot_id_is_one_and_stays():
    assert uuid.UUID(boot.boot_id())
    assert boot.boot_id() == boot.boot_id()


def test_the_boot_clock_goes_forward():
    assert 0 < boot.boottime() <= boot.boottime()
