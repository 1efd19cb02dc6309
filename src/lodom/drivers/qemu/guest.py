"""One guest that stands: its process, its QMP session and agent, and what watches them."""

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from lodom.core import events as ev
from lodom.core.fsm import Event
from lodom.drivers.qemu import qmp, translate
from lodom.drivers.qemu.agent import Agent, AgentSilent
from lodom.drivers.qemu.held import Held
from lodom.drivers.qemu.process import Process
from lodom.drivers.qemu.settings import Settings

_log = structlog.get_logger()
_RETRY_S = 1.0
_LEAVING_S = 0.2
"""A process that ends hangs up a moment before."""
_DEVICE = re.compile(r"((?:disk|nic)\d+)-(?:dev|scsi)$")

Post = Callable[[Event], None]


class Guest:
    """A guest of this machine.  Made by ``launch`` or ``find``; ``watch`` starts its tasks."""

    def __init__(
        self, uuid: str, folder: Path, process: Process, settings: Settings, post: Post
    ) -> None:
        self.uuid = uuid
        self.folder = folder
        self.process = process
        self.settings = settings
        self.post = post
        self.agent = Agent(folder / "agent.sock")
        self.home = ""
        self.pins: dict[int, tuple[int, ...]] = {}
        """Slot to host CPUs."""
        self.threads: dict[int, int] = {}
        """Slot to thread id."""
        self.copy: asyncio.Task[None] | None = None
        """Sends and follows, awaits or cancels the copy of ``migration``."""
        self.migration = ""
        self.held = Held()
        """Connections of the copy that it takes."""
        self.dr = asyncio.Lock()
        """One change of its virtual CPUs at a time."""
        self.answers: bool | None = None
        """What was last told of its agent; None: nothing since it was set running, or found."""
        self.leaving: dict[str, str] = {}
        """Place of each device that an order waits for to go, to the guest's refusal."""
        self.lost: Callable[[str], Coroutine[Any, Any, None]] | None = None
        """What to do when the device of a place has gone without such an order."""
        self._session: qmp.Session | None = None
        self._attached = asyncio.Event()
        """Set while there is a session, and for ever when there will be none."""
        self._pulse = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None

    # -- asking ------------------------------------------------------------------------------

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        deadline: float | None = None,
        oob: bool = False,
    ) -> Any:
        """As ``qmp.Session.execute``; a lost session may come back within the deadline."""
        limit = self.settings.answer_s if deadline is None else deadline
        session = await self._present(command, limit)
        return await session.execute(command, arguments, deadline=limit, oob=oob)

    async def hand(self, fd: int, command: str, arguments: Mapping[str, Any]) -> Any:
        """As ``qmp.Session.hand``."""
        session = await self._present(command, self.settings.answer_s)
        return await session.hand(fd, command, arguments)

    async def _present(self, command: str, limit: float) -> qmp.Session:
        try:
            async with asyncio.timeout(limit):
                await self._attached.wait()
        except TimeoutError:
            raise qmp.NoAnswer(f"{command}: the process does not answer") from None
        if self._session is None:
            raise qmp.NoAnswer(f"{command}: the process has ended")
        return self._session

    async def run_state(self) -> str:
        """QEMU's run state.

        Raises:
            qmp.NoAnswer: it does not say.
        """
        return str((await self.execute("query-status"))["status"])

    async def need_agent(self) -> None:
        """Nothing, if a program in the guest has the agent's port open.

        Raises:
            AgentSilent: none has, so that nobody waits for its answer.
            qmp.Refused, qmp.NoAnswer: as ``execute``.
        """
        ports = await self.execute("query-chardev")
        if not any(p["label"] == "agent" and p["frontend-open"] for p in ports):
            raise AgentSilent("no guest agent answers")

    async def stirred(self, limit: float) -> None:
        """Wait for the next QMP event, *limit* seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._pulse.wait()

    # -- threads -----------------------------------------------------------------------------

    async def learn_slots(self) -> None:
        """Read which slots are plugged and their threads.

        Raises:
            qmp.Refused, qmp.NoAnswer: as ``execute``.
        """
        answer = await self.execute("query-cpus-fast")
        self.threads = {int(c["props"]["core-id"]): int(c["thread-id"]) for c in answer}

    def pin(self) -> None:
        """Bind the threads of all slots by ``pins``, all other threads to the service CPUs."""
        threads: dict[int, set[int]] = defaultdict(set)  # one thread may serve many slots
        for slot in self.threads.keys() & self.pins.keys():
            threads[self.threads[slot]].update(self.pins[slot])
        self.process.pin(threads, self.settings.service_cpus())

    # -- sessions and watching ---------------------------------------------------------------

    def attach(self, session: qmp.Session) -> None:
        """Use *session* from now on."""
        self._session = session
        self._attached.set()

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run *work* until it ends or the guest is dropped; its failure is logged."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("guest task failed", uuid=self.uuid, exc_info=task.exception())

    def watch(self) -> None:
        """Turn its events into core's, for as long as it stands."""
        self.begin(self._listen())

    async def _listen(self) -> None:
        while not self.process.gone:
            if self._session is not None:
                async for message in self._session.events():
                    self._on_event(message)
                await self._hang_up()
            if not await self.process.wait_gone(_LEAVING_S):
                await self._reconnect()
        self._attached.set()

    async def _reconnect(self) -> None:
        """One try at a new session; what happened meanwhile is read off the run state."""
        try:
            sock, pid = qmp.reach(self.folder / "qmp.sock")
            if pid != self.process.pid:
                sock.close()
                raise OSError("another process listens there")
            self.attach(await qmp.Session.open(sock, answer_s=self.settings.answer_s))
            await self.learn_slots()
            state = await self.run_state()
        except (OSError, qmp.NoAnswer, qmp.Refused) as e:
            _log.warning("guest does not answer", uuid=self.uuid, reason=str(e))
            await self._hang_up()
            await self.process.wait_gone(_RETRY_S)
            return
        if state == "shutdown":
            self.post(ev.GuestPoweredOff(self.uuid))
        elif state == "guest-panicked":
            self.post(ev.GuestPanicked(self.uuid))
        self.look_for_agent()

    async def _hang_up(self) -> None:
        session, self._session = self._session, None
        self._attached.clear()
        if session is not None:
            await session.close()

    def _on_event(self, message: Mapping[str, Any]) -> None:
        event = translate.guest_event(self.uuid, message, now=int(time.time()))
        if event is not None:
            self.post(event)
        data = message.get("data", {})
        if message.get("event") == "VSERPORT_CHANGE" and data.get("id") == "agent-port":
            if data.get("open"):
                self.look_for_agent()
            elif self.answers:
                self._agent_changed(answers=False)
        self._note_device(str(message.get("event")), data)
        self._pulse.set()
        self._pulse = asyncio.Event()

    def _note_device(self, event: str, data: Mapping[str, Any]) -> None:
        """A disk or network device that the guest let go, or will not."""
        found = _DEVICE.match(str(data.get("device", "")))
        if found is None or event not in ("DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR"):
            return
        place = found[1]
        if event == "DEVICE_DELETED":
            if place not in self.leaving and self.lost is not None:
                self.begin(self.lost(place))
        elif place in self.leaving:
            self.leaving[place] = "its system refused"

    def look_for_agent(self) -> None:
        """Ask the agent for a sign of life in the background, until it answers or hangs up.

        One that was only slow, in a guest that stood still for a while, is met again so.
        """
        if self._looking is not None:
            self._looking.cancel()
        self._looking = self.begin(self._look())

    async def _look(self) -> None:
        while not await self.agent.ping(deadline=self.settings.agent_s):
            self._agent_changed(answers=False)
            if await self.process.wait_gone(_RETRY_S):
                return
            with suppress(qmp.NoAnswer):
                try:
                    await self.need_agent()
                except (AgentSilent, qmp.Refused):
                    return  # that a program opens the port is an event
        self._agent_changed(answers=True)

    def _agent_changed(self, *, answers: bool) -> None:
        if answers != self.answers:
            self.answers = answers
            self.post(ev.AgentChanged(self.uuid, answers))

    async def drop(self) -> None:
        """Stop all that watches it; the process stands on."""
        others = {t for t in self._tasks if t is not asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self.agent.close()
        await self._hang_up()
        self._attached.set()
