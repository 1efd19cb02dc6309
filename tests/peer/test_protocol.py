"""One ldmd to another, over real TLS on the loopback."""

import asyncio
import logging
import time
from contextlib import asynccontextmanager, suppress

import pytest
from peer_worlds import HOST, MIGRATION, identity, world

from lodom.core.errors import (
    PeerDenied,
    PeerForgot,
    PeerRefused,
    PeerTooOld,
    PeerUnreachable,
    PeerUntrusted,
)
from lodom.core.messages import Cede, Loaded, Prepared, Renew, Stands, Unknown
from lodom.peer import codec
from lodom.peer.client import PeerClient
from lodom.peer.trust import Trust, read_certificate


def test_hello_says_who_is_there(tmp_path):
    """The first request needs no login and agrees on a version."""

    async def run():
        async with world(tmp_path) as w:
            peer = await w.client.hello(*w.at)
            assert (peer.instance, peer.name, peer.version) == ("target-instance", "target", 1)

    asyncio.run(run())


@pytest.mark.parametrize("accepted", [True, False])
def test_a_machine_knows_itself_under_any_name(tmp_path, accepted):
    """By its certificate, else its addresses: no trust is asked for, and no request leaves."""

    async def run():
        async with world(tmp_path) as w:
            trust = Trust(tmp_path / "own-peers.json")
            if accepted:
                trust.accept(HOST, w.target_id.certificate, w.server.port)
            itself, other = PeerClient(w.target_id, trust), PeerClient(w.source_id, trust)
            assert await itself.is_itself(*w.at)
            assert not await other.is_itself(*w.at)
            for client in (itself, other):
                await client.close()
            await w.server.stop()
            if not accepted:
                assert await other.is_itself("localhost", w.server.port)
                with pytest.raises(PeerUnreachable):
                    await other.is_itself("no-such-machine.invalid", w.server.port)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("target", "source", "spoken"),
    [((1,), (1, 2), 1), ((1, 2), (1,), 1), ((1, 2), (2, 1), 2), ((2, 3), (1, 2), 2)],
)
def test_a_release_and_its_neighbour_find_the_newest_common_version(
    tmp_path, target, source, spoken
):
    """Skew of one release works in both directions."""

    async def run():
        async with world(tmp_path, versions=target) as w:
            client = PeerClient(w.source_id, w.trust, versions=source)
            try:
                assert (await client.hello(*w.at)).version == spoken
            finally:
                await client.close()

    asyncio.run(run())


@pytest.mark.parametrize(("target", "source"), [((2, 3), (1,)), ((1,), (2, 3))])
def test_two_releases_apart_are_told_so(tmp_path, target, source):
    """No common version: both sides' versions are in the error."""

    async def run():
        async with world(tmp_path, versions=target) as w:
            client = PeerClient(w.source_id, w.trust, versions=source)
            try:
                with pytest.raises(PeerTooOld) as caught:
                    await client.hello(*w.at)
                assert caught.value.theirs == ", ".join(map(str, target))
                assert caught.value.ours == ", ".join(map(str, source))
            finally:
                await client.close()

    asyncio.run(run())


def test_ask_needs_a_login(tmp_path):
    """Without a password before it, a question is denied and never reaches the daemon."""

    async def run():
        async with world(tmp_path) as w:
            with pytest.raises(PeerRefused, match="the login is over, or there was none"):
                await w.client.ask("check", {}, *w.at)
            assert w.hooks.asked == []
            await w.client.login("admin", "pass:wörd", *w.at)
            answer = await w.client.ask("check", {"n": [1, 2]}, *w.at)
            assert answer == {"kind": "check", "echo": {"n": [1, 2]}}
            ((sender, _, _),) = w.hooks.asked
            assert (sender.user, sender.instance) == ("admin", "source-instance")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("user", "password"), [("admin", "wrong"), ("nobody", "x"), ("viewer", "look"), ("admin", "")]
)
def test_wrong_users_are_denied(tmp_path, user, password):
    """Wrong password, unknown user, a user with the read role only, no password."""

    async def run():
        async with world(tmp_path) as w:
            with pytest.raises(PeerDenied):
                await w.client.login(user, password, *w.at)
            with pytest.raises(PeerRefused, match="the login is over, or there was none"):
                await w.client.ask("check", {}, *w.at)

    asyncio.run(run())


def test_a_trusted_certificate_replaces_the_password(tmp_path):
    """``-c``: the target has accepted the source's certificate, and its key signs the login."""

    async def run():
        target_trust = Trust(tmp_path / "accepted-by-target")
        async with world(tmp_path, trusts_key=target_trust.knows_key) as w:
            with pytest.raises(PeerRefused, match="certificates = true"):
                await w.client.login("", "", *w.at)
            target_trust.accept("source", w.source_id.certificate)
            await w.client.login("", "", *w.at)
            assert (await w.client.ask("check", {}, *w.at))["kind"] == "check"

    asyncio.run(run())


def test_a_known_machine_may_ask_for_epochs_and_be_examined_without_a_login(tmp_path):
    async def run():
        async with world(tmp_path, knows_key=lambda _: True) as w:
            for kind in ("epochs", "examine"):
                assert await w.client.ask(kind, {"u": 0}, *w.at) is not None
            sender, _, _ = w.hooks.asked[-1]
            assert (sender.key, sender.address) == (w.source_id.public_key, HOST)
            with pytest.raises(PeerRefused, match="login"):
                await w.client.ask("check", {}, *w.at)

    asyncio.run(run())


def test_any_machine_may_ask_for_epochs_and_for_nothing_else(tmp_path):
    """A source that came with a password was never accepted here; restored, it must be told."""

    async def run():
        async with world(tmp_path) as w:
            assert await w.client.ask("epochs", {"u": 0}, *w.at) is not None
            for kind in ("check", "examine", "reserve"):
                with pytest.raises(PeerRefused, match="login"):
                    await w.client.ask(kind, {}, *w.at)

    asyncio.run(run())


def test_a_login_ends(tmp_path):
    """After its time the key is worth nothing."""

    async def run():
        async with world(tmp_path, login_s=0.0) as w:
            await w.client.login("admin", "pass:wörd", *w.at)
            with pytest.raises(PeerRefused, match="the login is over, or there was none"):
                await w.client.ask("check", {}, *w.at)

    asyncio.run(run())


def test_errors_of_the_daemon_reach_the_peer_without_their_inside(tmp_path, caplog):
    """A LodomError keeps its sentence; a bug shows its class and keeps its text in the log."""

    async def run():
        async with world(tmp_path) as w:
            await w.client.login("admin", "pass:wörd", *w.at)
            with pytest.raises(PeerRefused, match="Invalid size '0': too small"):
                await w.client.ask("bad", {}, *w.at)
            with pytest.raises(PeerRefused) as caught:
                await w.client.ask("bug", {}, *w.at)
            assert "ZeroDivisionError" in str(caught.value)
            assert "secret detail" not in str(caught.value)

    asyncio.run(run())
    assert "secret detail" in caplog.text


def test_no_password_is_logged(tmp_path, caplog):
    """Neither side logs the password, at any level."""
    caplog.set_level(logging.DEBUG)

    async def run():
        async with world(tmp_path) as w:
            with pytest.raises(PeerDenied):
                await w.client.login("admin", "tell-no-one", *w.at)
            await w.client.login("admin", "pass:wörd", *w.at)

    asyncio.run(run())
    assert "login failed user='admin'" in caplog.text
    assert "tell-no-one" not in caplog.text
    assert "wörd" not in caplog.text


def test_messages_go_both_ways_and_survive_restarts_of_the_target(tmp_path):
    """The journal's key is enough after a restart; the mailbox begins anew and loses no letter."""

    async def run():
        async with world(tmp_path) as w:
            await w.client.login("admin", "pass:wörd", *w.at)
            await w.client.send(MIGRATION, Renew(), *w.at)
            sender, migration, message = await w.hooks.taken.get()
            assert (sender.key, migration, message) == (
                w.source_id.public_key,
                MIGRATION,
                Renew(),
            )
            letters = w.client.mailbox(MIGRATION, *w.at)
            w.server.post_to_mailbox(MIGRATION, codec.encode(Prepared(port=4444)))
            w.server.post_to_mailbox(MIGRATION, codec.encode(Stands()))
            assert await anext(letters) == Prepared(port=4444)
            assert await anext(letters) == Stands()

            await w.restart_target()
            await w.client.send(MIGRATION, Cede(epoch=7), *w.at)
            sender, _, message = await w.hooks.taken.get()
            assert (sender.user, message) == ("", Cede(epoch=7))
            w.server.post_to_mailbox(MIGRATION, codec.encode(Loaded()))
            assert await anext(letters) == Loaded()
            await letters.aclose()

    asyncio.run(run())


def test_a_waiting_mailbox_is_answered_at_once(tmp_path):
    """The long poll ends with the letter, not with the wait."""

    async def run():
        async with world(tmp_path) as w:
            await w.client.login("admin", "pass:wörd", *w.at)
            letters = w.client.mailbox(MIGRATION, *w.at)
            waiting = asyncio.ensure_future(anext(letters))
            await w.hooks.looked_up.wait()
            w.server.post_to_mailbox(MIGRATION, codec.encode(Stands()))
            async with asyncio.timeout(5):
                assert await waiting == Stands()
            await letters.aclose()

    asyncio.run(run())


def test_a_mailbox_is_read_on_when_the_list_of_peers_is_whole_again(tmp_path):
    """A reader that ended over it would leave the hand-over without its answer for ever."""

    async def run():
        async with world(tmp_path) as w:
            await w.client.login("admin", "pass:wörd", *w.at)
            peers = tmp_path / "source" / "peers.json"
            whole = peers.read_text()
            peers.write_text(whole[:-9])
            letters = w.client.mailbox(MIGRATION, *w.at)
            waiting = asyncio.ensure_future(anext(letters))
            await asyncio.sleep(0)
            peers.write_text(whole)
            w.server.post_to_mailbox(MIGRATION, codec.encode(Stands()))
            assert await waiting == Stands()
            await letters.aclose()

    asyncio.run(run())


def test_an_answer_does_not_wait_for_a_delayed_acknowledgement(tmp_path):
    """Without TCP_NODELAY every answer took 40 ms, three times in the guest's black-out."""

    async def run():
        async with world(tmp_path) as w:
            taken = []
            for _ in range(41):
                began = time.monotonic()
                await w.client.hello(*w.at)
                taken.append(time.monotonic() - began)
            assert sorted(taken)[20] < 0.03, taken

    asyncio.run(run())


def test_letters_are_kept_until_the_next_is_asked_for(tmp_path):
    """A source that dies over a letter gets it again."""

    async def run():
        async with world(tmp_path) as w:
            await w.client.login("admin", "pass:wörd", *w.at)
            for epoch in (1, 2):
                w.server.post_to_mailbox(MIGRATION, codec.encode(Cede(epoch=epoch)))
            letters = w.client.mailbox(MIGRATION, *w.at)
            assert await anext(letters) == Cede(epoch=1)
            await letters.aclose()
            again = w.client.mailbox(MIGRATION, *w.at)
            assert [await anext(again), await anext(again)] == [Cede(epoch=1), Cede(epoch=2)]
            await again.aclose()

    asyncio.run(run())


def test_accepting_a_new_certificate_does_not_end_a_reader(tmp_path):
    """The connection under a waiting mailbox goes away with the old trust; the reader does not."""

    async def run():
        async with world(tmp_path) as w:
            await w.client.login("admin", "pass:wörd", *w.at)
            w.hooks.looked_up.clear()
            letters = w.client.mailbox(MIGRATION, *w.at)
            waiting = asyncio.ensure_future(anext(letters))
            await w.hooks.looked_up.wait()
            w.trust.accept(HOST, identity(tmp_path, "other").certificate, w.server.port)
            with pytest.raises(PeerUntrusted):
                await w.client.hello(*w.at)
            w.trust.accept(HOST, w.target_id.certificate, w.server.port)
            w.server.post_to_mailbox(MIGRATION, codec.encode(Stands()))
            assert await waiting == Stands()
            await letters.aclose()

    asyncio.run(run())


def test_a_target_that_forgot_says_so(tmp_path):
    """Restarted without its journal, the target is neither a yes nor a no."""

    async def run():
        async with world(tmp_path) as w:
            await w.client.login("admin", "pass:wörd", *w.at)
            await w.client.send(MIGRATION, Renew(), *w.at)
            w.hooks.keys.clear()
            await w.restart_target()
            with pytest.raises(PeerForgot, match=MIGRATION):
                await w.client.send(MIGRATION, Renew(), *w.at)
            letters = w.client.mailbox(MIGRATION, *w.at)
            assert await anext(letters) == Unknown()
            await letters.aclose()

    asyncio.run(run())


def test_another_machine_cannot_speak_for_a_migration(tmp_path):
    """A login is not enough: the journal knows whose migration it is."""

    async def run():
        async with world(tmp_path) as w:
            await w.client.login("admin", "pass:wörd", *w.at)
            await w.client.send(MIGRATION, Renew(), *w.at)
            await w.hooks.taken.get()
            thief = PeerClient(identity(tmp_path, "thief"), w.trust, pauses=(0.01,))
            try:
                await thief.login("admin", "pass:wörd", *w.at)
                with pytest.raises(PeerRefused, match="belongs to another machine"):
                    await thief.send(MIGRATION, Cede(epoch=9), *w.at)
                assert w.hooks.taken.empty()
            finally:
                await thief.close()

    asyncio.run(run())


def test_a_changed_certificate_stops_everything_before_a_byte(tmp_path):
    """Somebody else at the target's address learns nothing, and the user is told it changed."""

    async def run():
        async with world(tmp_path) as w:
            other = identity(tmp_path, "impostor")
            w.trust.accept(HOST, other.certificate, w.server.port)
            with pytest.raises(PeerUntrusted, match="CHANGED") as caught:
                await w.client.login("admin", "pass:wörd", *w.at)
            assert caught.value.fingerprint == w.target_id.fingerprint
            # Accepted anew, the same client goes on.
            w.trust.accept(HOST, await read_certificate(*w.at), w.server.port)
            await w.client.login("admin", "pass:wörd", *w.at)
            # And back: the kept connection does not outlive the trust in it.
            w.trust.accept(HOST, other.certificate, w.server.port)
            with pytest.raises(PeerUntrusted):
                await w.client.ask("check", {}, *w.at)

    asyncio.run(run())


def test_a_host_that_was_never_accepted_is_not_connected_to(tmp_path):
    """First contact is a handshake without a request, and nothing else."""

    async def run():
        async with world(tmp_path) as w:
            w.trust.forget(*w.at)
            with pytest.raises(PeerUntrusted, match="not been accepted"):
                await w.client.hello(*w.at)
            assert await read_certificate(*w.at) == w.target_id.certificate

    asyncio.run(run())


def test_a_mailbox_reader_outlives_the_targets_absence(tmp_path):
    """It tries for ever, and gets what is posted once the target is back."""

    async def run():
        async with world(tmp_path) as w:
            await w.client.login("admin", "pass:wörd", *w.at)
            await w.client.send(MIGRATION, Renew(), *w.at)
            port = w.server.port
            await w.server.stop()
            letters = w.client.mailbox(MIGRATION, HOST, port)
            waiting = asyncio.ensure_future(anext(letters))
            with pytest.raises(PeerUnreachable, match="refused"):
                await w.client.send(MIGRATION, Renew(), HOST, port)
            await w.restart_target()
            w.server.post_to_mailbox(MIGRATION, codec.encode(Loaded()))
            assert await waiting == Loaded()
            await letters.aclose()

    asyncio.run(run())


def test_a_message_that_arrives_wakes_the_reader(tmp_path):
    """The peer is back: the reader's pause, a minute here, ends at once."""

    async def run():
        async with world(tmp_path) as w, asyncio.timeout(20):
            await w.client.login("admin", "pass:wörd", *w.at)
            await w.client.send(MIGRATION, Renew(), *w.at)
            port = w.server.port
            await w.server.stop()
            w.client._pauses = (60.0,)
            letters = w.client.mailbox(MIGRATION, HOST, port)
            waiting = asyncio.ensure_future(anext(letters))
            with pytest.raises(PeerUnreachable):
                await w.client.send(MIGRATION, Renew(), HOST, port)
            await w.restart_target()
            w.server.post_to_mailbox(MIGRATION, codec.encode(Loaded()))
            await w.client.send(MIGRATION, Renew(), *w.at)
            assert await waiting == Loaded()
            await letters.aclose()

    asyncio.run(run())


class Relay:
    """A way to a port.  When cut, its connections die without a word, and no new one is made."""

    def __init__(self, port):
        self._to = port
        self._alive = set()
        self.up = True

    def cut(self):
        self.up = False
        self._alive.clear()

    async def connected(self, reader, writer):
        if not self.up:
            writer.close()
            return
        onward, away = await asyncio.open_connection(HOST, self._to)
        self._alive.add(writer)
        with suppress(ConnectionError):
            await asyncio.gather(
                self._pass(reader, away, writer), self._pass(onward, writer, writer)
            )

    async def _pass(self, reader, to, connection):
        while data := await reader.read(4096):
            if connection in self._alive:
                to.write(data)


@asynccontextmanager
async def relayed(port):
    relay = Relay(port)
    server = await asyncio.start_server(relay.connected, HOST, 0)
    try:
        yield relay, server.sockets[0].getsockname()[1]
    finally:
        server.close()


def test_a_reader_does_not_hang_on_a_connection_that_died_silently(tmp_path):
    """A cut cable ends no connection; a message that cannot be sent makes the reader ask anew."""

    async def run():
        async with (
            world(tmp_path) as w,
            relayed(w.server.port) as (relay, port),
            asyncio.timeout(15),
        ):
            w.trust.accept(HOST, w.target_id.certificate, port)
            await w.client.login("admin", "pass:wörd", HOST, port)
            await w.client.send(MIGRATION, Renew(), HOST, port)
            w.hooks.looked_up.clear()
            letters = w.client.mailbox(MIGRATION, HOST, port)
            waiting = asyncio.ensure_future(anext(letters))
            await w.hooks.looked_up.wait()
            relay.cut()
            with pytest.raises(PeerUnreachable):
                await w.client.send(MIGRATION, Renew(), HOST, port)
            relay.up = True
            w.server.post_to_mailbox(MIGRATION, codec.encode(Stands()))
            assert await waiting == Stands()
            await letters.aclose()

    asyncio.run(run())
