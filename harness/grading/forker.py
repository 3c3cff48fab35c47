"""A small process that has the computer algebra loaded and forks grading workers on request.

The harness may hold torch, a GPU or threads and must not fork itself; this process holds one thread and no
torch, is started afresh, and forks a worker in milliseconds where a new interpreter takes most of a second.
It runs as ``python -c … main(fd, parent)`` and speaks :mod:`harness.grading.wire` over one socket:

* ``{"fork": n}`` with a socket attached: start worker ``n`` on that socket; answers
  ``{"forked": n, "pid": pid}``
* ``{"bury": pid}``: kill this worker if it lives, and wait for it, so that no zombie stays

When its parent goes it kills its workers and ends.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence

from harness.grading import wire, worker
from harness.util.collector import collector_paused

_POLL_S = 1.0


def main(arguments: Sequence[str]) -> None:
    """Serve requests until the parent goes.

    Arguments: socket descriptor, parent's pid, memory in MiB, and what workers are for.
    """
    channel, parent, memory_mb = socket.socket(fileno=int(arguments[0])), int(arguments[1]), int(arguments[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with collector_paused():  # a fifth of the time that the imports take
            worker.load(*arguments[3:])
        gc.collect()
        gc.freeze()  # keeps the shared pages shared
    except Exception as error:
        wire.send(channel, {"failed": f"{type(error).__name__}: {error}"})
        return
    wire.send(channel, {"ready": os.getpid()})
    alive: set[int] = set()
    try:
        while os.getppid() == parent:
            if not select.select([channel], [], [], _POLL_S)[0]:
                continue
            if not _serve(channel, memory_mb, alive):
                break
    finally:
        for pid in alive:
            _bury(pid)


def _serve(channel: socket.socket, memory_mb: int, alive: set[int]) -> bool:
    """Carry out one request; False when the parent has gone."""
    try:
        mark, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    except ConnectionResetError:
        return False
    if not mark:
        return False
    message = wire.receive(channel)
    if message is None:
        return False
    if "bury" in message:
        pid = int(message["bury"])
        if pid in alive:
            alive.discard(pid)
            _bury(pid)
        return True
    pid = _fork(descriptors[0], channel, memory_mb)
    alive.add(pid)
    os.close(descriptors[0])
    wire.send(channel, {"forked": message["fork"], "pid": pid})
    return True


def _fork(descriptor: int, channel: socket.socket, memory_mb: int) -> int:
    forker = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        channel.close()
        worker.serve(socket.socket(fileno=descriptor), forker, memory_mb)
        code = 0
    except BaseException as error:
        print(f"grading worker: {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(code)


def _bury(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)  # it is ours and not waited for, so the number is still its own
    os.waitpid(pid, 0)
