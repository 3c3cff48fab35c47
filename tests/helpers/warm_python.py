"""An executable that runs what ``python`` runs, in a process in which nothing is left to import.

A run's own process imports for five seconds of processor time. Where a test starts several of them, and what
it looks at is what they do with each other, they are forked from one that has imported it all. The command
ends as its process does, passes signals on to it, and when the command is killed, so is the process.
Two things differ: it has other modules loaded, and its parent is the process that forks; so how a process
starts cold, and that it notices when its parent is gone, is left to tests with the interpreter itself.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import shlex
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import util
from pathlib import Path
from typing import Any, NoReturn

from tests.helpers.processes import WARM

CLIENT = Path(__file__).with_name("warm_client.py")
_POLL_S = 0.01


@contextmanager
def warm_python() -> Iterator[str]:
    """The executable's path; it works until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="entrobench-warm-") as folder:
        path, command = Path(folder) / "socket", Path(folder) / "python"
        words = shlex.join([sys.executable, "-IS", str(CLIENT), str(path)])
        command.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        command.chmod(0o755)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen(64)
        server = WARM.Process(target=_serve, args=(listening,))
        server.start()
        listening.close()
        try:
            yield str(command)
        finally:
            server.terminate()
            server.join()


def _serve(listening: socket.socket) -> None:
    """Fork a process for each command, until told to stop or left alone."""
    parent, processes = os.getppid(), dict[int, socket.socket]()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        while os.getppid() == parent:
            ready = select.select([listening, *processes.values()], [], [], _POLL_S if processes else 1.0)[0]
            if listening in ready:
                channel = listening.accept()[0]
                processes[_fork(channel, listening)] = channel
            for pid, channel in list(processes.items()):
                if channel in ready:  # its command is gone
                    os.kill(pid, signal.SIGKILL)
                ended, status = os.waitpid(pid, 0 if channel in ready else os.WNOHANG)
                if ended:
                    _tell(processes.pop(pid), os.waitstatus_to_exitcode(status))
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGKILL)


def _tell(channel: socket.socket, code: int) -> None:
    with channel:
        try:
            channel.sendall(code.to_bytes(4, "big", signed=True))
        except (BrokenPipeError, ConnectionResetError):
            return  # the command was killed: nobody waits for the answer


def _fork(channel: socket.socket, listening: socket.socket) -> int:
    length, descriptors, _, _ = socket.recv_fds(channel, 4, 3)
    request = json.loads(channel.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL))
    pid = os.fork()
    if pid == 0:
        channel.close()
        listening.close()
        _become(request, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    channel.sendall(pid.to_bytes(4, "big"))
    return pid


def _become(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """The process that the command asks for; never returns."""
    code: Any = 1
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
            os.close(descriptor)
        sys.stdin, sys.stdout, sys.stderr = open(0, closefd=False), _writer(1), _writer(2)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        if "ENTROBENCH_PARENT" in os.environ:
            os.environ["ENTROBENCH_PARENT"] = str(os.getppid())
        util._finalizer_registry.clear()
        _run(request["words"])
        code = 0
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        _end(code)


def _writer(descriptor: int) -> Any:
    return open(descriptor, "w", buffering=1, closefd=False)


def _run(words: list[str]) -> None:
    """As the interpreter would: ``-m MODULE``, ``-c CODE`` or a script."""
    import runpy

    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    words = words[words[0] == "-u" :]
    kind, rest = words[0], words[1:]
    installed = [entry for entry in sys.path if Path(entry).is_relative_to(sys.base_prefix)]
    installed += [entry for entry in sys.path if Path(entry).is_relative_to(sys.prefix)]
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    first = {"-m": os.getcwd(), "-c": ""}.get(kind, str(Path(kind).resolve().parent))
    sys.path[:] = dict.fromkeys([first, *given, *installed])
    if kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        runpy.run_path(kind, run_name="__main__")


def _end(code: Any) -> NoReturn:
    """What an interpreter does at its end, without the modules of the one that was forked."""
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit((code or 0) & 0xFF)
