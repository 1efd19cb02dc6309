"""Signed requests: what is signed, and the two headers that carry it.

The signature covers both instances, so a machine that was sent a request cannot play it to a third
one.  TLS keeps everybody else from seeing it at all.
"""

import base64
import binascii
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lodom.peer.identity import Identity

INSTANCE = "Lodom-Instance"
KEY = "Lodom-Key"
SIGNATURE = "Lodom-Signature"


def sign(identity: Identity, to: str, method: str, path: str, body: bytes) -> dict[str, str]:
    """The headers for a request of *identity* to instance *to*; *path* has its query."""
    signature = identity.key.sign(_text(identity.instance, to, method, path, body))
    return {
        INSTANCE: identity.instance,
        KEY: identity.public_key,
        SIGNATURE: base64.b64encode(signature).decode(),
    }


def verify(headers: Mapping[str, str], to: str, method: str, path: str, body: bytes) -> bool:
    """Whether the key in *headers* signed this request to instance *to*."""
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(headers.get(KEY, "")))
        signature = base64.b64decode(headers.get(SIGNATURE, ""))
        key.verify(signature, _text(headers.get(INSTANCE, ""), to, method, path, body))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def _text(sender: str, to: str, method: str, path: str, body: bytes) -> bytes:
    return "\n".join(("lodom-peer-1", sender, to, method, path, "")).encode() + body
