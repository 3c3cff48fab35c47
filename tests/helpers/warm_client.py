"""Stands for ``python`` in a command: the process itself is forked elsewhere, and this one ends as it ends.

    python -IS warm_client.py SOCKET [-u] (-m MODULE | -c CODE | SCRIPT) [words]

Only the standard library, and little of it: it starts in a few hundredths of a second.
"""

import json
import os
import signal
import socket
import sys

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


def main() -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until there is a process to pass them to
    channel = socket.socket(socket.AF_UNIX)
    channel.connect(sys.argv[1])
    request = {"words": sys.argv[2:], "cwd": os.getcwd(), "environment": dict(os.environ)}
    text = json.dumps(request).encode("ascii")
    socket.send_fds(channel, [len(text).to_bytes(4, "big")], [0, 1, 2])
    channel.sendall(text)
    pid = int.from_bytes(channel.recv(4, socket.MSG_WAITALL), "big")
    for number in PASSED_ON:
        signal.signal(number, lambda number, frame: os.kill(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    said = channel.recv(4, socket.MSG_WAITALL)
    code = int.from_bytes(said, "big", signed=True) if said else 1
    if code < 0:
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    os._exit(main())
