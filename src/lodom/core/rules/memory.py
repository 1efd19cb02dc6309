"""Rules on memory: enough of it, and in ranges that can hold the blocks."""

from collections.abc import Iterator

from lodom.core.alloc.memory import Lack, Misfit, Undecided
from lodom.core.rules.case import Case
from lodom.core.rules.form import Found, found, rule
from lodom.core.rules.room import blocks_by_ra, placement, room_makers
from lodom.core.units import format_size, round_up


@rule("R12", states=("active", "bound"))
def memory_short(case: Case) -> Iterator[Found]:
    """Less memory is free on the target than the domain has.

    Why:
        Every block of the domain gets memory of its own on the target before anything moves.

    Remedy:
        Free memory on the target (ldm unbind-domain, ldm set-memory), or choose another target.

    Example:
        The domain has 4G, 2G are free on the target: refused.

    Sentence:
        The target machine has enough free memory for the domain.
    """
    page = case.target.machine.page
    wanted = sum(round_up(block.size, page) for block in case.domain.blocks)
    free = sum(region.size for region in case.target.free)
    if free < wanted:
        yield found(
            f"Not enough free memory on {case.target.machine.name}: "
            f"{format_size(wanted)} needed, {format_size(free)} free",
            wanted=wanted,
            free=free,
        )


@rule("R17", states=("active",))
def layout_undecided(case: Case) -> Iterator[Found]:
    """Whether the free ranges of the target can hold the blocks was not found out in time.

    Why:
        Blocks do not split, so placing them is a puzzle; the search for an answer is bounded.  It
        is reached only by dozens of blocks of different sizes and hardly a page to spare.

    Remedy:
        Free a little more memory on the target, best next to a free range (ldm list-devices
        memory).

    Example:
        Forty blocks of forty sizes into twenty ranges with nothing left over.

    Sentence:
        The layout of the target's free memory is compatible with that of the domain, or the
        migration fails.
    """
    answer = placement(case)
    if isinstance(answer, Undecided):
        yield found(
            f"No placement of the {len(case.domain.blocks)} memory blocks was found on "
            f"{case.target.machine.name} in {answer.steps} steps; there may be one",
            steps=answer.steps,
        )


@rule("R18", states=("active",))
def block_has_no_range(case: Case) -> Iterator[Found]:
    """Enough memory is free on the target, but no free range can hold this block.

    Why:
        A block keeps its size and its real address when it moves and is never split.  All
        assignments of blocks to ranges were tried: the block named is the first, in the order of
        real addresses, for which nothing is left.  Where the search for the first one reached its
        bound, an earlier block may be it too; the drawing and --json (sure) then say so.

    Remedy:
        Make one large range out of several: unbind or move a domain that lies between free ranges
        (ldm migrate-domain -n -v draws the map).

    Example:
        A block of 2G, two free ranges of 1G: "Unable to bind 2G memory region at real address
        0x8000000".

    Sentence:
        If the target's memory is fragmented into small ranges and the domain needs a large one,
        the migration fails.
    """
    answer = placement(case)
    if not isinstance(answer, Misfit) or answer.lack is not Lack.LAYOUT:
        return
    blocks = blocks_by_ra(case)
    block = blocks[answer.block]
    makers = room_makers(case.target, [b.size for b in blocks])
    target = case.target.machine.name
    yield found(
        f"Unable to bind {format_size(block.size)} memory region at real address {block.ra:#x}",
        remedy=f"On {target}: ldm unbind-domain {makers[0]} makes room" if makers else "",
        block=answer.block,
        ra=block.ra,
        size=block.size,
        sure=answer.sure,
        largest=answer.largest,
        free=answer.free,
        room_makers=list(makers),
    )


@rule("L14", states=("active",))
def block_off_page(case: Case) -> Iterator[Found]:
    """A block is not a whole number of the target's pages.

    Why:
        The target's pool hands out whole pages; a block that ends inside one would change size.

    Remedy:
        Use a pool with the source's page size on the target ([memory] backing in machine.toml), or
        give the domain memory in multiples of the larger page while it is stopped.

    Example:
        A block of 6M, a target with 1G pages: refused.

    Sentence:
        Lodom's own: no cause may first show as an error during the copy.
    """
    page = case.target.machine.page
    for block in blocks_by_ra(case):
        if block.size % page:
            yield found(
                f"The {format_size(block.size)} memory block at real address {block.ra:#x} is not "
                f"a multiple of the {format_size(page)} pages of {case.target.machine.name}",
                ra=block.ra,
                size=block.size,
                page=page,
            )
