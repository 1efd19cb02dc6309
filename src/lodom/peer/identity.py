"""Who a machine is to other machines: one Ed25519 key, and a certificate that it signed itself.

The same key signs requests (``peer.signature``) and serves TLS, so trusting a certificate is
trusting the machine, in both directions.
"""

import base64
import hashlib
import os
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

# No reading of the clock: a machine whose clock is wrong must not make a certificate that is not
# yet valid.  The end is RFC 5280's "no well-defined expiration date" (4.1.2.5).
_BEGIN = datetime(2000, 1, 1, tzinfo=UTC)
_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@dataclass(frozen=True)
class Identity:
    """This machine: instance id (32 hexadecimal digits), name, key and certificate."""

    instance: str
    name: str
    key: Ed25519PrivateKey = field(repr=False)
    certificate: bytes = field(repr=False)
    """DER, made with the key.  What is served may be another one, see ``served``."""
    served: tuple[Path, Path]
    """PEM files (certificate chain, key) that TLS is served with."""

    @property
    def public_key(self) -> str:
        """The public key as peers know it: base64 of its 32 bytes."""
        return _text(self.key.public_key())

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the machine's own certificate."""
        return fingerprint(self.certificate)

    def server_context(self) -> ssl.SSLContext:
        """TLS 1.3, serving ``served``; asks for no client certificate (requests are signed)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(*self.served)
        return context


def open_identity(
    state_dir: Path, instance: str, name: str, *, served: tuple[Path, Path] | None = None
) -> Identity:
    """The identity kept in *state_dir* as ``identity.key`` and ``identity.crt``; made if absent.

    Args:
        state_dir: exists, only root may enter.
        instance: the store's instance id.
        name: the machine's name, put into the certificate for people to read.
        served: (certificate chain, key) of an authority that peers trust, to be served instead.

    Raises:
        OSError: the directory cannot be written.
        ValueError: the key file is damaged.
    """
    key_path, certificate_path = state_dir / "identity.key", state_dir / "identity.crt"
    if not key_path.exists():
        made = Ed25519PrivateKey.generate()
        pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(key_path, pem)
    key = load_pem_private_key(key_path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{key_path}: not an Ed25519 key")
    if not certificate_path.exists():
        write_private(certificate_path, _sign(key, name).public_bytes(Encoding.PEM))
    certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    return Identity(
        instance=instance,
        name=name,
        key=key,
        certificate=certificate.public_bytes(Encoding.DER),
        served=served or (certificate_path, key_path),
    )


def fingerprint(certificate: bytes) -> str:
    """``SHA256:…`` of a DER certificate, in the form that ssh made familiar (base64, no ``=``)."""
    digest = hashlib.sha256(certificate).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def public_key_of(certificate: bytes) -> str | None:
    """The Ed25519 key in a DER certificate as ``Identity.public_key`` gives it; else None."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    return _text(key) if isinstance(key, Ed25519PublicKey) else None


def write_private(path: Path, content: bytes) -> None:
    """Replace *path* by *content*, mode 0600, whole or not at all, durable on return."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _text(key: Ed25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def _sign(key: Ed25519PrivateKey, name: str) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64] or "lodom")])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGIN)
        .not_valid_after(_END)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, None)
    )
