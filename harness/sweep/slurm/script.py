"""Resources -> the sbatch script of an array, and its submission: by submitit, without its pickles.

submitit builds the script, checks the parameters, calls sbatch and reads the answer. What it would put into
pickle files stands in the array's JSON file instead, because a run is resumed by its own identity and not by
submitit's state, and because nothing that somebody else could have written may be unpickled.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmExecutor

from harness.sweep.resources import SlurmResources
from harness.util.environment import ROOT
from harness.util.errors import UserError
from harness.util.offline import offline_environment

#: What jobs get of the submitter's environment. Not all of it: tokens and passwords stand there too.
EXPORTED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH",
    "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX", "CUDA_HOME", "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE",
    "XDG_CACHE_HOME", "MODULEPATH", "LOADEDMODULES", "_LMFILES_", "SLURM_CONF", "ENTROBENCH_DATA",
)  # fmt: skip


class _Executor(SlurmExecutor):
    """submitit's Slurm executor, used for its script and its submission."""

    @classmethod
    def affinity(cls) -> int:
        return 2  # a script can be shown where Slurm is not installed

    def script(self, command: str) -> str:
        return str(self._make_submission_file_text(command, ""))

    def submit_command(self, command: str) -> str:
        """Queue the script; returns the job's id."""
        return str(self._submit_command(command).job_id)


def executor(
    resources: SlurmResources, logs: Path, name: str, *, count: int | None, threads: int, after: str = ""
) -> _Executor:
    """
    Args:
        count: jobs of the array; None for a job that is no array.
        threads: CPU threads of a run, for its cores where the sweep file does not say how many.
        after: id of a job that has to end well first, or this one is cancelled.
    """
    built = _Executor(folder=logs)
    built.update_parameters(**parameters(resources, logs, name, threads=threads, after=after))
    if count is not None:
        built.parameters |= {"map_count": count, "array_parallelism": min(resources.limit or count, count)}
    else:
        built.parameters["additional_parameters"]["output"] = str(logs / "slurm-%j.out")
    return built


def parameters(
    resources: SlurmResources, logs: Path, name: str, *, threads: int = 1, after: str = ""
) -> dict[str, Any]:
    """submitit's names for what the sweep file asks for."""
    further: dict[str, Any] = {
        "output": str(logs / "slurm-%A_%a.out"), "export": ",".join((*EXPORTED, *resources.export)),
        "requeue" if resources.requeue else "no-requeue": True,
    }  # fmt: skip
    if resources.time_s:
        further["time"] = _clock(resources.time_s)
    if after:
        further |= {"dependency": f"afterok:{after}", "kill-on-invalid-dep": "yes"}
    lead_s = min(resources.preemption, (resources.time_s or 4 * resources.preemption) // 4)
    further |= {"signal": f"USR2@{lead_s}", **resources.sbatch}
    values = {
        "job_name": name, "partition": resources.partition, "account": resources.account,
        "qos": resources.qos, "constraint": resources.constraint, "nodes": resources.nodes,
        "ntasks_per_node": 1,
        "cpus_per_task": resources.cpus or threads * resources.processes_per_node,
        "gpus_per_node": resources.gpus, "mem": resources.memory,
        "setup": [*resources.setup, *_exports()], "stderr_to_stdout": True, "additional_parameters": further,
    }  # fmt: skip
    # None leaves out what submitit would set by itself: five minutes, and a key of its own for accounting.
    return {k: v for k, v in values.items() if v} | {"time": None, "wckey": None, "use_srun": False}


def command_of(array_file: Path | str) -> str:
    """What a job runs: it finds its run in the array's file by its index."""
    return shlex.join(["exec", sys.executable, "-u", "-m", "entrobench", "_slurm", str(array_file)])


def submit_script(built: _Executor, command: str) -> str:
    """Queue it; returns the cluster's id of the job.

    Raises:
        UserError: sbatch refused; the message is Slurm's own.
    """
    built.folder.mkdir(parents=True, exist_ok=True)
    try:
        return built.submit_command(command)
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        lines = [line for line in str(error).splitlines() if "error:" in line] or str(error).splitlines()
        raise UserError(f"Slurm refused the job: {' '.join(lines[-2:])}") from error


def _exports() -> list[str]:
    lines = [f"export {key}={shlex.quote(value)}" for key, value in sorted(offline_environment().items())]
    return [*lines, f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}"]


def _clock(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    return f"{days}-{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
