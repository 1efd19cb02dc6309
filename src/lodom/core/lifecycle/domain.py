"""The life of a domain: what each event does in each state.

    inactive ─► binding ─► bound ─► starting ─► active ─► stopping ─► bound ─► inactive
                                        ▲          │ reboot with something to do, panic,
                                        └──────────┘ death of the process: started anew

Handlers are pure: (inventory, domain, event) to (inventory, effects).  ``Settle`` answers whoever
gave the command.  Source: ldm-cli digest 3.1; HANDOVER, "The guest has a will of its own".
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.errors import GuestUnable, LodomError, ObjectUnknown, StepFailed, WrongState
from lodom.core.fsm import Effects, Event
from lodom.core.lifecycle import binding, devices
from lodom.core.lifecycle.spec import guest_spec, platform
from lodom.core.model.domain import Domain, Runtime, State
from lodom.core.model.inventory import Inventory

STOP_S = 60.0
"""A guest that was asked to shut down has this long before the stop counts as failed."""
HALT: Final = "halt"
"""Key of those who wait until all guests are down because the host goes down."""
MAX_DEATHS = 3
"""A domain whose process dies this often in a row without coming up stays down."""

After = tuple[Inventory, Effects]


def _put(inventory: Inventory, domain: Domain, **changed: Any) -> Inventory:
    return inventory.with_domain(replace(domain, **changed))


def _settle(domain: Domain, error: LodomError | None = None, say: str = "") -> do.Settle:
    return do.Settle(domain.uuid, error, say)


def epoch_of(inventory: Inventory, uuid: str) -> int:
    """The highest epoch that this machine knows of the domain."""
    return inventory.ownership[uuid].epoch


# -- orders -------------------------------------------------------------------------------------


def bind(inventory: Inventory, domain: Domain) -> After:
    """Give an inactive domain all it asks for; it is bound when the host agrees.

    Raises:
        WrongState: not inactive, or another machine's.
        LodomError: something cannot be had (``binding.give``).
    """
    if domain.state is not State.INACTIVE:
        raise WrongState(name=domain.name, why=f"is already {domain.state}")
    _ours(inventory, domain)
    _served(inventory, domain)
    given = binding.give(inventory, domain)
    inventory = _put(inventory, domain, state=State.BINDING, bindings=given)
    return inventory, (do.CheckBackends(domain.uuid, _backends(inventory, domain)),)


def _ours(inventory: Inventory, domain: Domain) -> None:
    """What an old journal still lists is refused here; ``may_run`` has the last word.

    Raises:
        WrongState: another machine owns it.
    """
    if not inventory.owns(domain.uuid):
        why = "is another machine's; what is left of it here goes by ldm remove-domain"
        raise WrongState(name=domain.name, why=why)


def _served(inventory: Inventory, domain: Domain) -> None:
    """A domain that came here without running may have devices whose service is not here.

    Raises:
        ObjectUnknown: it names the volume or the switch.
    """
    for disk in domain.constraints.vdisks:
        server = inventory.vds.get(disk.server)
        if server is None or server.volume(disk.volume) is None:
            where = f" for disk {disk.name} of LDom {domain.name}"
            raise ObjectUnknown(what="Volume", name=f"{disk.volume}@{disk.server}", where=where)
    for vnet in domain.constraints.vnets:
        if vnet.switch not in inventory.vsw:
            where = f" for {vnet.name} of LDom {domain.name}"
            raise ObjectUnknown(what="Virtual switch", name=vnet.switch, where=where)


def _backends(inventory: Inventory, domain: Domain) -> tuple[tuple[str, str, bool], ...]:
    found = []
    for disk in domain.constraints.vdisks:
        volume = inventory.vds[disk.server].volume(disk.volume)
        assert volume is not None, disk
        name = f"{disk.volume}@{disk.server}"
        found.append((name, volume.backend, "ro" in volume.options))
    return tuple(found)


def start(inventory: Inventory, domain: Domain) -> After:
    """Start a bound domain.

    Raises:
        WrongState: not bound, or another machine's.
    """
    if domain.state is not State.BOUND:
        why = (
            "is already started" if domain.state is State.ACTIVE else "is not bound; bind it first"
        )
        raise WrongState(name=domain.name, why=why)
    _ours(inventory, domain)
    _served(inventory, domain)
    return launch(inventory, replace(domain, deaths=0))


def launch(inventory: Inventory, domain: Domain) -> After:
    """Begin a start of a domain that has its bindings and no process.

    Each start from disk is a fresh boot: R06 and R07 end with it, slots are numbered anew.
    """
    bound = domain.bound
    vcpus = tuple(replace(v, vid=vid) for vid, v in enumerate(sorted(bound.vcpus)))
    bound = replace(
        bound,
        held=(),
        cpu_dr_off=False,
        vcpus=vcpus,
        platform=bound.platform or platform(inventory, domain),
    )
    domain = replace(
        domain, state=State.STARTING, bindings=bound, runtime=None, agent=False, restart=False,
        halted=False,
    )  # fmt: skip
    return inventory.with_domain(domain), (do.LaunchGuest(guest_spec(inventory, domain)),)


def reboot_action(domain: Domain) -> Effects:
    """A reboot with something to do ends the process, so that the domain starts anew (HANDOVER).

    To do: R06 and R07 to end, or slots without a strand, which a guest's reboot would bring back.
    """
    bound, runtime = domain.bindings, domain.runtime
    if bound is None or runtime is None:
        return ()
    parked = len(runtime.plugged) > len(bound.vcpus)
    to_do = bound.cpu_dr_off or bool(bound.held) or parked
    return (do.SetRebootAction(domain.uuid, to_do),)


def stop(inventory: Inventory, domain: Domain, *, force: bool) -> After:
    """Stop an active domain: ask its guest, or with *force* end its process.

    Raises:
        WrongState: not active.
    """
    stoppable = (State.ACTIVE, State.STARTING, State.STOPPING) if force else (State.ACTIVE,)
    if domain.state not in stoppable:
        raise WrongState(name=domain.name, why=f"is {domain.state}, not active")
    inventory = _put(inventory, domain, state=State.STOPPING, restart=False)
    if force:
        return inventory, (do.DestroyGuest(domain.uuid),)
    ask = do.ShutDownGuest(domain.uuid)
    return inventory, (ask, do.SetTimer(f"stop:{domain.uuid}", STOP_S))


def unbind(inventory: Inventory, domain: Domain) -> After:
    """Take back all that a bound domain has; its memory is free when it is scrubbed.

    Raises:
        WrongState: not bound.
    """
    if domain.state is not State.BOUND:
        raise WrongState(name=domain.name, why=f"is {domain.state}, not bound")
    domain = replace(domain, state=State.INACTIVE, halted=False)
    inventory, scrubs = binding.take_back(inventory, domain)
    return inventory, (do.CloseConsole(domain.uuid), *scrubs)


# -- what happens -------------------------------------------------------------------------------


def _backends_checked(inventory: Inventory, d: Domain, event: ev.BackendsChecked) -> After:
    if event.problems:
        text = "; ".join(f"volume {volume}: {problem}" for volume, problem in event.problems)
        return _unbound(inventory, d, StepFailed(what=f"Binding LDom {d.name}", reason=text))
    return _open_console(inventory, d)


def _open_console(inventory: Inventory, d: Domain) -> After:
    console = d.bound.console
    if console is None:
        if d.state is not State.BINDING:
            return inventory, ()
        return _put(inventory, d, state=State.BOUND), (_settle(d),)
    return inventory, (do.OpenConsole(d.uuid, console.group, d.name, console.port),)


def _unbound(inventory: Inventory, d: Domain, error: LodomError) -> After:
    """A bind that failed: nothing was used yet, so nothing needs scrubbing."""
    inventory = _put(inventory, d, state=State.INACTIVE, bindings=None)
    return inventory, (do.CloseConsole(d.uuid), _settle(d, error))


def _console_opened(inventory: Inventory, d: Domain, _: Event) -> After:
    return _put(inventory, d, state=State.BOUND), (_settle(d),)


def _console_failed(inventory: Inventory, d: Domain, event: ev.ConsoleFailed) -> After:
    """Something else on the host listens there: take the next port.

    A domain that is past its bind goes without a console rather than down.
    """
    own_choice = d.constraints.console.port is not None
    unusable = {event.port} if own_choice else range(event.port + 1)
    unbound = _put(inventory, d, bindings=replace(d.bound, console=None))
    try:
        console = binding.grant_console(unbound, d, frozenset(unusable))
    except LodomError as error:
        return _unbound(inventory, d, error) if d.state is State.BINDING else (unbound, ())
    d = replace(d, bindings=replace(d.bound, console=console))
    return _open_console(inventory.with_domain(d), d)


def _launched(inventory: Inventory, d: Domain, event: ev.GuestLaunched) -> After:
    slots = tuple(v.vid for v in d.bound.vcpus)
    ports = len(d.bound.crypto)
    spec = guest_spec(inventory, d)
    runtime = Runtime(
        event.pid, event.started, event.home, len(slots), slots, slots, ports,
        spec.disk_ports, spec.nic_ports,
    )  # fmt: skip
    run = do.RunGuest(d.uuid, epoch_of(inventory, d.uuid))
    return _put(inventory, d, runtime=runtime), (run,)


def _launch_failed(inventory: Inventory, d: Domain, event: ev.GuestLaunchFailed) -> After:
    error = StepFailed(what=f"Starting LDom {d.name}", reason=event.reason)
    return _put(inventory, d, state=State.BOUND, runtime=None), (_settle(d, error),)


def _running(inventory: Inventory, d: Domain, event: ev.GuestRunning) -> After:
    inventory = _put(inventory, d, state=State.ACTIVE, running_since=event.now)
    return inventory, (do.AnnounceGuest(d.uuid), _settle(d, say=f"LDom {d.name} started"))


def _not_running(inventory: Inventory, d: Domain, event: ev.GuestRunFailed) -> After:
    if d.runtime is None:
        # About the process before this start, which a restarted ldmd asked before it knew that
        # it was gone: no news of the one that is being launched.
        return inventory, ()
    error = StepFailed(what=f"Starting LDom {d.name}", reason=event.reason)
    inventory = _put(inventory, d, state=State.STOPPING, restart=False)
    return inventory, (do.DestroyGuest(d.uuid), _settle(d, error))


def _refused(inventory: Inventory, d: Domain, event: ev.GuestRefused) -> After:
    if event.what != "shutdown" or d.halted:  # then its time-out ends it
        return inventory, ()
    error = GuestUnable(what="Remote graceful shutdown", name=f"LDom {d.name}", reason=event.reason)
    timer = do.CancelTimer(f"stop:{d.uuid}")
    return _put(inventory, d, state=State.ACTIVE), (timer, _settle(d, error))


def stop_timed_out(inventory: Inventory, d: Domain) -> After:
    """The guest was asked to shut down and did not within ``STOP_S``."""
    if d.state is not State.STOPPING:
        return inventory, ()
    reason = f"the guest did not power off within {STOP_S:.0f} s; retry, or use stop-domain -f"
    error = GuestUnable(what="LDom stop notification", name=f"LDom {d.name}", reason=reason)
    return _put(inventory, d, state=State.ACTIVE), (_settle(d, error),)


def _powered_off(inventory: Inventory, d: Domain, _: Event) -> After:
    inventory = _put(inventory, d, state=State.STOPPING, restart=False)
    return inventory, (do.CancelTimer(f"stop:{d.uuid}"), do.DestroyGuest(d.uuid))


def _panicked(inventory: Inventory, d: Domain, _: Event) -> After:
    """A panic is a reboot, as on the machines we follow; it may be told twice."""
    if d.state is State.ACTIVE:
        again = d.deaths + 1 < MAX_DEATHS
        inventory = _put(inventory, d, state=State.STOPPING, restart=again, deaths=d.deaths + 1)
    return inventory, (do.CancelTimer(f"stop:{d.uuid}"), do.DestroyGuest(d.uuid))


def panic(inventory: Inventory, domain: Domain) -> After:
    """Make the kernel of an active domain panic; what follows is ``_panicked``.

    Raises:
        WrongState: not active.
    """
    if domain.state is not State.ACTIVE:
        raise WrongState(name=domain.name, why=f"is {domain.state}, not active")
    return inventory, (do.PanicGuest(domain.uuid),)


def _panic_settled(d: Domain, event: ev.PanicAnswered) -> do.Settle:
    """Whoever ordered the panic waits apart from those who await the domain's start or stop."""
    key = f"panic:{d.uuid}"
    if not event.reason:
        return do.Settle(key)
    return do.Settle(key, GuestUnable(what="Panic", name=f"LDom {d.name}", reason=event.reason))


def _rebooted(inventory: Inventory, d: Domain, event: ev.GuestRebooted) -> After:
    if not event.ended:
        since = event.now or d.running_since
        return _put(inventory, d, agent=False, running_since=since), ()
    inventory = _put(inventory, d, state=State.STOPPING, restart=True)
    return inventory, (do.DestroyGuest(d.uuid),)


def _rebooted_instead(inventory: Inventory, d: Domain, event: ev.GuestRebooted) -> After:
    """It was asked to power off, and reset itself; if that ended its process, it is down."""
    if not event.ended or d.restart:
        return inventory, ()
    return _powered_off(inventory, d, event)


def _agent(inventory: Inventory, d: Domain, event: ev.AgentChanged) -> After:
    deaths = 0 if event.answers else d.deaths
    return _put(inventory, d, agent=event.answers, deaths=deaths), ()


def _stopped(inventory: Inventory, d: Domain, _: Event) -> After:
    if d.restart:
        return launch(inventory, d)
    # A boot is all that R06 and R07 wait for, and whatever comes next is one.
    bound = replace(d.bound, held=(), cpu_dr_off=False)
    inventory = _put(
        inventory, d, state=State.BOUND, bindings=bound, runtime=None, agent=False,
        running_since=0, storage_differs=False,
    )  # fmt: skip
    timers = (do.CancelTimer(f"stop:{d.uuid}"), do.CancelTimer(f"halt:{d.uuid}"))
    settled = _settle(d, say=f"LDom {d.name} stopped")
    return inventory, (*timers, settled, *_halt_settled(inventory))


def _halt_settled(inventory: Inventory) -> Effects:
    """No guest is going down any more; who waits until the host may, hears of it."""
    going = (d.state is State.STOPPING and not d.migration for d in inventory.domains.values())
    return () if any(going) else (do.Settle(HALT),)


def died(inventory: Inventory, d: Domain, _: Event) -> After:
    """The process ended by itself: the owner starts it anew, unless that does not help."""
    if d.deaths + 1 >= MAX_DEATHS:
        inventory = _put(
            inventory, d, state=State.BOUND, runtime=None, agent=False, deaths=0,
            running_since=0, storage_differs=False,
        )  # fmt: skip
        error = StepFailed(
            what=f"LDom {d.name}", reason=f"its process died {MAX_DEATHS} times in a row"
        )
        return inventory, (_settle(d, error),)
    return launch(inventory, replace(d, deaths=d.deaths + 1))


def _died_starting(inventory: Inventory, d: Domain, event: Event) -> After:
    """Before the new process is there, this is a second word of the old one's end."""
    return died(inventory, d, event) if d.runtime else (inventory, ())


def _vcpus_set(inventory: Inventory, d: Domain, event: ev.VcpusSet) -> After:
    if d.runtime is None:
        return inventory, ()
    runtime = replace(d.runtime, plugged=event.plugged, online=event.vids)
    vcpus = tuple(v for v in d.bound.vcpus if v.vid in event.vids)
    constraints = replace(d.constraints, vcpu=len(vcpus))
    bindings = replace(d.bound, vcpus=vcpus)
    d = replace(d, runtime=runtime, bindings=bindings, constraints=constraints)
    return inventory.with_domain(d), (*reboot_action(d), _settle(d))


def _vcpus_refused(inventory: Inventory, d: Domain, event: ev.VcpusRefused) -> After:
    if d.runtime is None:
        return inventory, ()
    vcpus = tuple(v for v in d.bound.vcpus if v.vid in d.runtime.online)
    reason = "; ".join(f"CPU {vid}: {text}" if vid >= 0 else text for vid, text in event.reasons)
    error = GuestUnable(what="CPU reconfiguration", name=f"LDom {d.name}", reason=reason)
    return _put(inventory, d, bindings=replace(d.bound, vcpus=vcpus)), (_settle(d, error),)


def recovered(inventory: Inventory, d: Domain, found: ev.GuestFound | None) -> After:
    """A domain after a restart of ldmd: what was under way is ended or repeated.

    A bind that was under way is undone; a start is tried anew; a process that is gone is started
    anew where the domain should run.
    """
    if d.state is State.BINDING:
        return _unbound(inventory, d, StepFailed(what="bind", reason="ldmd was restarted"))
    if d.state is State.STARTING:
        return _put(inventory, d, restart=True, state=State.STOPPING), (do.DestroyGuest(d.uuid),)
    if d.state is State.STOPPING:
        return inventory, (do.DestroyGuest(d.uuid),)
    if d.state is not State.ACTIVE:
        return inventory, ((do.DestroyGuest(d.uuid),) if found else ())
    if found is None:
        return launch(inventory, d)
    if found.status in _ENDS:
        return happen(inventory, d, _ENDS[found.status](d.uuid))
    inventory, cleaning = devices.agreed(inventory, d, found.places)
    again: Effects = () if found.status == "running" else (
        do.RunGuest(d.uuid, epoch_of(inventory, d.uuid)),
    )  # fmt: skip
    vcpus = do.SetVcpus(d.uuid, d.bound.vcpus, binding.cpu_map(inventory))
    return inventory, (*again, *reboot_action(d), vcpus, *cleaning)


_ENDS: Final[dict[str, Callable[[str], Event]]] = {
    "shutdown": ev.GuestPoweredOff,
    "panicked": ev.GuestPanicked,
}

Handler = Callable[[Inventory, Domain, Any], After]

TABLE: Final[dict[tuple[State, type[Event]], Handler]] = {
    (State.BINDING, ev.BackendsChecked): _backends_checked,
    (State.BINDING, ev.ConsoleOpened): _console_opened,
    (State.STARTING, ev.GuestLaunched): _launched,
    (State.STARTING, ev.GuestLaunchFailed): _launch_failed,
    (State.STARTING, ev.GuestRunning): _running,
    (State.STARTING, ev.GuestRunFailed): _not_running,
    (State.STARTING, ev.GuestGone): _died_starting,
    (State.ACTIVE, ev.GuestPoweredOff): _powered_off,
    (State.ACTIVE, ev.GuestPanicked): _panicked,
    (State.ACTIVE, ev.GuestRebooted): _rebooted,
    (State.ACTIVE, ev.AgentChanged): _agent,
    (State.ACTIVE, ev.GuestGone): died,
    (State.ACTIVE, ev.VcpusSet): _vcpus_set,
    (State.ACTIVE, ev.VcpusRefused): _vcpus_refused,
    (State.STOPPING, ev.GuestPoweredOff): _powered_off,
    (State.STOPPING, ev.GuestPanicked): _panicked,
    (State.STOPPING, ev.GuestRebooted): _rebooted_instead,
    (State.STOPPING, ev.GuestRefused): _refused,
    (State.STOPPING, ev.GuestGone): _stopped,
    (State.STOPPING, ev.AgentChanged): _agent,
}
"""Anything else is news that came too late to matter."""


def happen(inventory: Inventory, domain: Domain, event: Event) -> After:
    """The inventory after *event* of *domain*, and what is to be done."""
    if isinstance(event, ev.ConsoleFailed) and domain.bindings:
        return _console_failed(inventory, domain, event)
    if isinstance(event, ev.PanicAnswered):
        return inventory, (_panic_settled(domain, event),)
    if isinstance(event, ev.DevicePlugged | ev.DeviceUnplugged | ev.DeviceRefused):
        return devices.happen(inventory, domain, event)
    handler = TABLE.get((domain.state, type(event)))
    return handler(inventory, domain, event) if handler else (inventory, ())
