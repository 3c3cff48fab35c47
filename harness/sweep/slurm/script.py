"""Resources -> the sbatch script of an array, and its submission.

The script is ``job.sh.j2``, filled in. What a job has to know stands in the array's JSON file and not in
pickles: a run is resumed by its own identity, and nothing that others could have written may be unpickled.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class Executor:
    """The script of one array or single job, to be shown or queued.

    Attributes:
        logs: where the script and Slurm's own messages go.
        values: what ``job.sh.j2`` asks for, but for the command.
    """

    logs: Path
    values: Mapping[str, Any]

    def script(self, command: str) -> str:
        from jinja2 import Environment, StrictUndefined

        environment = Environment(
            undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
        )
        environment.filters["quote"] = lambda value: shlex.quote(str(value))
        text = Path(__file__).with_name("job.sh.j2").read_text(encoding="utf-8")
        return environment.from_string(text).render(self.values, command=command)

    def submit(self, command: str) -> str:
        """Queue it; returns the cluster's id of the job.

        Raises:
            UserError: sbatch refused; the message is Slurm's own.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        path = self.logs / f"{self.values['name']}_submission.sh"
        path.write_text(self.script(command), encoding="utf-8")
        # Without a time limit: a job that was queued after it would be known to nobody.
        try:
            done = subprocess.run(["sbatch", "--parsable", str(path)], capture_output=True, text=True)
        except OSError as error:
            raise UserError(f"Slurm refused the job: {error}") from error
        number = re.search(r"^(\d+)(;\S+)?$", done.stdout, re.MULTILINE)
        if done.returncode or not number:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            lines = [line for line in said if "error:" in line] or said or ["sbatch does not say why"]
            raise UserError(f"Slurm refused the job: {' '.join(lines[-2:])}")
        return number[1]


def executor(
    resources: SlurmResources, logs: Path, name: str, *, count: int | None, threads: int, after: str = ""
) -> Executor:
    """
    Args:
        count: jobs of the array; None for a job that is no array.
        threads: CPU threads of a run, for its cores where the sweep file does not say how many.
        after: id of a job that has to end well first, or this one is cancelled.
    """
    values = vars(resources) | {
        "name": name,
        "output": logs / ("slurm-%j.out" if count is None else "slurm-%A_%a.out"),
        "export": (*EXPORTED, *resources.export),
        "count": count, "at_a_time": min(resources.limit or count, count) if count else None, "after": after,
        "cpus": resources.cpus or threads * resources.processes_per_node,
        "time": _clock(resources.time_s) if resources.time_s else None,
        # a short allocation is announced in its last quarter
        "notice": min(resources.notice, (resources.time_s or 4 * resources.notice) // 4),
        "environment": dict(sorted(offline_environment().items())), "root": ROOT,
    }  # fmt: skip
    return Executor(logs, values)


def command_of(array_file: Path | str) -> str:
    """What a job runs: it finds its run in the array's file by its index."""
    return shlex.join(["exec", sys.executable, "-u", "-m", "entrobench", "_slurm", str(array_file)])


def _clock(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    return f"{days}-{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
