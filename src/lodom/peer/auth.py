"""Users of this machine, as another machine's ldmd or the local socket presents them.

Two back ends: a file of argon2 hashes, and PAM.  What a user may do is a set of roles: ``read`` and
``write``; ``write`` includes ``read``.  Source: ldm-cli digest 4.1; DESIGN, section 6.
"""

import asyncio
import contextlib
import grp
import logging
import os
import pwd
import stat
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import argon2
import pamela

from lodom.core.errors import InvalidValue, StepFailed
from lodom.peer.identity import write_private

READ, WRITE = "read", "write"
NOBODY: frozenset[str] = frozenset()
PAM_SERVICE = "lodom"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Roles:
    """Who has which role, from ``[auth]`` of machine.toml.  ``root`` has both."""

    read_users: frozenset[str] = NOBODY
    read_groups: frozenset[str] = NOBODY
    write_users: frozenset[str] = NOBODY
    write_groups: frozenset[str] = NOBODY

    def of(self, user: str, groups: frozenset[str] = NOBODY) -> frozenset[str]:
        """The roles of a user who is in *groups*."""
        if user == "root" or user in self.write_users or groups & self.write_groups:
            return frozenset((READ, WRITE))
        if user in self.read_users or groups & self.read_groups:
            return frozenset((READ,))
        return NOBODY


class Backend(Protocol):
    """Blocking; called off the loop."""

    def check(self, user: str, password: str) -> frozenset[str] | None:
        """The roles of the user, or None if user or password is wrong.

        Raises:
            StepFailed: the back end itself does not work.
        """
        ...


class UsersFile:
    """Lines ``name:argon2 hash:roles``, roles separated by commas; the file must be 0600."""

    def __init__(self, path: Path, hasher: argon2.PasswordHasher | None = None) -> None:
        self._path = path
        self._hasher = hasher or argon2.PasswordHasher()
        # Verified for users that do not exist, so that the time taken tells nothing.
        self._nobody = self._hasher.hash(os.urandom(16).hex())

    def check(self, user: str, password: str) -> frozenset[str] | None:
        """As ``Backend.check``."""
        known, roles = self._users().get(user, (None, ""))
        try:
            self._hasher.verify(known or self._nobody, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return None
        if known is None:
            return None
        given = frozenset(roles.split(","))
        return frozenset((READ, WRITE)) if WRITE in given else given & {READ}

    def add(self, user: str, password: str, roles: frozenset[str]) -> None:
        """Add the user, or give the user a new password and roles.

        Raises:
            InvalidValue: the name cannot stand in the file.
        """
        if not user or set(user) & set(":\n#"):
            raise InvalidValue(what="user name", value=user, why="empty, or has : or #")
        line = (self._hasher.hash(password), ",".join(sorted(roles)))
        users = {**self._users(), user: line}
        text = "".join(f"{name}:{hashed}:{given}\n" for name, (hashed, given) in users.items())
        write_private(self._path, text.encode())

    def _users(self) -> dict[str, tuple[str, str]]:
        try:
            with self._path.open() as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    reason = f"{self._path} is open to others; its mode must be 0600"
                    raise StepFailed(what="Authentication", reason=reason)
                lines = [line.split(":") for line in file.read().splitlines()]
        except FileNotFoundError:
            return {}
        return {line[0]: (line[1], line[2]) for line in lines if len(line) == 3}


class Pam:
    """The users of the machine's own system, by PAM service ``lodom``."""

    def __init__(self, roles: Roles, service: str = PAM_SERVICE) -> None:
        self._roles = roles
        self._service = service

    def check(self, user: str, password: str) -> frozenset[str] | None:
        """As ``Backend.check``."""
        try:
            pamela.authenticate(user, password, service=self._service)
        except pamela.PAMError as error:
            log.info("PAM service=%s user=%r: %s", self._service, user, error)
            return None
        return self._roles.of(user, groups_of(user))


def groups_of(user: str) -> frozenset[str]:
    """The names of the groups of a user of this system; none for an unknown user."""
    try:
        gids = os.getgrouplist(user, pwd.getpwnam(user).pw_gid)
    except KeyError:
        return NOBODY
    names = set()
    for gid in gids:
        with contextlib.suppress(KeyError):
            names.add(grp.getgrgid(gid).gr_name)
    return frozenset(names)


@dataclass
class _Failures:
    count: int = 0
    waiting: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Throttle:
    """Attempts of one (user, address) come one at a time, each later than the last.

    After *n* failures the next attempt is looked at only after ``first * 2**(n-1)`` seconds, at
    most *most*.  More than *queue* attempts at once are refused unseen.  Memory is bounded.
    """

    def __init__(
        self, first: float = 0.5, most: float = 20.0, queue: int = 3, size: int = 4096
    ) -> None:
        self._first, self._most, self._queue, self._size = first, most, queue, size
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()

    @contextlib.asynccontextmanager
    async def attempt(self, user: str, address: str) -> AsyncIterator[bool]:
        """Wait for the turn; yields whether the attempt may be looked at."""
        entry = self._failures.setdefault((user, address), _Failures())
        self._failures.move_to_end((user, address))
        while len(self._failures) > self._size:
            self._failures.popitem(last=False)
        if entry.waiting >= self._queue:
            yield False
            return
        entry.waiting += 1
        try:
            async with entry.turn:
                if entry.count:
                    await asyncio.sleep(min(self._first * 2 ** (entry.count - 1), self._most))
                yield True
        finally:
            entry.waiting -= 1

    def failed(self, user: str, address: str) -> int:
        """Note a failure; how many there were in a row."""
        entry = self._failures.setdefault((user, address), _Failures())
        entry.count = min(entry.count + 1, 64)
        return entry.count

    def succeeded(self, user: str, address: str) -> None:
        """Forget the failures."""
        self._failures.pop((user, address), None)


class Authenticator:
    """Users and passwords, checked off the loop; failures are slowed and logged."""

    def __init__(self, backend: Backend, throttle: Throttle | None = None) -> None:
        self._backend = backend
        self._throttle = throttle or Throttle()
        # argon2 takes 64 MiB and a core for each check.
        self._few = asyncio.Semaphore(2)

    async def login(self, user: str, password: str, address: str) -> frozenset[str] | None:
        """The roles of the user, or None: wrong user or password, or too many attempts at once.

        Raises:
            StepFailed: the back end itself does not work.
        """
        async with self._throttle.attempt(user, address) as allowed:
            if not allowed:
                log.warning(
                    "login refused unseen: too many attempts user=%r from=%s", user, address
                )
                return None
            async with self._few:
                roles = await asyncio.to_thread(self._backend.check, user, password)
            if roles is None:
                times = self._throttle.failed(user, address)
                log.warning("login failed user=%r from=%s failures=%d", user, address, times)
            else:
                self._throttle.succeeded(user, address)
            return roles
