"""The harness's side of the forker and its workers: start, end and bury them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.grading import wire

_ROOT = str(Path(__file__).resolve().parents[2])
_START = (
    f"import sys; sys.path.insert(0, {_ROOT!r}); from harness.grading.forker import main; main(sys.argv[1:])"
)
_MESSAGE_S = 5.0


def start(code: str, channel: socket.socket, *words: object) -> subprocess.Popen[bytes]:
    """A new interpreter with ``code``, which is given the socket's descriptor, our pid and ``words``."""
    return subprocess.Popen(
        [sys.executable, "-c", code, str(channel.fileno()), str(os.getpid()), *map(str, words)],
        pass_fds=[channel.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )


class Forker:
    """The process that forks workers (:mod:`harness.grading.forker`), seen from the harness.

    It is a new interpreter, so it inherits neither torch nor threads nor a CUDA context, and it sits in a
    session of its own, so that Ctrl-C reaches the harness alone. ``subprocess`` and not ``multiprocessing``:
    nothing of the program that grades is imported a second time.
    """

    def __init__(self, memory_mb: int, loads: str = "") -> None:
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(_MESSAGE_S)
        with theirs:
            self.process = start(_START, theirs, memory_mb, loads)

    def fileno(self) -> int:
        return self.channel.fileno()

    def fork(self, number: int) -> Worker:
        """Ask for a worker; its pid is told later by a message."""
        ours, theirs = socket.socketpair()
        ours.settimeout(_MESSAGE_S)
        with theirs:
            socket.send_fds(self.channel, [b"\0"], [theirs.fileno()])
            wire.send(self.channel, {"fork": number})
        return Worker(number, ours)

    def bury(self, pid: int) -> None:
        """Have a worker killed, where it still lives, and waited for."""
        self.channel.sendall(b"\0")
        wire.send(self.channel, {"bury": pid})

    def message(self) -> Any | None:
        """The forker's next message; None when it has ended."""
        return wire.receive(self.channel)

    def close(self) -> None:
        """End the forker, which kills its workers first; returns when it is gone."""
        self.channel.close()
        try:
            self.process.wait(timeout=_MESSAGE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class Worker:
    """One worker process: its socket, and what it is doing."""

    number: int
    channel: socket.socket
    pid: int | None = None
    job: Any = None
    deadline: float = float("inf")
    graded: int = 0
    doomed: bool = field(default=False)

    def fileno(self) -> int:
        return self.channel.fileno()
