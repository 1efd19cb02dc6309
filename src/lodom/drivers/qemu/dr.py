"""CPU DR, carried out: plug, ask the guest, pin; put back what was done when a step is refused."""

import asyncio

from lodom.core import events as ev
from lodom.core.effects import SetVcpus
from lodom.core.fsm import Event
from lodom.drivers.qemu import argv, vcpus
from lodom.drivers.qemu.agent import AgentRefused, AgentSilent
from lodom.drivers.qemu.guest import Guest
from lodom.drivers.qemu.qmp import NoAnswer, Refused

_APPEAR_S = 20.0
_APPEAR_PAUSE_S = 0.1


class _No(Exception):
    """The change cannot be made: (slot, words)."""

    def __init__(self, *reasons: tuple[int, str]) -> None:
        super().__init__(*reasons)
        self.reasons = reasons


async def set_vcpus(guest: Guest, order: SetVcpus) -> Event:
    """Carry *order* out: ``VcpusSet``, or ``VcpusRefused`` with all as before.

    Slots that were plugged on the way stay plugged, parked.
    """
    wanted = {v.vid for v in order.vcpus}
    before: set[int] | None = None
    try:
        await guest.learn_slots()
        await guest.need_agent()
        before = {c.id for c in await guest.agent.cpus() if c.online}
        await _check(guest, wanted, before)
        await _plug(guest, wanted)
        await _switch(guest, wanted)
    except (_No, AgentSilent, AgentRefused, Refused, NoAnswer) as e:
        if before is not None:
            await _put_back(guest, before)
        reasons = e.reasons if isinstance(e, _No) else ((-1, str(e)),)
        return ev.VcpusRefused(guest.uuid, reasons)
    guest.pins = vcpus.pinning(order.vcpus, order.cpus, guest.threads)
    guest.pin()
    return ev.VcpusSet(guest.uuid, tuple(sorted(wanted)), tuple(sorted(guest.threads)))


async def removal_blockers(
    guest: Guest, leaving: frozenset[int]
) -> tuple[tuple[int, str], ...] | None:
    """Why the CPUs of *leaving* cannot be taken from the guest (R11), None: cannot be known."""
    try:
        await guest.need_agent()
        online = {c.id for c in await guest.agent.cpus() if c.online}
        report = await guest.agent.run(["/bin/sh", "-c", vcpus.PROBE])
        return vcpus.blockers(report, online, leaving & online)
    except (AgentSilent, AgentRefused, Refused, NoAnswer, ValueError):
        return None


async def _check(guest: Guest, wanted: set[int], online: set[int]) -> None:
    """Refuse before anything is changed what the guest could not do well."""
    leaving = frozenset(online - wanted)
    if not leaving:
        return
    fixed = [c.id for c in await guest.agent.cpus() if c.id in leaving and not c.can_offline]
    if fixed:
        raise _No(*((cpu, "the guest cannot take this cpu off line") for cpu in fixed))
    # What cannot be known (an agent without exec) is R11's finding, not ours.
    reasons = await removal_blockers(guest, leaving)
    if reasons:
        raise _No(*reasons)


async def _plug(guest: Guest, wanted: set[int]) -> None:
    """Add the missing slots and wait until the guest sees them."""
    missing = vcpus.plan(wanted, guest.threads, ()).plug
    if not missing:
        return
    free = await guest.execute("query-hotpluggable-cpus")
    models = {int(c["props"]["core-id"]): str(c["type"]) for c in free}
    for slot in missing:
        if slot not in models:
            raise _No((slot, "the domain has no such virtual cpu slot"))
        model = models[slot].removesuffix("-x86_64-cpu")
        await guest.execute("device_add", argv.vcpu_device(model, slot))
    await guest.learn_slots()
    try:
        async with asyncio.timeout(_APPEAR_S):
            while not set(missing) <= {c.id for c in await guest.agent.cpus()}:
                await guest.stirred(_APPEAR_PAUSE_S)
    except TimeoutError:
        raise _No(*((slot, "the guest does not see this cpu") for slot in missing)) from None


async def _switch(guest: Guest, wanted: set[int]) -> None:
    """Bring the guest's CPUs to exactly *wanted*: first those to come, then those to go."""
    online = {c.id for c in await guest.agent.cpus() if c.online}
    change = vcpus.plan(wanted, guest.threads, online)
    for up, cpus in ((True, change.online), (False, change.offline)):
        left = list(cpus)
        while left:
            try:
                done = await guest.agent.set_cpus(dict.fromkeys(left, up))
            except AgentRefused as e:
                raise _No((left[0], str(e))) from e
            if done <= 0:
                raise _No((left[0], "the guest did nothing"))
            left = left[done:]
    now = {c.id for c in await guest.agent.cpus() if c.online}
    if now != wanted:
        raise _No(*((cpu, "the guest changed it by itself") for cpu in sorted(now ^ wanted)))


async def _put_back(guest: Guest, before: set[int]) -> None:
    """Bring the guest's CPUs back to *before*; new slots stay, parked on the others' strands."""
    try:
        await guest.learn_slots()
        await _switch(guest, before)
    except (_No, AgentSilent, AgentRefused, Refused, NoAnswer):
        pass  # it was told; a guest that does not listen keeps its own mind
    shared = tuple(sorted({cpu for cpus in guest.pins.values() for cpu in cpus}))
    guest.pins = {slot: guest.pins.get(slot, shared) for slot in guest.threads}
    guest.pin()
