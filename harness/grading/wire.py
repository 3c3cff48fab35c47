"""Messages between the harness and its grading processes: JSON behind a four-byte length, over a socket.

JSON and not pickle: what comes back from a process that has read hostile text is data and nothing else.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

_LENGTH = struct.Struct(">I")


def send(channel: socket.socket, message: Any) -> None:
    """Send one message; blocks until the kernel has taken it."""
    body = json.dumps(message).encode("ascii")
    channel.sendall(_LENGTH.pack(len(body)) + body)


def receive(channel: socket.socket) -> Any | None:
    """The next message, or None when the other side has gone."""
    head = _exactly(channel, _LENGTH.size)
    if head is None:
        return None
    body = _exactly(channel, _LENGTH.unpack(head)[0])
    return None if body is None else json.loads(body)


def _exactly(channel: socket.socket, size: int) -> bytes | None:
    parts = []
    while size:
        try:
            part = channel.recv(min(size, 1 << 16))
        except (ConnectionResetError, BrokenPipeError):
            return None
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
