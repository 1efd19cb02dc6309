"""An in-memory hypervisor: what QEMU does as far as core can tell, on somebody else's clock.

For tests, simulation and planning.  It behaves as measured on the real one: the source's process
resumes its guest by itself on a stream error before ``completed``; a loaded target stays paused
until ``RunGuest``; ``CancelCopy`` before completion sets the guest running.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.fsm import Effect, Event

LAUNCH_S, COPY_S, FINISH_S, AGENT_S, BOOT_S, STOP_S = 0.2, 3.0, 0.05, 0.1, 2.0, 1.0
PORT = 49152


@dataclass
class ModelGuest:
    """One hypervisor process."""

    uuid: str
    pid: int
    home: str
    plugged: tuple[int, ...]
    online: tuple[int, ...]
    status: str = "paused"
    copy: str = "none"
    migration: str = ""
    ran: bool = False
    stop_on_reboot: bool = False
    places: set[str] = field(default_factory=set)
    """Where it has disks and network devices."""
    peer: "tuple[ModelHypervisor, str] | None" = field(default=None, repr=False)


Later = Callable[[float, Callable[[], None]], None]


class ModelHypervisor:
    """The guests of one machine.

    Args:
        post: takes events of this machine.
        later: runs a call after some virtual seconds.
        may_run: the question that every ``RunGuest`` asks of the journal.
        reach: the hypervisor behind a host name, or None when it cannot be reached now.
    """

    def __init__(
        self,
        *,
        post: Callable[[Event], None],
        later: Later,
        may_run: Callable[[str, int], bool],
        reach: "Callable[[str], ModelHypervisor | None]",
    ) -> None:
        self._post, self._later, self._may_run, self._reach = post, later, may_run, reach
        self.guests: dict[str, ModelGuest] = {}
        self._pids = 0
        self.cannot_run: set[str] = set()
        """Guests whose next ``cont`` is refused (a disk lock that cannot be had)."""

    def running(self) -> list[str]:
        """UUIDs of the guests whose CPUs run."""
        return [g.uuid for g in self.guests.values() if g.status == "running"]

    def found(self) -> dict[str, ev.GuestFound]:
        """What a restarted ldmd finds."""
        return {
            g.uuid: ev.GuestFound(
                g.uuid, g.pid, 1, g.home, g.status, g.copy, tuple(sorted(g.places))
            )
            for g in self.guests.values()
        }

    # -- effects ---------------------------------------------------------------------------------

    def perform(self, e: Effect) -> None:
        """Carry out an effect of the hypervisor."""
        match e:
            case do.LaunchGuest():
                self._later(LAUNCH_S, lambda: self._launch(e))
            case do.RunGuest(uuid, epoch):
                self._run(uuid, epoch)
            case do.ShutDownGuest(uuid):
                self._later(STOP_S, lambda: self.power_off(uuid))
            case do.PanicGuest(uuid):
                self.panic(uuid)
                self._post(ev.PanicAnswered(uuid))
            case do.DestroyGuest(uuid, asker):
                self.kill(uuid, quiet=True)
                self._post(ev.GuestGone(uuid, asker))
            case do.SetVcpus(uuid, vcpus, _):
                vids = tuple(v.vid for v in vcpus)
                self._later(AGENT_S, lambda: self._set_vcpus(uuid, vids))
            case do.PlugDevice() | do.UnplugDevice():
                self._later(AGENT_S, lambda: self._replug(e))
            case do.SetRebootAction(uuid, stop):
                if g := self.guests.get(uuid):
                    g.stop_on_reboot = stop
            case do.StartCopy():
                self._start_copy(e)
            case do.FinishCopy(uuid, migration):
                self._finish_copy(uuid, migration)
            case do.CancelCopy(uuid, migration, _):
                self._cancel_copy(uuid, migration)
            case do.AnnounceGuest():
                pass
            case _:
                raise AssertionError(e)

    def _launch(self, e: do.LaunchGuest) -> None:
        s = e.spec
        self._pids += 1
        online = s.plugged if e.incoming is None else s.plugged[:1]
        guest = ModelGuest(s.uuid, self._pids, e.home, s.plugged, online)
        guest.places = {d.place for d in s.disks} | {n.place for n in s.nics}
        if e.incoming:
            guest.status, guest.copy = "inmigrate", "active"
            guest.migration = e.incoming.migration
        self.guests[s.uuid] = guest
        self._post(ev.GuestLaunched(s.uuid, guest.pid, 1, e.home, PORT if e.incoming else 0))

    def _run(self, uuid: str, epoch: int) -> None:
        g = self.guests.get(uuid)
        if not self._may_run(uuid, epoch):
            paused = g is not None and g.status == "paused"
            self._post(ev.GuestRunFailed(uuid, "another machine owns the domain", paused))
        elif g is None or g.status not in ("paused", "postmigrate", "running"):
            self._post(ev.GuestRunFailed(uuid, "it cannot run", paused=False))
        elif uuid in self.cannot_run:
            self.cannot_run.discard(uuid)
            self._post(ev.GuestRunFailed(uuid, "Failed to get write lock", paused=True))
        else:
            fresh = not g.ran and g.home == "home"
            g.status, g.ran = "running", True
            self._post(ev.GuestRunning(uuid))
            self._later(BOOT_S if fresh else AGENT_S, lambda: self._agent(g))

    def _agent(self, g: ModelGuest) -> None:
        if self.guests.get(g.uuid) is g and g.status == "running":
            self._post(ev.AgentChanged(g.uuid, answers=True))

    def _set_vcpus(self, uuid: str, vids: tuple[int, ...]) -> None:
        g = self.guests.get(uuid)
        if g is None or g.status != "running":
            self._post(ev.VcpusRefused(uuid, ((-1, "no guest agent answers"),)))
            return
        g.online, g.plugged = vids, tuple(sorted({*g.plugged, *vids}))
        self._post(ev.VcpusSet(uuid, vids, g.plugged))

    def _replug(self, e: do.PlugDevice | do.UnplugDevice) -> None:
        plug = isinstance(e, do.PlugDevice)
        place = e.device.place if isinstance(e, do.PlugDevice) else e.place
        g = self.guests.get(e.uuid)
        if g is None or (not plug and g.status != "running" and place in g.places):
            self._post(ev.DeviceRefused(e.uuid, place, "the guest does not run", plug=plug))
        elif plug:
            g.places.add(place)
            self._post(ev.DevicePlugged(e.uuid, place))
        else:
            g.places.discard(place)
            self._post(ev.DeviceUnplugged(e.uuid, place))

    # -- copies ----------------------------------------------------------------------------------

    def _start_copy(self, e: do.StartCopy) -> None:
        g = self.guests.get(e.uuid)
        there = self._reach(e.host)
        other = there.guests.get(e.uuid) if there else None
        if g is None or there is None or other is None or other.status != "inmigrate":
            self._post(ev.CopyFailed(e.uuid, e.migration, "connection refused"))
            return
        g.copy, g.migration, g.peer = "active", e.migration, (there, e.host)
        self._later(COPY_S / 2, lambda: self._progress(g, e.migration))
        self._later(COPY_S, lambda: self._switch_over(g, e.migration))

    def _progress(self, g: ModelGuest, migration: str) -> None:
        if g.copy == "active" and self._linked(g):
            numbers = {"total": 100, "transferred": 50, "remaining": 50}
            self._post(ev.CopyProgressed(g.uuid, migration, numbers))
            if g.peer:
                g.peer[0]._post(ev.CopyProgressed(g.uuid, migration, numbers))

    def _linked(self, g: ModelGuest) -> bool:
        """The stream still stands; if not it breaks here and now."""
        if g.peer is None or self.guests.get(g.uuid) is not g:
            return False
        there, host = g.peer
        other = there.guests.get(g.uuid)
        if self._reach(host) is there and other and other.migration == g.migration:
            return True
        self.break_stream(g.uuid)
        return False

    def _switch_over(self, g: ModelGuest, migration: str) -> None:
        if g.copy == "active" and self._linked(g) and g.status == "running":
            g.copy, g.status = "paused", "paused"
            self._post(ev.CopyPaused(g.uuid, migration))

    def _finish_copy(self, uuid: str, migration: str) -> None:
        g = self.guests.get(uuid)
        if g is None or g.copy != "paused":
            self._post(ev.CopyFailed(uuid, migration, "not before the last bytes"))
            return
        g.copy = "device"
        self._later(FINISH_S, lambda: self._complete(g, migration))

    def _complete(self, g: ModelGuest, migration: str) -> None:
        if g.copy != "device" or not self._linked(g) or g.peer is None:
            return
        there = g.peer[0]
        other = there.guests[g.uuid]
        if other.places != g.places:  # two machines that differ: the stream is refused
            self.break_stream(g.uuid)
            return
        other.status, other.copy, other.online = "paused", "completed", g.online
        there._post(ev.IncomingLoaded(g.uuid, migration))
        g.status, g.copy = "postmigrate", "completed"
        self._post(ev.CopyCompleted(g.uuid, migration, {"total": 100, "remaining": 0}))

    def _cancel_copy(self, uuid: str, migration: str) -> None:
        g = self.guests.get(uuid)
        if g and g.copy in ("active", "paused", "device"):
            if g.peer and (other := g.peer[0].guests.get(uuid)) and other.migration == migration:
                g.peer[0].fail_incoming(uuid)
            g.copy = "cancelled"
            if g.status == "paused":
                g.status = "running"
        self._post(ev.CopyCancelled(uuid, migration))

    # -- what befalls ----------------------------------------------------------------------------

    def break_stream(self, uuid: str) -> None:
        """The stream of a copy breaks: the source's guest runs on by itself."""
        g = self.guests.get(uuid)
        if g is None or g.copy not in ("active", "paused", "device"):
            return
        if g.peer:
            g.peer[0].fail_incoming(uuid)
        g.copy = "failed"
        if g.status == "paused":
            g.status = "running"
        self._post(ev.CopyFailed(uuid, g.migration, "the stream broke"))

    def fail_incoming(self, uuid: str) -> None:
        """The target's process loses its stream before it has all: it exits."""
        g = self.guests.get(uuid)
        if g and g.status == "inmigrate":
            self._post(ev.IncomingFailed(uuid, g.migration, "the stream broke"))
            self.kill(uuid)

    def power_off(self, uuid: str) -> None:
        """The guest switches itself off."""
        g = self.guests.get(uuid)
        if g and g.status == "running":
            g.status = "shutdown"
            self._post(ev.GuestPoweredOff(uuid))

    def reboot(self, uuid: str) -> None:
        """The guest resets itself."""
        g = self.guests.get(uuid)
        if g and g.status == "running":
            if g.stop_on_reboot:
                g.status = "shutdown"
            else:
                g.online = g.plugged
            self._post(ev.GuestRebooted(uuid, ended=g.stop_on_reboot))

    def panic(self, uuid: str) -> None:
        """The guest's kernel ends."""
        g = self.guests.get(uuid)
        if g and g.status == "running":
            g.status = "panicked"
            self._post(ev.GuestPanicked(uuid))

    def kill(self, uuid: str, *, quiet: bool = False) -> None:
        """The process ends."""
        g = self.guests.pop(uuid, None)
        if g is None:
            return
        if g.peer and (other := g.peer[0].guests.get(uuid)) and other.migration == g.migration:
            g.peer[0].fail_incoming(uuid)
        if not quiet:
            self._post(ev.GuestGone(uuid))
