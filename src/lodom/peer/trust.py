"""Which peers are believed: each by the one certificate that was accepted for it, as ssh does.

A pinned certificate is compared inside the TLS handshake: a request has no byte on the wire before
the peer has proved that it holds the key of exactly this certificate.  With an authority file
(``ca``) hosts without a pin are believed if the authority vouches for their *name*.
"""

import asyncio
import contextlib
import json
import os
import socket
import ssl
from pathlib import Path

from lodom.core.errors import (
    InvalidValue,
    LodomError,
    PeerUnreachable,
    PeerUntrusted,
    StepFailed,
)
from lodom.peer.identity import fingerprint, public_key_of, write_private

PORT = 6482
"""ldmd to ldmd.  Source: ldm-cli digest 4.2."""

CONNECT_S = 5.0


class WrongCertificate(ssl.SSLCertVerificationError):
    """The peer showed another certificate than the pinned one."""

    def __init__(self, certificate: bytes) -> None:
        super().__init__("not the accepted certificate")
        self.certificate = certificate


class Trust:
    """The accepted certificates, by host, in one file of mode 0600.

    The file is read at each use: it is small, and what an administrator changed holds at once.
    """

    def __init__(self, path: Path, ca: Path | None = None) -> None:
        self._path = path
        self._ca = ca

    def certificate(self, host: str, port: int = PORT) -> bytes | None:
        """The accepted certificate (DER) of the peer, or nothing."""
        return self._read().get(name_of(host, port))

    def peers(self) -> dict[str, str]:
        """Fingerprint by peer (``host``, or ``host:port`` off the usual port), sorted."""
        return {name: fingerprint(shown) for name, shown in sorted(self._read().items())}

    def accept(self, host: str, certificate: bytes, port: int = PORT) -> None:
        """Believe this certificate (DER), and no other, for the peer from now on.  Durable."""
        self._write({**self._read(), name_of(host, port): certificate})

    def forget(self, host: str, port: int = PORT) -> None:
        """Believe nothing of the peer any more."""
        self._write({n: c for n, c in self._read().items() if n != name_of(host, port)})

    def knows_key(self, public_key: str) -> bool:
        """Whether an accepted certificate has this key (``migrate-domain -c``: no password)."""
        return any(public_key_of(known) == public_key for known in self._read().values())

    def context(self, host: str, port: int = PORT) -> ssl.SSLContext:
        """TLS 1.3 that completes a handshake only with the peer.

        Raises:
            PeerUntrusted: nothing was accepted for the peer, and there is no authority.
        """
        pinned = self.certificate(host, port)
        if pinned is not None:
            return _pinned_context(pinned)
        if self._ca is None:
            raise PeerUntrusted(host=host, fingerprint="unknown", why="has not been accepted yet")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cafile=str(self._ca))
        return context

    def _read(self) -> dict[str, bytes]:
        """The accepted certificates (DER) by peer.

        Raises:
            StepFailed: the file cannot be used; somebody may have changed it by hand.
        """
        try:
            found = dict(json.loads(self._path.read_text()))
            return {name: ssl.PEM_cert_to_DER_cert(pem) for name, pem in found.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError) as fault:
            why = f"it is no list of accepted certificates: {fault}"
            raise StepFailed(what=f"Reading {self._path}", reason=why) from fault

    def _write(self, peers: dict[str, bytes]) -> None:
        pems = {name: ssl.DER_cert_to_PEM_cert(known) for name, known in peers.items()}
        write_private(self._path, json.dumps(pems, indent=1, sort_keys=True).encode())


def address(host: str, usual: int = PORT) -> tuple[str, int]:
    """(host, port) of ``host``, ``host#port`` or ``[v6]``; the colon is the target name's.

    Raises:
        InvalidValue: the port is none, or no host can have that name.
    """
    name, _, port = host.partition("#")
    try:
        name.encode("idna")  # as the look-up of the name will, which says no in no other way
    except UnicodeError as no:
        why = "between its dots a name has 1 to 63 characters"
        raise InvalidValue(what="target host", value=name, why=why) from no
    if port and not (port.isdecimal() and 0 < int(port) < 1 << 16):
        raise InvalidValue(what="target port", value=port, why="it is a number, 1 to 65535")
    return name.strip("[]"), int(port) if port else usual


async def read_certificate(host: str, port: int = PORT) -> bytes:
    """The certificate (DER) that the peer shows, by a TLS handshake without a request.

    Raises:
        PeerUnreachable: no TLS 1.3 server answers there in 5 s.
    """
    context = _open_context()
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(
                host, port, ssl=context, happy_eyeballs_delay=0.25
            )
    except (OSError, TimeoutError) as error:
        raise connection_error(host, error) from error
    try:
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert isinstance(certificate, bytes)
        return certificate
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await writer.wait_closed()


def connection_error(host: str, error: BaseException) -> LodomError:
    """The catalogue's error for a connection to *host* that failed with *error*."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, WrongCertificate):
            shown = fingerprint(cause.certificate)
            why = "has CHANGED since it was accepted"
            return PeerUntrusted(host=host, fingerprint=shown, why=why)
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = f"is not vouched for: {cause.verify_message}"
            return PeerUntrusted(host=host, fingerprint="unknown", why=why)
    return PeerUnreachable(host=host, reason=_reason(causes))


def _reason(causes: list[BaseException]) -> str:
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return f"no TLS 1.3 there: {cause.reason or cause}"
        if isinstance(cause, socket.gaierror):
            return cause.strerror or "name not known"
        if isinstance(cause, OSError) and not isinstance(cause, TimeoutError) and cause.errno:
            return os.strerror(cause.errno)  # asyncio puts words of its own into strerror
        if isinstance(cause, ConnectionError):
            return "the connection was closed in the TLS handshake"
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return f"no answer in {CONNECT_S:g} s"
    return str(causes[0]) or type(causes[0]).__name__


def _causes(error: BaseException | None) -> list[BaseException]:
    """The error and all that caused it, innermost first: libraries wrap what the system said."""
    if error is None:
        return []
    group = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    inner = [cause for member in group for cause in _causes(member)]
    return [*_causes(error.__cause__ or error.__context__), *inner, error]


def _open_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _pinned_context(pinned: bytes) -> ssl.SSLContext:
    """A context whose handshake fails unless the peer's certificate is *pinned*, byte for byte.

    OpenSSL's own chain check is off: it could only say "not trusted", never which certificate was
    shown.  That the peer holds the certificate's key is proved by the handshake in any case.
    """

    class Pinned(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            shown = self.getpeercert(binary_form=True) or b""
            if shown != pinned:
                raise WrongCertificate(shown)

    context = _open_context()
    context.sslobject_class = Pinned
    return context


def name_of(host: str, port: int) -> str:
    """The name of a peer in ``Trust.peers``."""
    host = host.lower().rstrip(".")
    if port == PORT:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_name(name: str) -> tuple[str, int]:
    """Host and port of a peer as ``name_of`` names it."""
    host, mark, port = name.rpartition(":")
    if not mark or (":" in host and not host.startswith("[")):
        return name, PORT
    return host.strip("[]"), int(port)
