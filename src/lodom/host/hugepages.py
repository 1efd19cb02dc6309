"""The host's store of huge pages: how many there are, raising it and giving back."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lodom.core.errors import HugePagesShort, NotSupported
from lodom.core.units import format_size
from lodom.host.topology import memory_available


def directory(page: int) -> Path:
    """Where the kernel keeps its counters of huge pages of *page* bytes.

    Raises:
        NotSupported: this CPU or kernel has no pages of that size.
    """
    path = Path(f"/sys/kernel/mm/hugepages/hugepages-{page >> 10}kB")
    if not path.is_dir():
        raise NotSupported(
            what=f"Huge pages of {format_size(page)}",
            why="the kernel or the CPU lacks them; set backing in section [memory]",
        )
    return path


def count(page: int) -> int:
    """How many huge pages of that size the kernel holds (nr_hugepages)."""
    return int((directory(page) / "nr_hugepages").read_text())


def available(page: int) -> int:
    """Free pages that nobody has reserved."""
    where = directory(page)
    return int((where / "free_hugepages").read_text()) - int((where / "resv_hugepages").read_text())


@contextmanager
def exclusive(page: int) -> Iterator[None]:
    """Alone among all ldmds of this host: read, decide and write the number in one piece."""
    with (directory(page) / "nr_hugepages").open() as counter:
        fcntl.flock(counter, fcntl.LOCK_EX)
        yield


def raise_by(page: int, pages: int) -> None:
    """Have the kernel make *pages* more; call inside ``exclusive``.

    Raises:
        HugePagesShort: memory is too full or too fragmented; the number is as before.
    """
    before = count(page)
    # Asked for more than there is, the kernel would first empty the host of all memory.
    got = min(pages, memory_available() // page)
    if got == pages:
        _write(page, before + pages)
        got = count(page) - before
    if got < pages:
        _write(page, before)
        raise HugePagesShort(
            page=format_size(page),
            wanted=pages,
            missing=pages - got,
            command=f"echo {before + pages} > {directory(page) / 'nr_hugepages'}",
        )


def lower_by(page: int, pages: int) -> None:
    """Give *pages* back to the kernel; call inside ``exclusive``."""
    _write(page, max(0, count(page) - pages))


def _write(page: int, pages: int) -> None:
    (directory(page) / "nr_hugepages").write_text(f"{pages}\n")
