"""One process for all graders of a test process: it has the computer algebra loaded, and forks their forkers.

A forker of the harness is a new interpreter and takes two seconds to load. Here each is forked from one that
has loaded the same; from there on it is :mod:`harness.grading.forker` itself, a process for each grader, with
workers of its own. Tests of how a forker is started use the fixture ``forkers_of_their_own``.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import threading
import time
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

from harness.grading import children, forker, wire, worker

_ROOT = str(Path(__file__).resolve().parents[2])
_START = (
    f"import sys; sys.path.insert(0, {_ROOT!r}); from tests.helpers.forkers import main; main(sys.argv[1:])"
)
_POLL_S = 1.0
_WAIT_S = 60.0

new_interpreter = children.start


class Forked:
    """A forker that is another process's child, with what the harness asks of a ``Popen``."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def wait(self, timeout: float = _WAIT_S) -> None:
        end = time.monotonic() + timeout
        while self._lives():
            if time.monotonic() > end:
                raise TimeoutExpired("forker", timeout)
            time.sleep(0.002)

    def kill(self) -> None:
        if self._lives():
            os.kill(self.pid, signal.SIGKILL)

    def _lives(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


class Shared:
    """Stands for :func:`harness.grading.children.start` in the process that made it."""

    def __init__(self) -> None:
        self._lock, self._owner = threading.Lock(), os.getpid()
        self._channel: socket.socket | None = None

    def start(self, code: str, channel: socket.socket, memory_mb: int, loads: str = "") -> Any:
        # forked since: the process behind the socket belongs to another; and what loads little needs no help
        if os.getpid() != self._owner or loads:
            return new_interpreter(code, channel, memory_mb, loads)
        with self._lock:
            if self._channel is None:
                self._channel, theirs = socket.socketpair()
                self._channel.settimeout(_WAIT_S)
                with theirs:
                    self._process = new_interpreter(_START, theirs)
            socket.send_fds(self._channel, [b"\0"], [channel.fileno()])
            wire.send(self._channel, {"memory_mb": memory_mb})
            answer = wire.receive(self._channel)
        assert answer is not None, "the process that forks forkers has ended"
        return Forked(int(answer["pid"]))

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._process.wait(_WAIT_S)


def main(arguments: list[str]) -> None:
    """Fork forkers until the test process goes. Arguments: socket descriptor, its pid."""
    channel, parent = socket.socket(fileno=int(arguments[0])), int(arguments[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the forkers
    gc.disable()
    worker.load()
    gc.collect()
    gc.freeze()
    gc.enable()
    while os.getppid() == parent:
        if not select.select([channel], [], [], _POLL_S)[0]:
            continue
        mark, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
        request = wire.receive(channel) if mark else None
        if request is None:
            return
        pid = os.fork()
        if pid == 0:
            _forker(channel, descriptors[0], request["memory_mb"])
        os.close(descriptors[0])
        wire.send(channel, {"pid": pid})


def _forker(channel: socket.socket, descriptor: int, memory_mb: int) -> None:
    code, mother = 1, os.getppid()
    try:
        channel.close()
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        forker.main([str(descriptor), str(mother), str(memory_mb)])
        code = 0
    finally:
        os._exit(code)
