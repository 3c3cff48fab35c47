"""Starting the processes that share a run, by torchrun's own agent, and one readable error when one dies.

On one node ``entrobench train train.processes=4`` comes here by itself. Over several nodes this is started on
each of them, by srun:

    python -m harness.distributed.launch --nodes 2 --processes 8 --rendezvous HOST:PORT --id JOB FOLDER \
        -- _worker FILE
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.distributed.world import post
from harness.util.errors import UserError
from harness.util.files import read_json, write_json
from harness.util.preemption import ALLOCATION_ENDS, Stopped

#: Exit codes of processes that were stopped in good order: to go on in another allocation; told to stop.
ANOTHER_ALLOCATION, TOLD_TO_STOP, INTERRUPTED = 75, 143, 130
#: Told to stop, processes may take as long as this to finish an update and save.
SAVING_S = 600
#: A node whose processes only lost the others leaves time to the node that knows why.
ECHO_S = 5.0


@dataclass(frozen=True)
class _Failure:
    """How a process ended: ``message`` is its own, or empty; ``echo``: it only lost the others."""

    rank: int
    pid: int
    exitcode: int
    message: str = ""
    traceback: str = ""
    unix_s: float = 0.0
    echo: bool = False
    user: bool = False


def launch(
    words: Sequence[str], *, processes: int, folder: Path | None, threads: int = 1, nodes: int = 1,
    rendezvous: str = "", job: str = "", module: str = "entrobench",
) -> int:  # fmt: skip
    """Start ``python -m module *words`` in ``processes`` processes on this node and wait for them.

    Args:
        folder: the run's; what stopped a process is written into its status.
        threads: CPU threads of each process.
        nodes: nodes on each of which this is called.
        rendezvous, job: ``host:port`` where the nodes meet, and a name that keeps jobs apart.

    Returns:
        0, or the exit code of the process that ended first: 1 failed, 2 wrong request, 128 + signal, or that
        of a process that was stopped in good order.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed.elastic", "torch.distributed.launcher"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they say of a failure is said below
    with _prepared(threads), tempfile.TemporaryDirectory(prefix="entrobench-launch-") as logs:
        config = LaunchConfig(
            min_nodes=nodes, max_nodes=nodes, nproc_per_node=processes, run_id=job or uuid.uuid4().hex,
            rdzv_backend="c10d", rdzv_endpoint=rendezvous or "localhost:0", max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)("-u", "-m", module, *words)
            return 0
        except SignalException as stop:
            return INTERRUPTED if stop.sigval == signal.SIGINT else TOLD_TO_STOP
        except ChildFailedError as error:
            failures = [_failure(rank, found) for rank, found in error.failures.items()]
        return _conclude(failures, processes * nodes, folder)


@contextmanager
def _prepared(threads: int) -> Iterator[None]:
    """The environment that the processes inherit; signals are the agent's until they have ended."""
    before, handlers = dict(os.environ), {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SAVING_S))
    os.environ |= {key: str(threads) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ["ENTROBENCH_PARENT"] = str(os.getpid())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _failure(rank: int, found: Any) -> _Failure:
    said = found.error_file_data.get("message")
    if not isinstance(said, Mapping) or "echo" not in said.get("extraInfo", {}):
        return _Failure(rank, found.pid, found.exitcode)
    more = said["extraInfo"]
    return _Failure(
        rank, found.pid, found.exitcode, str(said["message"]), str(more["py_callstack"]),
        float(more["unix_s"]), bool(more["echo"]), bool(more["user"]),
    )  # fmt: skip


def _conclude(failures: Sequence[_Failure], size: int, folder: Path | None) -> int:
    """Say which process was the first and why it ended; returns the exit code."""
    orderly = (ANOTHER_ALLOCATION, TOLD_TO_STOP, INTERRUPTED)
    root = root_cause(failures)
    if root.exitcode in orderly:
        return root.exitcode
    if root.echo:
        time.sleep(ECHO_S)
        print(f"entrobench: rank {root.rank} lost the others: {root.message}", file=sys.stderr, flush=True)
        return 1
    if root.user:
        print(f"entrobench: {' '.join(root.message.split())}", file=sys.stderr, flush=True)
        _note(folder, root.message, state="failed", exit=1)
        return 2
    if root.traceback:
        print(root.traceback, file=sys.stderr)
    line = f"rank {root.rank} of {size} {_how(root)}"
    print(f"entrobench: {line}; {_further(folder)}", file=sys.stderr, flush=True)
    if root.exitcode > 0:  # an error would most likely come again
        _note(folder, line, state="failed", exit=1)
        return root.exitcode
    _note(folder, line, exit=128 - root.exitcode)  # it may go on as it is
    return 128 - root.exitcode


def root_cause(failures: Sequence[_Failure]) -> _Failure:
    """The process that ended by itself, not because others had: with its own error, else in time."""
    own = [f for f in failures if f.message and not f.echo]
    if own:
        return min(own, key=lambda f: f.unix_s)
    silent = [f for f in failures if not f.message]  # in the order in which they were noticed
    # the others were sent SIGTERM, and SIGKILL when they did not hear it
    killed = [f for f in silent if f.exitcode not in (-signal.SIGTERM, TOLD_TO_STOP)]
    return [*killed, *silent, *failures][0]


def _how(root: _Failure) -> str:
    node = os.environ.get("SLURMD_NODENAME", socket.gethostname())
    if root.message:
        return f"on {node} failed: {root.message.splitlines()[0]}"
    if root.exitcode < 0:
        hint = ", often for want of memory" if root.exitcode == -signal.SIGKILL else ""
        name = signal.Signals(-root.exitcode).name
        return f"(process {root.pid} on {node}) was killed by {name}{hint}"
    return f"(process {root.pid} on {node}) ended with exit code {root.exitcode} and said nothing"


def _further(folder: Path | None) -> str:
    import re

    saved = [re.sub(r"\D", "", p.name) for p in folder.glob("checkpoints/step-*")] if folder else []
    where = f"from the checkpoint of step {max(map(int, saved))}" if saved else "from the beginning"
    return f"all processes were ended; the same command goes on {where}"


def _note(folder: Path | None, line: str, **values: Any) -> None:
    """Into the status of the run, or of the probe, over what the first process could only guess.

    Args:
        values: ``exit`` is what a job of several nodes goes by: srun reports the highest of all exit codes.
    """
    for path in [folder / name for name in ("status.json", "probe.json")] if folder else []:
        try:
            if path.exists():
                said = {"error": [line], "updated_unix_s": time.time(), **values}
                write_json(path, read_json(path) | said)
        except (OSError, ValueError) as error:
            print(f"{path} cannot be written: {error}", file=sys.stderr)


def code_of(stop: Stopped) -> int:
    """How a process ends whose run had to go."""
    return ANOTHER_ALLOCATION if str(stop) == ALLOCATION_ENDS else TOLD_TO_STOP


def in_child(work: Callable[[], int]) -> int:
    """Carry out ``work`` in one of several processes; what stops it is said by the launcher alone."""
    try:
        return work()
    except Stopped as stop:
        return code_of(stop)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as error:
        if not post(error):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2 if isinstance(error, UserError) else 1)  # threads may be waiting for the others


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.distributed.launch")
    for name in ("--nodes", "--processes", "--threads"):
        parser.add_argument(name, type=int, default=1)
    for name in ("--rendezvous", "--id"):
        parser.add_argument(name, default="")
    parser.add_argument("folder", type=Path)
    parser.add_argument("words", nargs=argparse.REMAINDER)
    given = parser.parse_args(argv)
    words = [word for i, word in enumerate(given.words) if i or word != "--"]
    return launch(
        words, processes=given.processes, folder=given.folder, threads=given.threads, nodes=given.nodes,
        rendezvous=given.rendezvous, job=given.id,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
