"""What strangers and broken peers can do to the server: nothing."""

import asyncio
import json

import httpx
import msgspec
import pytest
from peer_worlds import HOST, MIGRATION, world

from lodom.peer import signature
from lodom.peer.listener import FIRST_REQUEST_S
from lodom.peer.server import LARGE, SMALL


async def post(w, path, content, *, signed=True, method="POST"):
    """One raw request, pinned like any other."""
    headers = signature.sign(w.source_id, "target-instance", method, path, content)
    async with httpx.AsyncClient(
        verify=w.trust.context(*w.at), trust_env=False, base_url=f"https://{HOST}:{w.server.port}"
    ) as http:
        return await http.request(method, path, content=content, headers=headers if signed else {})


def answer_to(tmp_path, *request, login=True, **options):
    async def run():
        async with world(tmp_path) as w:
            if login:
                await w.client.login("admin", "pass:wörd", *w.at)
            answer = await post(w, *request, **options)
            return answer.status_code, json.loads(answer.content or b"null")

    return asyncio.run(run())


MESSAGES = f"/peer/v1/migrations/{MIGRATION}/messages"


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/peer/v1/hello", b"{", "not JSON"),
        ("/peer/v1/hello", b"[1]", "a JSON object is wanted"),
        ("/peer/v1/hello", b'{"versions": "1"}', "versions"),
        ("/peer/v1/hello", b"\xff\xfe", "not JSON"),
        ("/peer/v1/hello", b"[" * 5_000, "not JSON"),
        ("/peer/v1/login", b'{"user": 7}', "user, password"),
        ("/peer/v1/ask", b"{}", "kind"),
        ("/peer/v1/ask", b'{"kind": "check", "body": 3}', "body"),
        (MESSAGES, b"{}", "unknown message type None"),
        (MESSAGES, b'{"message": 5}', "attribute"),
        (MESSAGES, b'{"message": {"type": "Cede", "epoch": "x"}}', "epoch"),
    ],
)
def test_malformed_bodies_are_400_and_say_why(tmp_path, path, body, words):
    """The JSON error names what is wrong."""
    status, error = answer_to(tmp_path, path, body)
    assert (status, error["kind"]) == (400, "malformed")
    assert words in error["text"]


def test_unknown_fields_are_tolerated(tmp_path):
    """A newer peer may say more than we know."""
    body = msgspec.json.encode({"versions": [1, 9], "shoe": 44})
    status, words = answer_to(tmp_path, "/peer/v1/hello", body)
    assert (status, words["version"]) == (200, 1)


@pytest.mark.parametrize(
    ("path", "size"), [("/peer/v1/hello", SMALL), ("/peer/v1/login", SMALL), (MESSAGES, LARGE)]
)
def test_bodies_are_bounded(tmp_path, path, size):
    """One byte too many is 413."""
    status, error = answer_to(tmp_path, path, b"x" * (size + 1))
    assert (status, error["kind"]) == (413, "too-large")


@pytest.mark.parametrize("path", ["/peer/v1/ask", MESSAGES, "/peer/v1/login"])
def test_unsigned_requests_are_refused(tmp_path, path):
    """Whoever does not sign is nobody, login or not."""
    status, error = answer_to(tmp_path, path, b"{}", signed=False)
    assert status in (401, 404)
    assert error["kind"] in ("login", "signature", "unknown-migration")


def test_a_known_key_without_its_signature_is_refused(tmp_path):
    """The key's name alone opens nothing: the signature is checked over the very body."""

    async def run():
        async with world(tmp_path) as w:
            await w.client.login("admin", "pass:wörd", *w.at)
            headers = signature.sign(
                w.source_id, "target-instance", "POST", "/peer/v1/ask", b'{"kind": "a"}'
            )
            async with httpx.AsyncClient(verify=w.trust.context(*w.at), trust_env=False) as http:
                url = f"https://{HOST}:{w.server.port}/peer/v1/ask"
                answer = await http.post(url, content=b'{"kind": "b"}', headers=headers)
            assert (answer.status_code, answer.json()["kind"]) == (401, "signature")
            assert w.hooks.asked == []

    asyncio.run(run())


def test_bad_numbers_in_a_poll_are_400(tmp_path):
    """And a wait that is negative, or no length, is none; "nan" would upset the loop's timers."""
    path = f"/peer/v1/migrations/{MIGRATION}/mailbox"
    status, _ = answer_to(tmp_path, f"{path}?after=x", b"", method="GET")
    assert status == 400
    for wait in ("-5", "nan"):
        status, body = answer_to(tmp_path, f"{path}?after=0&wait={wait}", b"", method="GET")
        assert (status, body["messages"]) == (200, []), wait


def test_stop_answers_who_waits(tmp_path):
    """A long poll does not hold up the end of ldmd."""

    async def run():
        async with world(tmp_path) as w:
            await w.client.login("admin", "pass:wörd", *w.at)
            path = f"/peer/v1/migrations/{MIGRATION}/mailbox?after=0&wait=50"
            w.hooks.looked_up.clear()
            waiting = asyncio.ensure_future(post(w, path, b"", method="GET"))
            await w.hooks.looked_up.wait()
            async with asyncio.timeout(5):
                await w.server.stop()
                assert (await waiting).json()["messages"] == []

    asyncio.run(run())


@pytest.mark.long
def test_a_silent_connection_is_dropped(tmp_path):
    """Whoever connects and says nothing does not keep the connection."""

    async def run():
        async with world(tmp_path) as w:
            reader, writer = await asyncio.open_connection(*w.at, ssl=w.trust.context(*w.at))
            writer.write(b"POST /peer/v1/hello HTTP/1.1\r\n")
            async with asyncio.timeout(FIRST_REQUEST_S + 5):
                assert await reader.read() == b""
            writer.close()

    asyncio.run(run())
