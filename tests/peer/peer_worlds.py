"""Two machines in one process: real identities, real TLS, loopback."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import argon2

from lodom.core.errors import InvalidValue
from lodom.peer.auth import READ, WRITE, Authenticator, Throttle, UsersFile
from lodom.peer.client import PeerClient
from lodom.peer.identity import Identity, open_identity
from lodom.peer.server import PeerServer
from lodom.peer.trust import Trust

HOST = "127.0.0.1"
MIGRATION = "5f" * 16
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
PAUSES = (0.02, 0.05)


@dataclass
class Recorder:
    """Hooks that remember: the daemon's part."""

    keys: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    taken: asyncio.Queue = field(default_factory=asyncio.Queue)
    looked_up: asyncio.Event = field(default_factory=asyncio.Event)

    def key_of_migration(self, migration):
        self.looked_up.set()
        return self.keys.get(migration)

    async def ask(self, sender, kind, body):
        self.asked.append((sender, kind, body))
        if kind == "bad":
            raise InvalidValue(what="size", value="0", why="too small")
        if kind == "bug":
            raise ZeroDivisionError("secret detail")
        return {"kind": kind, "echo": body}

    async def message(self, sender, migration, message):
        self.keys.setdefault(migration, sender.key)
        self.taken.put_nowait((sender, migration, message))


@dataclass
class World:
    """A target that serves and a source that asks; ``source_id`` is the source's identity."""

    tmp: object
    hooks: Recorder
    server: PeerServer
    client: PeerClient
    trust: Trust
    source_id: Identity
    target_id: Identity
    users: UsersFile

    @property
    def at(self):
        return (HOST, self.server.port)

    async def restart_target(self, **changes):
        """Stop the server and start one with nothing in memory, on the same port."""
        port = self.server.port
        await self.server.stop()
        self.server = target(self.target_id, self.users, self.hooks, port, **changes)
        await self.server.start()


def identity(tmp, name):
    home = tmp / name
    home.mkdir(mode=0o700, exist_ok=True)
    return open_identity(home, f"{name}-instance", name)


def target(target_id, users, hooks, port=0, host=HOST, **options):
    auth = Authenticator(users, Throttle(first=0.01, most=0.02))
    return PeerServer(target_id, (host, port), auth, hooks, release="0.1", **options)


@asynccontextmanager
async def world(tmp, **options):
    source_id, target_id = identity(tmp, "source"), identity(tmp, "target")
    users = UsersFile(tmp / "target" / "users", CHEAP)
    users.add("admin", "pass:wörd", frozenset((READ, WRITE)))
    users.add("viewer", "look", frozenset((READ,)))
    hooks = Recorder()
    server = target(target_id, users, hooks, **options)
    await server.start()
    trust = Trust(tmp / "source" / "peers.json")
    trust.accept(HOST, target_id.certificate, server.port)
    client = PeerClient(source_id, trust, pauses=PAUSES)
    made = World(tmp, hooks, server, client, trust, source_id, target_id, users)
    try:
        async with asyncio.timeout(60):
            yield made
    finally:
        await client.close()
        await made.server.stop()
