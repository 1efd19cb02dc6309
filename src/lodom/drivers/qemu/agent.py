"""The guest agent: one question at a time over its socket, each with a deadline.

Source: QEMU guest agent protocol reference; "guest-sync-delimited" clears what an interrupted
question left behind.  What the guest says is not trusted: sizes are bounded, types are checked.
"""

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LIMIT = 16 << 20
_PAUSE_S = 0.02


class AgentSilent(Exception):
    """No guest agent answers."""


class AgentRefused(Exception):
    """The agent answered with an error; its own words."""


@dataclass(frozen=True)
class GuestCpu:
    """A CPU as the guest's system sees it; ``id`` is its logical number."""

    id: int
    online: bool
    can_offline: bool


class Agent:
    """The agent of one guest, by the socket that QEMU listens on for it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._syncs = 0

    async def ask(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, deadline: float = 10.0
    ) -> Any:
        """The agent's answer within *deadline* seconds, waiting for the turn included.

        Raises:
            AgentSilent: no answer.
            AgentRefused: an error, for instance a command that is blocked in the guest.
        """
        try:
            async with asyncio.timeout(deadline), self._turn:
                try:
                    answer = await self._exchange(command, arguments)
                except BaseException:
                    # A late answer must not be taken for the next question's.
                    self._hang_up()
                    raise
        except (OSError, TimeoutError, EOFError, ValueError, RecursionError) as e:
            raise AgentSilent("no guest agent answers") from e
        if "error" in answer:
            error = answer["error"]
            words = error.get("desc", "") if isinstance(error, dict) else ""
            raise AgentRefused(str(words)[:500])
        return answer.get("return")

    async def _exchange(self, command: str, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(self._path, limit=_LIMIT)
            await self._sync()
        return await self._talk({"execute": command, "arguments": dict(arguments or {})})

    async def _sync(self) -> None:
        assert self._streams is not None
        self._syncs += 1
        token = id(self) % 1_000_000_000 + self._syncs
        message = {"execute": "guest-sync-delimited", "arguments": {"id": token}}
        self._streams[1].write(b"\xff")
        answer = await self._talk(message, after=b"\xff")
        while answer.get("return") != token:
            answer = await self._read(b"\xff")

    async def _talk(self, message: Mapping[str, Any], *, after: bytes = b"") -> dict[str, Any]:
        assert self._streams is not None
        self._streams[1].write(json.dumps(message).encode() + b"\n")
        await self._streams[1].drain()
        return await self._read(after)

    async def _read(self, after: bytes) -> dict[str, Any]:
        """The next answer; with *after*, all up to that mark is dropped."""
        assert self._streams is not None
        if after:
            await self._streams[0].readuntil(after)
        answer = json.loads(await self._streams[0].readuntil(b"\n"))
        if not isinstance(answer, dict):
            raise ValueError("not an answer")
        return answer

    def _hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    def close(self) -> None:
        """Drop the connection."""
        self._hang_up()

    async def ping(self, *, deadline: float = 10.0) -> bool:
        """The agent answers."""
        try:
            await self.ask("guest-ping", deadline=deadline)
        except AgentSilent:
            return False
        except AgentRefused:
            return True
        return True

    async def cpus(self) -> tuple[GuestCpu, ...]:
        """The guest's CPUs by logical number.

        Raises:
            AgentSilent, AgentRefused: as ``ask``.
        """
        answer = await self.ask("guest-get-vcpus")
        try:
            found = [
                GuestCpu(int(c["logical-id"]), bool(c["online"]), bool(c.get("can-offline")))
                for c in answer
            ]
        except (TypeError, KeyError, ValueError, OverflowError) as e:
            raise AgentRefused("the agent's list of CPUs makes no sense") from e
        return tuple(sorted(found, key=lambda c: c.id))

    async def set_cpus(self, cpus: Mapping[int, bool], *, deadline: float = 30.0) -> int:
        """Bring CPUs on line (True) or off line; how many were done, in the order given.

        Raises:
            AgentSilent, AgentRefused: as ``ask``; refused means that the first was not done.
        """
        vcpus = [{"logical-id": cpu, "online": online} for cpu, online in cpus.items()]
        done = await self.ask("guest-set-vcpus", {"vcpus": vcpus}, deadline=deadline)
        return done if isinstance(done, int) else 0

    async def run(self, command: Sequence[str], *, deadline: float = 20.0) -> str:
        """What *command* prints in the guest.

        Raises:
            AgentSilent, AgentRefused: as ``ask``; also when exec is blocked or the command fails.
        """
        order = {"path": command[0], "arg": list(command[1:]), "capture-output": True}
        started = await self.ask("guest-exec", order)
        try:
            async with asyncio.timeout(deadline):
                while True:
                    state = await self.ask("guest-exec-status", {"pid": started["pid"]})
                    if state["exited"]:
                        break
                    # The agent has no event for the end of a command.
                    await asyncio.sleep(_PAUSE_S)
            if state.get("exitcode", 1) != 0 or state.get("out-truncated"):
                raise AgentRefused(f"{command[0]} failed in the guest")
            return base64.b64decode(state.get("out-data", "")).decode(errors="replace")
        except (TypeError, KeyError, ValueError) as e:
            raise AgentRefused("the agent's answer makes no sense") from e
        except TimeoutError as e:
            raise AgentSilent(f"{command[0]} did not end in the guest") from e

    async def panic(self) -> None:
        """Have the guest's kernel panic, as by its own SysRq; success has no answer.

        Raises:
            AgentSilent: the agent does not answer before.
            AgentRefused: it may not write files.
        """
        how = {"path": "/proc/sysrq-trigger", "mode": "w"}
        handle = await self.ask("guest-file-open", how)
        await self.ask("guest-file-write", {"handle": handle, "buf-b64": "Yw=="})  # the letter c
        with suppress(AgentSilent):  # the agent dies with its kernel
            await self.ask("guest-file-flush", {"handle": handle}, deadline=2.0)

    async def shut_down(self) -> None:
        """Ask the guest's system to power off; success has no answer, so a hang-up is none.

        Raises:
            AgentSilent: the agent does not answer before.
            AgentRefused: it said no.
        """
        await self.ask("guest-ping")
        with suppress(AgentSilent):  # the documented success: no answer
            await self.ask("guest-shutdown", {"mode": "powerdown"}, deadline=2.0)
