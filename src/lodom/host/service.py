"""A word to whoever started ldmd as a service (sd_notify(3))."""

import os
import socket
from contextlib import suppress


def tell(state: str) -> None:
    """Send ``READY=1`` or another word; nothing happens where nobody asked for it."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)
