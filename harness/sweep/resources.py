"""The ``slurm:`` section of a sweep file: what every job of the sweep asks the cluster for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from harness.sweep.text import check_keys
from harness.util.errors import UserError

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
#: Options of sbatch that other keys, or the launcher itself, decide.
_OURS = (
    "array", "cpus-per-task", "dependency", "error", "gpus-per-node", "gres", "job-name",
    "kill-on-invalid-dep", "mem", "no-requeue", "ntasks-per-node", "open-mode", "output", "signal",
)  # fmt: skip


@dataclass(frozen=True)
class SlurmResources:
    """Resources of one run; a key left out is left to the cluster's default.

    Attributes:
        partition, account, qos, constraint: as for sbatch.
        nodes: nodes of a run.
        gpus: GPUs on each node, a number or ``type:number``; 0 asks for none.
        gpu_memory: memory of one GPU, e.g. ``80G``; nothing is asked for, but plans are compared with it.
        cpus: cores on each node; left out, ``train.threads`` of the runs.
        memory: of each node, with its unit: ``32G``.
        time: wall limit of one allocation: ``90m``, ``24h``, ``2d`` or ``1-12:00:00``. A run that
            needs longer goes on in further allocations.
        limit: runs at a time; left out, as many as the cluster lets start.
        requeue: runs may be put back into the queue, by the cluster or by themselves at the wall limit.
        notice: seconds before the wall limit at which Slurm announces it, should a run not foresee it.
        setup: shell lines before anything else, e.g. ``module load cuda``.
        container: command that the worker is started with, e.g. ``apptainer exec --nv /images/torch.sif``.
        python: interpreter of the worker; left out, the submitter's own, or ``python`` in a container.
        export: names of further environment variables that jobs get from the submitter; jobs never get all.
        srun: further arguments of srun, e.g. ``--container-image=…``.
        sbatch: further options of sbatch, e.g. ``{reservation: x, exclude: n3}``.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    nodes: int = 1
    gpus: int | str = 0
    gpu_memory: str = ""
    cpus: int | None = None
    memory: str = ""
    time: str = ""
    limit: int | None = None
    requeue: bool = True
    notice: int = 120
    setup: tuple[str, ...] = ()
    container: str = ""
    python: str = ""
    export: tuple[str, ...] = ()
    srun: tuple[str, ...] = ()
    sbatch: Mapping[str, Any] = field(default_factory=dict)

    @property
    def gpus_per_node(self) -> int:
        return int(str(self.gpus).rpartition(":")[2])

    @property
    def processes_per_node(self) -> int:
        """One for each GPU, or one on each node."""
        return max(1, self.gpus_per_node)

    @property
    def processes(self) -> int:
        """Training processes of a run that the job starts."""
        return self.nodes * self.processes_per_node

    @property
    def time_s(self) -> int | None:
        """The wall limit in seconds; None leaves it to the partition."""
        return seconds(self.time) if self.time else None

    @property
    def total_gpus(self) -> int:
        """GPUs that a running run holds: its GPU-hours per hour."""
        return self.nodes * self.gpus_per_node


def slurm_resources(raw: Mapping[str, Any], where: str = "slurm") -> SlurmResources:
    """Read the section strictly.

    Args:
        raw: the mapping in the sweep file.
        where: how messages call it, e.g. ``sweeps/x.yaml: slurm``.

    Raises:
        UserError: an unknown key or a value that Slurm could not mean, with the remedy.
    """
    check_keys(raw, [f.name for f in fields(SlurmResources)], where)
    given = {k: v for k, v in raw.items() if v is not None}
    for key in ("partition", "account", "qos", "constraint", "container", "python"):
        if key in given:
            given[key] = _line(given[key], f"{where}: {key}")
    for key, least in (("nodes", 1), ("cpus", 1), ("limit", 1), ("notice", 1)):
        if key in given:
            given[key] = _at_least(given[key], least, f"{where}: {key}")
    for key in ("setup", "export", "srun"):
        if key in given:
            given[key] = _lines(given[key], f"{where}: {key}")
    if not isinstance(given.get("requeue", True), bool):
        raise UserError(f"{where}: requeue is {given['requeue']!r}; write true or false")
    _check_gpus(given.get("gpus", 0), where)
    for key in ("memory", "gpu_memory"):
        _check_memory(given.get(key, ""), f"{where}: {key}")
    if "time" in given:
        _check_time(given["time"], where)
    for name in given.get("export", ()):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UserError(f"{where}: export lists names of variables, not '{name}'; values stay out")
    given["sbatch"] = _options(given.get("sbatch", {}), where)
    return SlurmResources(**given)


def seconds(text: str) -> int:
    """``90m``, ``24h``, ``2d``, ``30s``, ``HH:MM:SS`` or ``D-HH:MM:SS`` in seconds."""
    short = re.fullmatch(r"(\d+)([smhd])", text)
    if short:
        return int(short[1]) * _UNITS_S[short[2]]
    full = re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)", text)
    if not full:
        raise ValueError(text)
    days, hours, minutes, rest = (int(part or 0) for part in full.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + rest


def _check_time(value: Any, where: str) -> None:
    # A bare 90 might be minutes or seconds.
    try:
        if isinstance(value, str) and seconds(value) >= 60:
            return
    except ValueError:
        pass
    raise UserError(f"{where}: time is {value!r}; write 90m, 24h, 2d or 1-12:00:00, at least 1m")


def _check_memory(value: Any, where: str) -> None:
    if value != "" and not re.fullmatch(r"[1-9]\d*[KMGT]", str(value)):
        raise UserError(f"{where} is {value!r}; write it with its unit, e.g. 32G")


def _check_gpus(value: Any, where: str) -> None:
    plain = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    typed = isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.-]+:[1-9]\d*", value)
    if not (plain or typed):
        raise UserError(f"{where}: gpus is {value!r}; write the number on each node, or a100:4")


def _options(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: sbatch is {value!r}; write a mapping, e.g. {{reservation: x}}")
    ours = {f.name for f in fields(SlurmResources)} | set(_OURS)
    for key, option in value.items():
        name = str(key).replace("_", "-")
        if name in ours:
            raise UserError(f"{where}: sbatch sets '{key}', which is set by other keys of this section")
        if not re.fullmatch(r"[a-z][a-z-]*", name):
            raise UserError(f"{where}: sbatch: '{key}' is not an option's long name, e.g. reservation")
        _line(option, f"{where}: sbatch: {key}")
    return {str(key).replace("_", "-"): option for key, option in value.items()}


def _at_least(value: Any, least: int, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{where} is {value!r}; write a whole number >= {least}")
    return value


def _line(value: Any, where: str) -> str:
    text = str(value)
    if isinstance(value, Mapping | list | bool) and value is not True or "\n" in text or not text.strip():
        raise UserError(f"{where} is {value!r}; write one line of text")
    return text


def _lines(value: Any, where: str) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise UserError(f"{where} is {value!r}; write a list of lines")
    return tuple(items)
