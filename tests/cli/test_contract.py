"""The client of ``ldm`` and the server of ldmd understand each other, on a real socket."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from lodom.api.server import ApiServer
from lodom.client.http import Lost, Refused, call
from lodom.core.errors import MigrationRefused, StrandsExhausted
from lodom.core.rules.form import Finding, Severity
from lodom.grammar.table import role_of


class Everybody:
    """Anyone may read; nobody but those may write who are asked for ``write``."""

    def __init__(self, *roles: str) -> None:
        self._roles = frozenset(roles)

    def of(self, _user: str, _groups: frozenset[str]) -> frozenset[str]:
        return self._roles


async def submit(_user: str, verb: str, arguments: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    if verb == "add-vcpu":
        raise StrandsExhausted(wanted=arguments["number"], free=1)
    if verb == "migrate-domain":
        yield {"progress": {"phase": "copying"}}
        finding = Finding("R18", Severity.BLOCKER, "Unable", "", "target")
        raise MigrationRefused(name="ldg1", findings=(finding,))
    if verb == "bind-domain":
        await asyncio.Event().wait()
    yield {"progress": {"phase": "one"}}
    yield {"progress": {"phase": "two", "filler": "x" * 100_000}}
    yield {"result": {"verb": verb, **arguments}}


@pytest.fixture(params=[("read", "write")])
def server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ApiServer]:
    path = tmp_path / "api.sock"
    monkeypatch.setenv("LODOM_SOCKET", str(path))
    api = ApiServer(path, Everybody(*request.param), role_of, submit)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(api.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield api
    asyncio.run_coroutine_threadsafe(api.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.usefixtures("server")
def test_result_behind_progress() -> None:
    seen: list[str] = []
    result = call("list-domain", {"ldoms": []}, progress=lambda p: seen.append(p["phase"]))
    assert (result, seen) == ({"verb": "list-domain", "ldoms": []}, ["one", "two"])


@pytest.mark.usefixtures("server")
def test_error_at_once_and_behind_progress() -> None:
    with pytest.raises(Refused) as first:
        call("add-vcpu", {"number": 4, "ldom": "ldg1"})
    assert (first.value.error["code"], first.value.error["exit"]) == ("LDM-020", 5)
    with pytest.raises(Refused) as later:
        call("migrate-domain", {"ldom": "ldg1", "host": "b"})
    assert later.value.error["findings"][0]["severity"] == "blocker"
    assert later.value.error["text"] == "Domain Migration of LDom ldg1 failed"


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("server", [("read",)], indirect=True)
def test_reader_may_not_write() -> None:
    assert call("list-domain", {})["verb"] == "list-domain"
    with pytest.raises(Refused) as caught:
        call("add-vcpu", {"number": 4, "ldom": "ldg1"})
    assert (caught.value.error["code"], caught.value.error["exit"]) == ("LDM-050", 9)


@pytest.mark.usefixtures("server")
def test_silence_is_bounded_when_asked() -> None:
    with pytest.raises(Lost, match="timed out"):
        call("bind-domain", {"ldom": "ldg1"}, timeout_s=0.1)
