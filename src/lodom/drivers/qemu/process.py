"""The hypervisor process: started on its own, watched and signalled through a pidfd."""

import asyncio
import ctypes
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lodom.core.errors import StepFailed

_PIDFD_GETFD = 438
_SO_PEERNAME = 28
"""Whom a socket calls, also before the call is taken (asm-generic/socket.h)."""

_libc = ctypes.CDLL(None, use_errno=True)


def start_time(pid: int) -> int:
    """Start time of *pid* in clock ticks since boot (field 22 of /proc/PID/stat).

    Raises:
        OSError: there is no such process.
    """
    return int(_stat(Path(f"/proc/{pid}/stat"))[19])


def _stat(path: Path) -> list[str]:
    """The fields from the third on: a process name may hold blanks and brackets."""
    return path.read_text().rpartition(")")[2].split()


class Process:
    """One process, named for ever by (pid, started); never signalled by its bare number."""

    def __init__(self, pid: int) -> None:
        """Watch *pid*.

        Raises:
            OSError: it is gone.
        """
        self.pid = pid
        self._fd = os.pidfd_open(pid)
        try:
            # Read behind the open: if the number had been used anew, the pidfd would still match.
            self.started = start_time(pid)
        except OSError:
            os.close(self._fd)
            raise
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._fd, self._ended)

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        with suppress(ChildProcessError):  # started by an earlier ldmd: init reaps it
            os.waitid(os.P_PIDFD, self._fd, os.WEXITED)
        os.close(self._fd)
        self._gone.set_result(None)

    @property
    def gone(self) -> bool:
        """The process is proved to be gone."""
        return self._gone.done() and not self._gone.cancelled()

    async def wait_gone(self, deadline: float | None = None) -> bool:
        """True when the process is gone, False when *deadline* seconds passed before."""
        await asyncio.wait({self._gone}, timeout=deadline)
        return self.gone

    def kill(self) -> None:
        """Send SIGKILL, if it still stands."""
        if not self._gone.done():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, signal.SIGKILL)

    def release(self) -> None:
        """Stop watching; the process lives on."""
        if not self._gone.done():
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._gone.cancel()

    def user(self) -> int:
        """The effective user id it runs as."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(x for x in status.splitlines() if x.startswith("Uid:"))
        return int(line.split()[2])

    def command(self) -> list[str]:
        """Its command line."""
        return Path(f"/proc/{self.pid}/cmdline").read_text().split("\0")

    def descriptor_of(self, path: Path) -> int | None:
        """The number of its descriptor that is open on *path*.

        By what it is and not by name: the kernel tells a name as seen from another root or mount
        namespace when ldmd was started anew in one.
        """
        wanted = path.stat()
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                if os.path.samestat(link.stat(), wanted):
                    return int(link.name)
        return None

    def shut_connections(self, port: int) -> None:
        """Shut its TCP connections to *port*, also those that are not made yet.

        Every thread that waits for one of them notices, whatever the process thinks of it.
        """
        for sock in self.connections():
            with suppress(OSError):  # it is connected to nothing, or not any more
                peer = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERNAME, 4)
                if struct.unpack_from("!H", peer, 2) == (port,):
                    sock.shutdown(socket.SHUT_RDWR)

    def connections(self) -> Iterator[socket.socket]:
        """Its TCP sockets, each as long as the caller looks at it."""
        numbers: list[str] = []
        with suppress(FileNotFoundError):  # the process is gone
            numbers = os.listdir(f"/proc/{self.pid}/fd")
        for number in numbers:
            try:
                if not os.readlink(f"/proc/{self.pid}/fd/{number}").startswith("socket:"):
                    continue
            except OSError:
                continue  # closed meanwhile
            copy = _libc.syscall(_PIDFD_GETFD, self._fd, int(number), 0)
            if copy < 0:
                continue  # closed meanwhile
            with socket.socket(fileno=copy) as sock:
                if sock.family in (socket.AF_INET, socket.AF_INET6):
                    yield sock

    def pin(self, threads: Mapping[int, Collection[int]], others: Collection[int]) -> None:
        """Bind each thread of *threads* (id to host CPUs) and all the rest to *others*.

        Threads born later inherit from the main thread, so they stay with *others* too.  An empty
        collection leaves a thread as it is.
        """
        for entry in Path(f"/proc/{self.pid}/task").iterdir():
            cpus = threads.get(int(entry.name), others)
            if cpus:
                with suppress(ProcessLookupError):  # a worker that has just ended
                    os.sched_setaffinity(int(entry.name), cpus)

    def affinity(self, thread: int) -> tuple[int, ...]:
        """The host CPUs that *thread* may use."""
        return tuple(sorted(os.sched_getaffinity(thread)))

    def state(self, thread: int) -> str:
        """What *thread* does: R runs or may, S sleeps, t is halted (proc(5), stat).

        Raises:
            OSError: it has ended.
        """
        return _stat(Path(f"/proc/{self.pid}/task/{thread}/stat"))[0]

    def cpu_seconds(self, thread: int) -> float:
        """CPU time that *thread* has used, user and system."""
        fields = _stat(Path(f"/proc/{self.pid}/task/{thread}/stat"))
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def holder_of(path: Path) -> int:
    """The process that was started to listen on the socket *path*, by its command line.

    Raises:
        StepFailed: there is none.
    """
    wanted = f"path={path},".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if wanted in (entry / "cmdline").read_bytes():
                return int(entry.name)
    raise StepFailed(what=f"Finding who listens on {path}", reason="it takes no calls")


def spawn(command: Sequence[str], *, log: Path, pass_fds: Sequence[int]) -> Process:
    """Start *command* in a session of its own, so that it outlives ldmd; its words go to *log*.

    Files and sockets it makes are for its creator alone (umask 077).

    Raises:
        OSError: it could not be started.
    """
    with log.open("ab") as out:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=pass_fds,
            start_new_session=True,
            umask=0o077,
        )
    process = Process(child.pid)
    # The pidfd reaps it; Popen must neither warn nor wait for the number later.
    child.returncode = 0
    return process
