"""Starting a guest's process, stopped, and taking everything back if that fails."""

import asyncio
import os
import shutil
import socket
import zlib
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lodom.core.effects import LaunchGuest
from lodom.core.errors import LodomError, StepFailed
from lodom.core.model.guest import GuestNic, GuestSpec
from lodom.drivers.qemu import argv, copying, firmware, images, qmp
from lodom.drivers.qemu.guest import Guest, Post
from lodom.drivers.qemu.process import Process, spawn
from lodom.drivers.qemu.settings import Settings

_CONNECT_PAUSE_S = 0.02
_LAST_LINES = 3
_LAST_WORDS_S = 2.0

Backing = Callable[[int, int], tuple[str, int]]
OpenTap = Callable[[GuestNic, str], Awaitable[int]]
CloseTaps = Callable[[str], Awaitable[None]]


def user_for(uuid: str, users: range | None, taken: Collection[int]) -> int | None:
    """The user id for the guest: the same each time unless another guest has it.

    Raises:
        StepFailed: all are taken.
    """
    if users is None:
        return None
    start = zlib.crc32(uuid.encode()) % len(users)
    for i in range(len(users)):
        user = users[(start + i) % len(users)]
        if user not in taken:
            return user
    raise StepFailed(what="Choosing a user id for the guest", reason="all of the range are in use")


class Users:
    """The user ids that launches have chosen and that no process shows yet."""

    def __init__(self, users: range | None) -> None:
        self._users = users
        self._chosen: set[int] = set()

    @contextmanager
    def chosen(self, uuid: str, taken: Collection[int]) -> Iterator[int | None]:
        """As ``user_for``; until the body ends no other launch gets the same.

        Raises:
            StepFailed: all are taken.
        """
        user = user_for(uuid, self._users, {*taken, *self._chosen})
        if user is None:
            yield None
            return
        self._chosen.add(user)
        try:
            yield user
        finally:
            self._chosen.discard(user)


class Launcher:
    """Makes guests out of specifications."""

    def __init__(
        self,
        *,
        run_dir: Path,
        log_dir: Path,
        backing: Backing,
        open_tap: OpenTap,
        close_taps: CloseTaps,
        settings: Settings,
        post: Post,
    ) -> None:
        self._run_dir = run_dir
        self._log_dir = log_dir
        self._backing = backing
        self._open_tap = open_tap
        self._close_taps = close_taps
        self._settings = settings
        self._post = post
        self._users = Users(settings.users)
        self._version: tuple[int, int, int] | None = None

    async def launch(self, effect: LaunchGuest, taken: Collection[int]) -> tuple[Guest, int]:
        """The guest, stopped, and the port where it takes a copy (0 without one).

        Raises:
            LodomError: nothing is left of the attempt.
        """
        uuid = effect.spec.uuid
        folder = self._run_dir / uuid
        guest: Guest | None = None
        process: Process | None = None
        try:
            with self._users.chosen(uuid, taken) as user:
                process = await self._spawn(effect, folder, user)
                guest = Guest(uuid, folder, process, self._settings, self._post)
                await self._meet(guest, effect, user)
                port = await copying.listen(guest, effect.incoming) if effect.incoming else 0
        except (OSError, TimeoutError, qmp.NoAnswer, qmp.Refused, LodomError) as e:
            words = await self._failure(effect.spec.name, process, e)
            if guest is not None:
                await guest.drop()
            await self.remove(uuid)
            raise StepFailed(what="Starting the hypervisor", reason=words) from e
        return guest, port

    async def _failure(self, name: str, process: Process | None, error: Exception) -> str:
        """Why the launch failed, in QEMU's own words where it said some; its process is ended."""
        if process is None:
            return str(error)
        # A process that ends hangs up a moment before it is gone.
        died = await process.wait_gone(_LAST_WORDS_S if isinstance(error, qmp.NoAnswer) else 0)
        process.kill()
        await process.wait_gone()
        lines = [x for x in self._log(name).read_text(errors="replace").splitlines() if x]
        prefix = f"{Path(self._settings.emulator).name}: "
        said = "; ".join(line.removeprefix(prefix) for line in lines[-_LAST_LINES:])
        return said if died and said else str(error) or "it did not answer"

    async def _spawn(self, effect: LaunchGuest, folder: Path, user: int | None) -> Process:
        """The new process, with the descriptors it is to have."""
        spec = effect.spec
        keys = self._make_folder(folder, user)
        log, console = self._log(spec.name), self._log_dir / f"{spec.name}.console.log"
        log.write_bytes(b"")
        paths = argv.Paths(
            qmp=str(folder / "qmp.sock"),
            agent=str(folder / "agent.sock"),
            console=str(folder / "console.sock"),
            console_log=str(console),
        )
        found = [await asyncio.to_thread(images.inspect, disk) for disk in spec.disks]
        fds = [os.open(keys, os.O_RDONLY | os.O_DIRECTORY)]
        try:
            for nic in spec.nics:
                fds.append(await self._open_tap(nic, spec.uuid))
            launch = argv.Launch(
                home=effect.home,
                paths=paths,
                backing=[self._backing(b.pa, b.size) for b in sorted(spec.blocks)],
                images=found,
                taps=fds[1:],
                incoming=effect.incoming is not None,
                user=user,
                variables=self._variables(spec, folder),
                version=await self._emulator_version(),
            )
            command = argv.arguments(spec, launch, self._settings)
            return spawn(command, log=log, pass_fds=fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _variables(self, spec: GuestSpec, folder: Path) -> str:
        if spec.firmware != firmware.UEFI:
            return ""
        return str(firmware.store(self._settings.stores or folder, spec.uuid, firmware.TEMPLATE))

    def _make_folder(self, folder: Path, user: int | None) -> Path:
        """The guest's folder, fresh, and in it the one for keys, which its user may read."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        self._log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = folder / "keys"
        keys.mkdir(mode=0o700)
        if user is not None:
            os.chown(keys, user, user)
        return keys

    async def _emulator_version(self) -> tuple[int, int, int]:
        if self._version is None:
            self._version = await emulator_version(self._settings)
        return self._version

    async def _meet(self, guest: Guest, effect: LaunchGuest, user: int | None) -> None:
        """Have the first session, and see that the process is what was ordered."""
        async with asyncio.timeout(self._settings.launch_s):
            sock = await self._first_contact(guest)
            guest.attach(await qmp.Session.open(sock, answer_s=self._settings.launch_s))
            await guest.learn_slots()
        if user is not None and guest.process.user() != user:
            raise StepFailed(what="Giving up privileges", reason="the process runs as another user")
        guest.home = effect.home
        guest.pins = pins_of(effect.spec)
        guest.pin()

    async def _first_contact(self, guest: Guest) -> socket.socket:
        """A connection to the process, as soon as it listens; there is no event for that."""
        while True:
            try:
                return qmp.reach(guest.folder / "qmp.sock")[0]
            except OSError:
                if await guest.process.wait_gone(_CONNECT_PAUSE_S):
                    raise StepFailed(what="Starting", reason="the process ended") from None

    def _log(self, name: str) -> Path:
        return self._log_dir / f"{name}.qemu.log"

    async def remove(self, uuid: str) -> None:
        """Take back what was made for the guest, its process apart."""
        await self._close_taps(uuid)
        shutil.rmtree(self._run_dir / uuid, ignore_errors=True)


def pins_of(spec: GuestSpec) -> dict[int, tuple[int, ...]]:
    """The host CPUs of each slot; slots that the specification does not name share all of them."""
    named = dict(spec.strands)
    shared = tuple(sorted({cpu for cpus in named.values() for cpu in cpus}))
    slots: Sequence[int] = sorted({*range(spec.boot_vcpus), *spec.plugged})
    return {slot: named.get(slot) or shared for slot in slots}


async def emulator_version(settings: Settings) -> tuple[int, int, int]:
    """The version of the emulator, by ``--version``.

    Raises:
        StepFailed: it cannot be run or says something else.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            settings.emulator, "--version", stdout=asyncio.subprocess.PIPE
        )
        text = (await process.communicate())[0].decode()
        numbers = text.partition("version ")[2].split()[0].split(".")
        return int(numbers[0]), int(numbers[1]), int(numbers[2])
    except (OSError, IndexError, ValueError) as e:
        raise StepFailed(what=f"Running {settings.emulator}", reason=str(e)) from e
