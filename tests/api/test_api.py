"""Commands over a real Unix socket, from real processes."""

import asyncio
import grp
import http.client
import json
import logging
import os
import pwd
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lodom.api import listener
from lodom.api.server import BODY_LIMIT, ApiServer
from lodom.core.errors import LodomError, MigrationRefused, StrandsExhausted

ME = pwd.getpwuid(os.geteuid()).pw_name


class Everybody:
    """Roles by user name; who runs the tests has all."""

    def __init__(self, **users):
        self.users = users
        self.seen = []

    def of(self, user, groups):
        self.seen.append((user, groups))
        return frozenset({"read", "write"} if user == ME else self.users.get(user, ()))


def role_of(verb):
    return "read" if verb.startswith("list") else "write"


class Commands:
    """The daemon's part: a few verbs."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.lost = asyncio.Event()
        self.go = asyncio.Event()
        self.given = []

    async def submit(self, user, verb, arguments):
        self.given.append((user, verb, arguments))
        if verb == "refuse":
            raise StrandsExhausted(wanted=4, free=2)
        if verb == "rules":
            finding = {"rule": "R01", "severity": "blocker", "text": "no"}
            raise MigrationRefused(name="ldg1", findings=(finding,))
        if verb == "crash":
            raise ZeroDivisionError("inner detail")
        if verb == "silent":
            return
        if verb == "odd":
            yield {"result": {"x": object()}}
            return
        yield {"progress": {"percent": 10}}
        self.begun.set()
        ended = False
        try:
            await self.go.wait()
            ended = True
        finally:
            if not ended:
                self.lost.set()
        if verb == "fail-late":
            raise StrandsExhausted(wanted=1, free=0)
        yield {"result": {"say": "done", "got": arguments}}


@asynccontextmanager
async def serving(tmp_path, roles=None, group="lodom"):
    commands = Commands()
    path = tmp_path / "ldmd.sock"
    api = ApiServer(path, roles or Everybody(), role_of, commands.submit, group)
    await api.start()
    try:
        async with asyncio.timeout(30):
            yield path, commands, api
    finally:
        await api.stop()


def ask(path, body):
    """(status, lines) of one command; blocking."""
    connection = http.client.HTTPConnection("localhost", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(20)
    connection.sock.connect(str(path))
    content = body if isinstance(body, bytes) else json.dumps(body)
    connection.request("POST", "/v1/commands", content)
    answer = connection.getresponse()
    lines = [json.loads(line) for line in answer.read().splitlines()]
    connection.close()
    return answer.status, lines


def one(tmp_path, body):
    """The answer to one command that ends at once."""

    async def run():
        async with serving(tmp_path) as (path, commands, _):
            commands.go.set()
            return await asyncio.to_thread(ask, path, body)

    return asyncio.run(run())


def test_progress_then_the_result(tmp_path):
    """Lines of JSON, in order; the daemon is told the user's name."""

    async def run():
        async with serving(tmp_path) as (path, commands, _):
            commands.go.set()
            answer = await asyncio.to_thread(ask, path, {"verb": "list", "arguments": {"a": 1}})
            return answer, commands.given

    (status, lines), given = asyncio.run(run())
    assert status == 200
    assert lines == [
        {"progress": {"percent": 10}},
        {"result": {"say": "done", "got": {"a": 1}}},
    ]
    assert given == [(ME, "list", {"a": 1})]


def test_progress_arrives_while_the_command_runs(tmp_path):
    """The first line is not held back for the last."""

    async def run():
        async with serving(tmp_path) as (path, commands, _):
            reader, writer = await asyncio.open_unix_connection(str(path))
            send(writer, "list")
            await reader.readuntil(b"\r\n\r\n")
            assert b'"percent":10' in await reader.readuntil(b"}}\n")
            commands.go.set()
            assert b'"say":"done"' in await reader.readuntil(b"}}\n")
            writer.close()

    asyncio.run(run())


def send(writer, verb, **arguments):
    body = json.dumps({"verb": verb, "arguments": arguments}).encode()
    head = f"POST /v1/commands HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


def test_arguments_that_no_command_line_makes_are_refused(tmp_path):
    """The core never hears of them: one name that was a number stopped every list there is."""
    status, lines = one(tmp_path, {"verb": "add-domain", "arguments": {"ldoms": [3]}})
    assert (status, lines[0]["error"]["code"]) == (400, "LDM-001")
    assert "ldoms '3'" in lines[0]["error"]["text"]


def test_an_error_at_once_has_its_http_status(tmp_path):
    """All that a program needs: code, kind, exit code, text, remedy."""
    status, lines = one(tmp_path, {"verb": "refuse"})
    error = StrandsExhausted(wanted=4, free=2)
    assert status == 507
    assert lines == [
        {
            "error": {
                "code": "LDM-020",
                "kind": "no-room",
                "exit": 5,
                "text": "Not enough free CPUs present: 4 wanted, 2 free",
                "remedy": error.remedy(),
            }
        }
    ]
    assert error.remedy()


def test_findings_are_part_of_the_error(tmp_path):
    """A refused migration carries what the rules found."""
    _, lines = one(tmp_path, {"verb": "rules"})
    assert lines[0]["error"]["findings"] == [{"rule": "R01", "severity": "blocker", "text": "no"}]


def test_an_error_after_progress_is_a_line(tmp_path):
    """The status is out by then."""
    status, lines = one(tmp_path, {"verb": "fail-late"})
    assert status == 200
    assert lines[-1]["error"]["code"] == "LDM-020"


@pytest.mark.parametrize("verb", ["crash", "silent", "odd"])
def test_a_bug_is_ldm_090_and_its_inside_stays_in_the_log(tmp_path, caplog, verb):
    """Also when the command ends without an answer, or answers what JSON cannot say."""
    status, lines = one(tmp_path, {"verb": verb})
    (line,) = lines
    assert (status, line["error"]["code"], line["error"]["exit"]) == (500, "LDM-090", 70)
    assert "inner detail" not in json.dumps(line)
    assert "Traceback" not in json.dumps(line)
    if verb == "crash":
        assert "inner detail" in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"verb": 1}',
        b'{"verb": "list", "arguments": []}',
        b"\xff",
        b"",
        b"[" * 50_000,
    ],
)
def test_malformed_requests_are_named(tmp_path, body):
    """400 and LDM-001."""
    status, lines = one(tmp_path, body)
    assert (status, lines[0]["error"]["code"]) == (400, "LDM-001")


def test_bodies_are_bounded(tmp_path):
    """One byte too many is refused."""
    status, lines = one(tmp_path, b" " * (BODY_LIMIT + 1))
    assert (status, lines[0]["error"]["kind"]) == (400, "invalid")


def test_a_client_that_goes_away_is_noticed(tmp_path):
    """A killed ldm: the command hears of it at once."""

    async def run():
        async with serving(tmp_path) as (path, commands, _):
            _, writer = await asyncio.open_unix_connection(str(path))
            send(writer, "migrate-domain", ldom="ldg1", host="b")
            await commands.begun.wait()
            assert not commands.lost.is_set()
            writer.transport.abort()
            await commands.lost.wait()

    asyncio.run(run())


def test_a_stopping_ldmd_takes_nobody_for_gone(tmp_path):
    """The client is told, the command is not: a migration goes on over a restart of ldmd."""

    async def run():
        async with serving(tmp_path) as (path, commands, api):
            order = {"verb": "migrate-domain", "arguments": {"ldom": "ldg1", "host": "b"}}
            waiting = asyncio.create_task(asyncio.to_thread(ask, path, order))
            await commands.begun.wait()
            await api.stop()
            _, lines = await waiting
            assert lines[-1]["error"]["code"] == "LDM-030"
            assert "ldmd is stopping" in lines[-1]["error"]["text"]
            assert not commands.lost.is_set()
            assert not path.exists()

    asyncio.run(run())


CLIENT = """
import http.client, os, socket, sys
uid, gid, path, verb = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
os.setgroups([]); os.setgid(gid); os.setuid(uid)
c = http.client.HTTPConnection("localhost")
c.sock = socket.socket(socket.AF_UNIX)
c.sock.connect(path)
c.request("POST", "/v1/commands", '{"verb": "%s", "arguments": {"ldoms": []}}' % verb)
print(c.getresponse().read().decode(), end="")
"""


@pytest.mark.live
@pytest.mark.parametrize(
    ("granted", "verb", "denied"),
    [
        ({"read"}, "list", False),
        ({"read"}, "add-domain", True),
        ({"read", "write"}, "add-domain", False),
        (set(), "list", True),
    ],
)
def test_roles_go_by_the_credentials_of_the_socket(granted, verb, denied):
    """Another user's process, let in by the socket's group, has that user's roles and no more."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    roles = Everybody(nobody=granted)
    nogroup = grp.getgrnam("nogroup").gr_gid

    async def run(folder):
        folder.chmod(0o755)
        async with serving(folder, roles, "nogroup") as (path, commands, _):
            commands.go.set()
            arguments = ("65534", str(nogroup), str(path), verb)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", CLIENT, *arguments, stdout=subprocess.PIPE
            )
            output, _ = await process.communicate()
            return json.loads(output.splitlines()[-1])

    with tempfile.TemporaryDirectory() as folder:
        last = asyncio.run(run(Path(folder)))
    assert roles.seen[0][0] == "nobody"
    assert "nogroup" in roles.seen[0][1]
    if denied:
        assert last["error"]["code"] == "LDM-050"
        assert (
            last["error"]["text"]
            == f"Authorization failed: user nobody lacks the {role_of(verb)} role"
        )
    else:
        assert last["result"]["say"] == "done"


def test_the_socket_is_for_root_when_there_is_no_group(tmp_path, caplog):
    """And the log says so."""
    caplog.set_level(logging.INFO)

    async def run():
        listening = listener._bind(tmp_path / "s", "no-such-group")
        try:
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
        finally:
            listening.close()

    asyncio.run(run())
    assert "for root only" in caplog.text


def test_the_group_may_connect(tmp_path):
    """0660, owned by the group."""
    group = grp.getgrgid(os.getegid())
    listening = listener._bind(tmp_path / "s", group.gr_name)
    status = (tmp_path / "s").stat()
    listening.close()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, group.gr_gid)


def test_a_second_ldmd_is_refused_and_a_dead_ones_socket_replaced(tmp_path):
    """Only a socket that nobody serves is taken over."""

    async def run():
        async with serving(tmp_path) as (path, _, _):
            with pytest.raises(OSError, match="another ldmd"):
                await ApiServer(path, Everybody(), role_of, Commands().submit).start()
            os.link(path, tmp_path / "left")
        os.rename(tmp_path / "left", path)
        async with serving(tmp_path) as (_, commands, _):
            commands.go.set()
            status, _ = await asyncio.to_thread(ask, path, {"verb": "list"})
            assert status == 200

    asyncio.run(run())


def test_every_error_of_the_catalogue_can_be_told():
    """The document needs nothing that a class might lack."""
    assert all(e.code and e.remedy() for e in LodomError.__subclasses__())
