"""The job step of a run: its worker under srun, as one process or by torchrun's agent on every node."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from harness.sweep.resources import SlurmResources


def worker_command(
    resources: Mapping[str, Any], words: Sequence[str], *, log: str, folder: str = "", threads: int = 1,
    rendezvous: str = "", job: str = "",
) -> list[str]:  # fmt: skip
    """The srun command that starts the worker of a run: one process, or a launcher of several on each node.

    Args:
        resources: ``nodes, processes_per_node, cpus, container, python, srun`` of the array.
        words: arguments of ``entrobench``.
        folder: the run's, for what the launchers have to say.
        threads: CPU threads of a process.
        rendezvous: ``host:port`` where the launchers of several nodes meet.
        job: the job's id; keeps launchers of different jobs apart.
    """
    nodes, processes = int(resources["nodes"]), int(resources["processes_per_node"])
    command = [
        "srun", "--unbuffered", "--kill-on-bad-exit=1", f"--nodes={nodes}", "--ntasks-per-node=1",
        # what the set-up lines export has to arrive; the job's own environment is narrow already
        "--export=ALL", "--open-mode=append", f"--output={log}", f"--cpus-per-task={resources['cpus']}",
        *resources["srun"], *shlex.split(resources["container"]),
    ]  # fmt: skip
    python = [resources["python"] or ("python" if resources["container"] else sys.executable), "-u"]
    launched = ["-m", "entrobench", *words]
    if nodes * processes > 1:
        launched = [
            "-m", "harness.distributed.launch", f"--nodes={nodes}",
            f"--processes={processes}", f"--threads={threads}", f"--rendezvous={rendezvous}",
            f"--id={job}", folder, "--", *words,
        ]  # fmt: skip
    # The announcement of the wall limit reaches every process of the step; who does not listen must not die.
    return [*command, "sh", "-c", 'trap "" USR2; exec "$@"', "sh", *python, *launched]


def job_resources(resources: SlurmResources, threads: int) -> dict[str, Any]:
    """What a job has to know of its resources.

    Args:
        threads: CPU threads of a run on one node, for its cores where the sweep file does not say how many.
    """
    return {
        "nodes": resources.nodes, "processes_per_node": resources.processes_per_node,
        "cpus": resources.cpus or threads * resources.processes_per_node,
        "container": resources.container, "python": resources.python, "srun": list(resources.srun),
        "requeue": resources.requeue,
    }  # fmt: skip


def worker_environment(threads: int) -> dict[str, str]:
    """The environment of a worker: as many threads as the run has, and no more."""
    return os.environ | {k: str(threads) for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
