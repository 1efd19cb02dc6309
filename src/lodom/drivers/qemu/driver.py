"""The QEMU driver: carries out core's effects on guests and posts what happens to them.

QEMU's words end here.  Everything is found again after a restart of ldmd: a guest's process, its
migration and its threads are read off the process itself, never out of a file of ours.
"""

import asyncio
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.errors import LodomError, StepFailed
from lodom.core.fsm import Effect
from lodom.core.model.host import Hypervisor
from lodom.drivers.qemu import copying, crypto, dr, firmware, hotplug, probe, qmp, translate
from lodom.drivers.qemu.agent import AgentRefused, AgentSilent
from lodom.drivers.qemu.guest import Guest, Post
from lodom.drivers.qemu.launch import Backing, CloseTaps, Launcher, OpenTap
from lodom.drivers.qemu.process import Process, holder_of
from lodom.drivers.qemu.settings import Settings

_log = structlog.get_logger()
_QUIT_S = 5.0
_OUTLAST_S = 120.0
"""A source that has heard nothing by then has given up by itself (``steps``)."""
_SECTOR = 512
_ANNOUNCE = {"initial": 50, "max": 550, "rounds": 5, "step": 100}
_NO_GUEST = "the domain has no process"

_Failures = (qmp.NoAnswer, qmp.Refused, LodomError, OSError)


class QemuDriver:
    """The guests of one machine.

    Args:
        run_dir: a folder per guest by UUID, on a file system that forgets (keys pass through it).
        log_dir: QEMU's words and console output, by name.
        backing: file and offset of ``size`` bytes at a physical address.
        open_tap: a tap on the nic's switch; the descriptor is the driver's to close.
        close_taps: forget the taps of a domain.
        may_run: re-reads the journal: this machine owns the domain at that epoch, the highest.
        post: takes events, at once and in order.
    """

    def __init__(
        self,
        *,
        run_dir: Path,
        log_dir: Path,
        backing: Backing,
        open_tap: OpenTap,
        close_taps: CloseTaps,
        may_run: Callable[[str, int], bool],
        post: Post,
        settings: Settings,
    ) -> None:
        self._run_dir = run_dir
        self._settings = settings
        self._open_tap = open_tap
        self._may_run = may_run
        self._post = post
        self._guests: dict[str, Guest] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Launching, ending and finding one guest exclude each other."""
        self._outlasting: set[asyncio.Task[None]] = set()
        """What holds the connections of a copy whose process is gone."""
        self._launcher = Launcher(
            run_dir=run_dir, log_dir=log_dir, backing=backing, open_tap=open_tap,
            close_taps=close_taps, settings=settings, post=post,
        )  # fmt: skip

    @property
    def settings(self) -> Settings:
        """What is fixed for the life of ldmd."""
        return self._settings

    async def perform(self, effect: Effect) -> None:
        """Carry *effect* out; how it ended is posted as the effect's events.

        Raises:
            StepFailed: only for ``AnnounceGuest`` and ``SetRebootAction``.
        """
        match effect:
            case do.LaunchGuest():
                await self._launch(effect)
            case do.RunGuest():
                await self._run(effect)
            case do.AnnounceGuest(uuid):
                await self._order(uuid, "announce-self", _ANNOUNCE)
            case do.ShutDownGuest(uuid, button):
                await self._shut_down(uuid, button=button)
            case do.PanicGuest(uuid):
                await self._panic(uuid)
            case do.DestroyGuest(uuid, asker):
                await self._destroy(uuid, asker)
            case do.SetVcpus():
                await self._set_vcpus(effect)
            case do.PlugDevice():
                await self._plug(effect)
            case do.UnplugDevice():
                await self._unplug(effect)
            case do.SetRebootAction(uuid, stop):
                await self._order(uuid, "set-action", {"reboot": "shutdown" if stop else "reset"})
            case do.StartCopy():
                await self._start_copy(effect)
            case do.FinishCopy(uuid, migration):
                await self._finish_copy(uuid, migration)
            case do.CancelCopy():
                await self._cancel_copy(effect)
            case _:
                raise AssertionError(f"not an effect of the hypervisor: {type(effect).__name__}")

    # -- a guest's life ----------------------------------------------------------------------

    async def _launch(self, effect: do.LaunchGuest) -> None:
        uuid = effect.spec.uuid
        async with self._turns[uuid]:
            try:
                guest, port = await self._relaunch_or_launch(effect)
            except _Failures as e:
                self._post(ev.GuestLaunchFailed(uuid, effect.home, str(e)))
                return
        process = guest.process
        self._post(ev.GuestLaunched(uuid, process.pid, process.started, effect.home, port))

    async def _relaunch_or_launch(self, effect: do.LaunchGuest) -> tuple[Guest, int]:
        """The guest of an order that is repeated, or a new one."""
        there = self._guests.get(effect.spec.uuid)
        if there is not None:
            if there.home != effect.home:
                raise StepFailed(what="Starting the hypervisor", reason="the domain has a process")
            return there, await copying.port(there) if effect.incoming else 0
        taken = set[int]()
        for other in self._guests.values():
            with suppress(OSError):  # one that has just ended has none
                taken.add(other.process.user())
        guest, port = await self._launcher.launch(effect, taken)
        self._keep(guest)
        if effect.incoming is not None:
            guest.copy = guest.begin(copying.await_incoming(guest, effect.incoming.migration))
        return guest, port

    def _keep(self, guest: Guest) -> None:
        self._guests[guest.uuid] = guest
        guest.lost = lambda place: hotplug.lost(guest, place)
        guest.watch()
        guest.begin(self._mourn(guest))

    async def _mourn(self, guest: Guest) -> None:
        """When the process ends by itself: take its things back and tell."""
        await guest.process.wait_gone()
        async with self._turns[guest.uuid]:
            if self._guests.get(guest.uuid) is guest:
                await self._bury(guest)
                self._post(ev.GuestGone(guest.uuid))

    async def _bury(self, guest: Guest) -> None:
        del self._guests[guest.uuid]
        outlasting = asyncio.create_task(guest.held.outlast(_OUTLAST_S))
        self._outlasting.add(outlasting)
        outlasting.add_done_callback(self._outlasting.discard)
        outlasting.add_done_callback(lambda _: guest.held.release())
        await guest.drop()
        await self._launcher.remove(guest.uuid)

    async def _destroy(self, uuid: str, asker: str) -> None:
        async with self._turns[uuid]:
            guest = self._guests.get(uuid)
            if guest is None:
                await self._launcher.remove(uuid)
            else:
                await _end(guest)
                await self._bury(guest)
            self._post(ev.GuestGone(uuid, asker))

    async def _run(self, effect: do.RunGuest) -> None:
        """The only place that says ``cont``."""
        uuid = effect.uuid
        guest = self._guests.get(uuid)
        if guest is None:
            self._post(ev.GuestRunFailed(uuid, _NO_GUEST, paused=False))
            return
        allowed, reason = self._may_run(uuid, effect.epoch), "another machine owns the domain"
        if allowed:
            try:
                await guest.execute("cont")
                reason = "the process says that it does not run"
            except (qmp.Refused, qmp.NoAnswer) as e:
                reason = str(e)
        state = await _state(guest)
        if allowed and translate.guest_status(state) == "running":
            self._post(ev.GuestRunning(uuid, now=int(time.time())))
            # Whether its agent answers is told anew: one that did to a question of find(), and one
            # that did on the source and is gone.
            guest.answers = None
            guest.look_for_agent()
            guest.begin(crypto.plug(guest))
        else:
            self._post(ev.GuestRunFailed(uuid, reason, paused=state in ("paused", "prelaunch")))

    async def _shut_down(self, uuid: str, *, button: bool) -> None:
        try:
            guest = self._guest(uuid)
            try:
                await guest.need_agent()
                await guest.agent.shut_down()
            except (AgentSilent, AgentRefused):
                if not button:
                    raise
                await guest.execute("system_powerdown")
        except (AgentSilent, AgentRefused, qmp.NoAnswer, qmp.Refused, StepFailed) as e:
            self._post(ev.GuestRefused(uuid, "shutdown", str(e)))

    async def _panic(self, uuid: str) -> None:
        """Through the agent; without one by an NMI, on which a Linux guest panics if told to."""
        try:
            guest = self._guest(uuid)
            try:
                await guest.need_agent()
                await guest.agent.panic()
            except (AgentSilent, AgentRefused):
                await guest.execute("inject-nmi")
        except (qmp.NoAnswer, qmp.Refused, StepFailed) as e:
            self._post(ev.PanicAnswered(uuid, str(e)))
        else:
            self._post(ev.PanicAnswered(uuid))

    async def _set_vcpus(self, effect: do.SetVcpus) -> None:
        try:
            guest = self._guest(effect.uuid)
        except StepFailed as e:
            self._post(ev.VcpusRefused(effect.uuid, ((-1, e.reason),)))
            return
        async with guest.dr:
            self._post(await dr.set_vcpus(guest, effect))

    async def _plug(self, e: do.PlugDevice) -> None:
        place = e.device.place
        try:
            guest = self._guest(e.uuid)
            await hotplug.plug(guest, e.device, e.firmware, self._open_tap)
        except _Failures as why:
            self._post(ev.DeviceRefused(e.uuid, place, str(why), plug=True))
        else:
            self._post(ev.DevicePlugged(e.uuid, place, await hotplug.taken(guest, place)))

    async def _unplug(self, e: do.UnplugDevice) -> None:
        try:
            why = await hotplug.unplug(self._guest(e.uuid), e.place, force=e.force)
        except _Failures as error:
            why = str(error)
        if why:
            self._post(ev.DeviceRefused(e.uuid, e.place, why, plug=False))
        else:
            self._post(ev.DeviceUnplugged(e.uuid, e.place))

    async def _order(self, uuid: str, command: str, arguments: dict[str, Any]) -> None:
        try:
            await self._guest(uuid).execute(command, arguments)
        except (qmp.NoAnswer, qmp.Refused) as e:
            raise StepFailed(what=command, reason=str(e)) from e

    def _guest(self, uuid: str) -> Guest:
        guest = self._guests.get(uuid)
        if guest is None:
            raise StepFailed(what="Asking the hypervisor", reason=_NO_GUEST)
        return guest

    async def grow(self, uuid: str, index: int, size: int) -> bool:
        """Tell the guest that its raw disk *index* has *size* bytes now; False if it knows.

        Never makes it smaller.

        Raises:
            StepFailed: it cannot be told.
        """
        guest, node = self._guest(uuid), f"disk{index}"
        try:
            nodes = await guest.execute("query-named-block-nodes", {"flat": True})
            found = next((n for n in nodes if n.get("node-name") == node), None)
            if found is None or found["drv"] != "raw" or found["image"]["virtual-size"] >= size:
                return False
            # A size that is no multiple of a sector would write to the end of a file.
            order = {"node-name": node, "size": size // _SECTOR * _SECTOR}
            if order["size"] > found["image"]["virtual-size"]:
                await guest.execute("block_resize", order)
                return True
        except (qmp.NoAnswer, qmp.Refused) as e:
            raise StepFailed(what=f"Resizing {node}", reason=str(e)) from e
        return False

    # -- copies ------------------------------------------------------------------------------

    async def _start_copy(self, effect: do.StartCopy) -> None:
        try:
            guest = self._guest(effect.uuid)
            if guest.copy is not None and not guest.copy.done():
                if guest.migration == effect.migration:
                    return  # the order is repeated
                raise StepFailed(what="Starting the copy", reason="another one is not ended yet")
        except StepFailed as e:
            self._post(ev.CopyFailed(effect.uuid, effect.migration, str(e)))
            return
        guest.migration = effect.migration
        guest.copy = guest.begin(copying.send(guest, effect))

    async def _finish_copy(self, uuid: str, migration: str) -> None:
        try:
            await copying.finish(self._guest(uuid), migration)
        except _Failures as e:
            self._post(ev.CopyFailed(uuid, migration, str(e)))

    async def _cancel_copy(self, effect: do.CancelCopy) -> None:
        guest = self._guests.get(effect.uuid)
        if guest is None:
            self._post(ev.CopyCancelled(effect.uuid, effect.migration))
            return
        # It may take as long as the process does not answer; the caller need not wait for that.
        sending = guest.copy
        guest.copy = guest.begin(copying.cancel(guest, effect.migration, effect.port, sending))

    # -- finding -----------------------------------------------------------------------------

    async def find(self) -> list[ev.GuestFound]:
        """Every guest of this machine that stands, watched again from now on.

        A process that listens but does not answer is found too, as ``running``: nothing proves the
        opposite.
        """
        found = []
        for path in sorted(self._run_dir.glob("*/qmp.sock")):
            uuid = path.parent.name
            if uuid in self._guests:
                continue
            async with self._turns[uuid]:
                guest = await self._meet_again(uuid, path)
                if guest is not None:
                    found.append(await self._describe(guest))
        return found

    async def _meet_again(self, uuid: str, path: Path) -> Guest | None:
        """The guest behind *path*, or None if nobody listens there any more."""
        sock: socket.socket | None = None
        try:
            sock, pid = qmp.reach(path)
        except BlockingIOError:  # not gone: stopped, or stuck, over several starts of ldmd
            pid = holder_of(path)
        except OSError:
            return None
        try:
            process = Process(pid)
        except OSError:
            if sock:
                sock.close()
            return None
        guest = Guest(uuid, path.parent, process, self._settings, self._post)
        guest.home = translate.home_of(process.command())
        try:
            if sock is None:
                raise qmp.NoAnswer("it takes no calls")
            guest.attach(await qmp.Session.open(sock, answer_s=self._settings.answer_s))
            await guest.learn_slots()
            guest.pins = {slot: process.affinity(t) for slot, t in guest.threads.items()}
        except (qmp.NoAnswer, qmp.Refused, OSError) as e:
            _log.warning("a guest does not answer", uuid=uuid, reason=str(e))
        self._keep(guest)
        return guest

    async def _describe(self, guest: Guest) -> ev.GuestFound:
        """The guest as it stands; a copy that is under way is followed."""
        status, copy, places = "running", "none", None
        try:
            status = translate.guest_status(await guest.run_state())
            copy = translate.copy_state((await guest.execute("query-migrate")).get("status", ""))
            migration = await copying.current(guest)
            places = await hotplug.places(guest)
            if status == "inmigrate":
                guest.copy = guest.begin(copying.await_incoming(guest, guest.home))
            elif copy in ("active", "paused") and migration:
                guest.migration = migration
                guest.copy = guest.begin(copying.follow(guest, migration))
        except (qmp.NoAnswer, qmp.Refused) as e:
            _log.warning("a guest does not answer", uuid=guest.uuid, reason=str(e))
            if guest.copy is None and guest.home not in ("", do.HOME):
                # It may be about to take its copy, and tell so when it answers again.
                guest.copy = guest.begin(copying.await_incoming(guest, guest.home))
        guest.look_for_agent()
        process = guest.process
        return ev.GuestFound(
            guest.uuid, process.pid, process.started, guest.home, status, copy, places
        )

    async def close(self) -> None:
        """Stop watching; all guests run on."""
        for guest in self._guests.values():
            await guest.drop()
            guest.held.release()
            guest.process.release()
        for outlasting in self._outlasting:
            outlasting.cancel()
        await asyncio.gather(*self._outlasting, return_exceptions=True)
        self._guests.clear()

    # -- looking -----------------------------------------------------------------------------

    async def capabilities(self) -> Hypervisor:
        """What this machine can run; see ``probe.capabilities``."""
        return await probe.capabilities(self._settings)

    def pin(self) -> None:
        """Bind the threads of all guests anew: the control domain's strands have changed."""
        for guest in self._guests.values():
            with suppress(OSError):  # the process has ended
                guest.pin()

    def usage(self, uuid: str) -> dict[int, float]:
        """CPU seconds that each virtual CPU has used so far; empty without a process.

        Those of a thread that serves several are shared out evenly: nothing tells whose they were.
        """
        guest = self._guests.get(uuid)
        if guest is None:
            return {}
        try:
            shares = Counter(guest.threads.values())
            used = {t: guest.process.cpu_seconds(t) / n for t, n in shares.items()}
        except OSError:
            return {}
        return {slot: used[thread] for slot, thread in guest.threads.items()}

    async def removal_blockers(
        self, uuid: str, vids: frozenset[int]
    ) -> tuple[tuple[int, str], ...] | None:
        """Why these virtual CPUs cannot be taken (R11): (slot, words); None: cannot be known."""
        guest = self._guests.get(uuid)
        return None if guest is None else await dr.removal_blockers(guest, vids)

    def variables(self, uuid: str) -> bytes:
        """The domain's UEFI variables, compressed; empty if it has none."""
        stores = self._settings.stores
        return firmware.packed(stores, uuid) if stores else b""

    def keep_variables(self, uuid: str, data: bytes) -> None:
        """Keep what ``variables`` gave on another machine, unless a process here has a store.

        Raises:
            InvalidValue: it is none.
        """
        if self._settings.stores and uuid not in self._guests:
            firmware.unpack(self._settings.stores, uuid, data)

    def console(self, uuid: str) -> Path:
        """The socket of the guest's serial console."""
        return self._run_dir / uuid / "console.sock"


async def _end(guest: Guest) -> None:
    """End the process: politely, so that image metadata is written, then by force."""
    with suppress(qmp.NoAnswer, qmp.Refused):
        await guest.execute("quit", deadline=_QUIT_S)
    if not await guest.process.wait_gone(_QUIT_S):
        guest.process.kill()
        await guest.process.wait_gone()


async def _state(guest: Guest) -> str:
    """The run state, empty if it does not say."""
    try:
        return await guest.run_state()
    except (qmp.NoAnswer, qmp.Refused):
        return ""
