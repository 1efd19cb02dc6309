"""Who a machine is, and whom it believes."""

import asyncio
import shutil
import socket
import ssl
import stat
import subprocess

import pytest
from cryptography import x509
from peer_worlds import HOST, identity, world

from lodom.core.errors import InvalidValue, PeerUnreachable, PeerUntrusted, StepFailed
from lodom.peer import signature
from lodom.peer.client import PeerClient
from lodom.peer.identity import fingerprint, open_identity, public_key_of
from lodom.peer.server import PeerServer
from lodom.peer.trust import PORT, Trust, address, name_of, read_certificate, split_name


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_an_identity_is_made_once(tmp_path):
    """The second opening finds the first's key and certificate; only the owner may read them."""
    made = identity(tmp_path, "t1")
    again = identity(tmp_path, "t1")
    assert (made.public_key, made.certificate) == (again.public_key, again.certificate)
    assert mode(tmp_path / "t1" / "identity.key") == 0o600
    assert identity(tmp_path, "t2").public_key != made.public_key
    assert public_key_of(made.certificate) == made.public_key
    assert "key" not in repr(made).replace("identity.key", "")


def test_a_crash_between_key_and_certificate_is_mended(tmp_path):
    """The key stays; the certificate is made again."""
    made = identity(tmp_path, "t1")
    (tmp_path / "t1" / "identity.crt").unlink()
    assert identity(tmp_path, "t1").public_key == made.public_key


def test_the_certificate_names_the_machine_and_never_ends(tmp_path):
    """Valid whatever the clocks say."""
    certificate = x509.load_der_x509_certificate(identity(tmp_path, "t1").certificate)
    assert certificate.subject.rfc4514_string() == "CN=t1"
    assert certificate.not_valid_before_utc.year == 2000
    assert certificate.not_valid_after_utc.year == 9999


def test_the_fingerprint_is_the_one_that_openssl_computes(tmp_path):
    """SHA-256 over the DER certificate, in base64 as ssh writes it."""
    made = identity(tmp_path, "t1")
    command = ["openssl", "x509", "-in", str(tmp_path / "t1" / "identity.crt"), "-outform", "DER"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == made.certificate
    assert fingerprint(b"abc") == "SHA256:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0"


def test_a_signature_holds_for_one_request_of_one_machine_to_one_machine(tmp_path):
    """Any change to what is signed voids it."""
    made, other = identity(tmp_path, "a"), identity(tmp_path, "b")
    good = ("target", "POST", "/x?y=1", b"body")
    headers = signature.sign(made, *good)
    assert signature.verify(headers, *good)
    for place, bad in enumerate(("elsewhere", "GET", "/x?y=2", b"BODY")):
        assert not signature.verify(headers, *good[:place], bad, *good[place + 1 :])
    for name, value in {
        signature.INSTANCE: "b-instance",
        signature.KEY: other.public_key,
        signature.SIGNATURE: "not base64!",
    }.items():
        assert not signature.verify({**headers, name: value}, *good)
    assert not signature.verify({}, *good)


def test_trust_is_kept_by_host_and_port(tmp_path):
    """Names are compared without case; a machine on another port is another machine."""
    one, two = identity(tmp_path, "one"), identity(tmp_path, "two")
    trust = Trust(tmp_path / "peers")
    trust.accept("Host.Example.", one.certificate)
    trust.accept("host.example", two.certificate, 7000)
    trust.accept("::1", two.certificate, 7000)
    assert mode(tmp_path / "peers") == 0o600
    assert Trust(tmp_path / "peers").peers() == {
        "[::1]:7000": two.fingerprint,
        "host.example": one.fingerprint,
        "host.example:7000": two.fingerprint,
    }
    assert trust.certificate("host.example", PORT) == one.certificate
    assert trust.knows_key(two.public_key)
    trust.forget("host.example", 7000)
    trust.forget("::1", 7000)
    assert not trust.knows_key(two.public_key)
    assert trust.certificate("host.example", 7000) is None


@pytest.mark.parametrize("text", ["{", "[]x", "[1]", '{"host": 1}', '{"host": "no PEM"}', "\x80"])
def test_a_list_of_peers_that_somebody_has_spoilt_is_named(tmp_path, text):
    """It is read at each use because people change it; nothing of it is lost by the next write."""
    path = tmp_path / "peers"
    path.write_text(text, "latin-1")
    trust = Trust(path)
    for use in (trust.peers, lambda: trust.certificate(HOST), lambda: trust.accept(HOST, b"")):
        with pytest.raises(StepFailed, match=f"Reading {path} failed: it is no list of"):
            use()
    assert path.read_text("latin-1") == text


def test_tls_below_1_3_is_refused(tmp_path):
    """A client that can do no better than TLS 1.2 gets no connection."""

    async def run():
        async with world(tmp_path) as w:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            _, writer = await asyncio.open_connection(*w.at, ssl=context)
            writer.close()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises(OSError):  # the server resets; no TLS alert reaches us in time
                await asyncio.open_connection(*w.at, ssl=context)

    asyncio.run(run())


def test_the_wrong_peer_gets_no_byte_of_a_request(tmp_path):
    """Measured at the impostor: its TLS never hands out a byte."""

    def serve(listening, context):
        connection, _ = listening.accept()
        try:
            with context.wrap_socket(connection, server_side=True) as tls:
                return tls.recv(1)
        except OSError:
            return b""

    async def run():
        impostor, expected = identity(tmp_path, "impostor"), identity(tmp_path, "expected")
        listening = socket.create_server((HOST, 0))
        port = listening.getsockname()[1]
        trust = Trust(tmp_path / "peers")
        trust.accept(HOST, expected.certificate, port)
        client = PeerClient(expected, trust)
        received = asyncio.create_task(
            asyncio.to_thread(serve, listening, impostor.server_context())
        )
        with pytest.raises(PeerUntrusted, match="CHANGED"):
            await client.hello(HOST, port)
        assert await received == b""
        await client.close()
        listening.close()

    asyncio.run(run())


def test_an_ipv6_address_is_as_good(tmp_path):
    """Handshake, trust and requests, all over ::1."""

    async def run():
        async with world(tmp_path, host="::1") as w:
            w.trust.accept("::1", await read_certificate("::1", w.server.port), w.server.port)
            assert (await w.client.hello("::1", w.server.port)).name == "target"

    asyncio.run(run())


def test_a_name_is_as_good_as_an_address(tmp_path):
    """localhost may mean ::1 first; the address that answers is taken."""

    async def run():
        async with world(tmp_path) as w:
            found = await read_certificate("localhost", w.server.port)
            w.trust.accept("localhost", found, w.server.port)
            assert (await w.client.hello("localhost", w.server.port)).name == "target"

    asyncio.run(run())


def test_reasons_are_told_apart(tmp_path):
    """Nobody listens; no such name; something that speaks no TLS; silence."""

    async def reason(host, port):
        with pytest.raises(PeerUnreachable) as caught:
            await read_certificate(host, port)
        return caught.value.reason

    async def run():
        with socket.create_server((HOST, 0)) as unused:
            dead = unused.getsockname()[1]
        assert "refused" in await reason(HOST, dead)
        assert "ame" in await reason("no-such-host.invalid", dead)

        async def chat(reader, writer):
            writer.write(b"220 not TLS\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(chat, HOST, 0)
        assert "no TLS" in await reason(HOST, server.sockets[0].getsockname()[1])
        server.close()

    asyncio.run(run())


def test_silence_ends_in_5_seconds(tmp_path):
    """A listener that never answers the handshake: both first contact and requests give up."""

    async def run():
        with socket.create_server((HOST, 0)) as silent:
            port = silent.getsockname()[1]
            made = identity(tmp_path, "a")
            trust = Trust(tmp_path / "peers")
            trust.accept(HOST, made.certificate, port)
            client = PeerClient(made, trust)
            results = await asyncio.wait_for(
                asyncio.gather(
                    read_certificate(HOST, port), client.hello(HOST, port), return_exceptions=True
                ),
                8,
            )
            for result in results:
                assert isinstance(result, PeerUnreachable), result
                assert "in 5 s" in result.reason
            await client.close()

    asyncio.run(run())


@pytest.mark.parametrize("name", ["localhost", "elsewhere"])
def test_an_authority_vouches_for_names(tmp_path, name):
    """With ``ca`` a host needs no acceptance, if its certificate is for its name."""
    ca, leaf = tmp_path / "ca", tmp_path / "leaf"
    run_openssl = shutil.which("openssl")
    assert run_openssl
    new = ["req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "30"]
    for arguments in (
        [*new, "-subj", "/CN=ca", "-keyout", f"{ca}.key", "-out", f"{ca}.crt"],
        [
            *(*new, "-subj", f"/CN={name}", "-keyout", f"{leaf}.key", "-out", f"{leaf}.crt"),
            *("-CA", f"{ca}.crt", "-CAkey", f"{ca}.key"),
            *("-addext", f"subjectAltName=DNS:{name}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        ],
    ):
        subprocess.run([run_openssl, *arguments], check=True, capture_output=True)

    async def run():
        async with world(tmp_path) as w:
            served = (leaf.with_suffix(".crt"), leaf.with_suffix(".key"))
            home = tmp_path / "target"
            by_ca = open_identity(home, "target-instance", "target", served=served)
            server = PeerServer(by_ca, (HOST, 0), w.server._auth, w.hooks)
            await server.start()
            client = PeerClient(w.source_id, Trust(tmp_path / "none", ca.with_suffix(".crt")))
            try:
                if name == "localhost":
                    assert (await client.hello(name, server.port)).name == "target"
                else:
                    with pytest.raises(PeerUntrusted, match=r"not vouched for: .*localhost"):
                        await client.hello("localhost", server.port)
            finally:
                await client.close()
                await server.stop()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("host", "port"), [("b", PORT), ("b", 7000), ("fd00::b", PORT), ("fd00::b", 7000)]
)
def test_a_peer_is_asked_where_it_was_accepted(host, port):
    """One with IPv6 and a port of its own was asked nowhere, and its word on epochs missed."""
    assert split_name(name_of(host, port)) == (host, port)


@pytest.mark.parametrize("host", ["beta..example", ".beta", "b" * 64])
def test_a_name_that_no_host_can_have_is_refused(host):
    """A slip of the finger is no error of ours: looking it up would be a UnicodeError."""
    with pytest.raises(InvalidValue, match="1 to 63"):
        address(host)


def test_names_and_addresses_of_hosts():
    assert address("beta.example.") == ("beta.example.", PORT)
    assert address("[fe80::1%eth0]#7000") == ("fe80::1%eth0", 7000)
