"""What identifies a run, and the frame of its result. Imports no torch: plans use it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from functools import cache
from pathlib import Path
from typing import Any

from harness.config.schema import RunConfig, identity_dict, slug, to_dict
from harness.evaluation.in_run import evaluation_parts
from harness.model.source import model_fingerprint, resolve_model
from harness.records.record import RunResult
from harness.registry import benchmarks, methods
from harness.rollout.second_model import second_model_paths
from harness.run.fine_tuning import file_digest, sft_parts
from harness.run.measuring import frontier_limit
from harness.run.untested import untested_in
from harness.util.environment import commit, hardware, versions

#: Raised whenever a change of the harness changes the numbers of a run.
NUMERICS_VERSION = 3


@cache
def _method(name: str) -> methods.MethodEntry:
    return methods.find(name)


@cache
def _method_hash(name: str) -> str:
    return str(_method(name).hash)


@cache
def _data_fingerprint(benchmark: str) -> str:
    return str(benchmarks.load(benchmark).fingerprint())


@cache
def _model_fingerprint(path: str, revision: str | None) -> str:
    return model_fingerprint(resolve_model(path, benchmarks.shipped_models()), revision)


def identity_parts(run: RunConfig) -> dict[str, Any]:
    """What influences the numbers of a run."""
    parts = {
        "config": identity_dict(run),
        # by name and content, not by path: a method file may be moved
        "method": _method(run.method_name).name,
        "method_hash": _method_hash(run.method_name),
        "numerics_version": NUMERICS_VERSION,
        "data": _data_fingerprint(run.data.benchmark),
        "model": _model_fingerprint(run.model.path, run.model.revision),
    }
    limit = frontier_limit(run)
    if limit is not None:  # all problems are what a frontier had before there was a choice
        parts["frontier_problems"] = limit
    if run.eval.benchmarks:
        parts["evaluation"] = evaluation_parts(run)
    if run.data.demonstrations:
        parts["demonstrations"] = file_digest(run.data.demonstrations)
    if run.sft.steps:
        parts["sft"] = sft_parts(run, _method(run.sft.method).name, _method_hash(run.sft.method))
    if beside := second_model_paths(run):  # by content, since names say nothing of weights
        parts["second_models"] = {key: model_fingerprint(path, None) for key, path in beside.items()}
    return parts


def identity(run: RunConfig) -> str:
    """12 hex digits; equal for runs that must give equal numbers."""
    text = json.dumps(identity_parts(run), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_id(run: RunConfig) -> str:
    return f"{slug(_method(run.method_name).name)}-s{run.seed}-{identity(run)}"


def run_folder(run: RunConfig) -> Path:
    return Path(run.runs_dir).expanduser() / run_id(run)


def environment(run: RunConfig) -> dict[str, Any]:
    """Versions and hardware, for the record; not part of the identity."""
    return {
        "python": platform.python_version(),
        "versions": versions("entrobench", "torch", "transformers", "numpy"),
        "hardware": hardware(),
        "commit": commit(),
    }


def new_result(
    run: RunConfig, *, device: str = "cpu", processes: int = 1, **body: Any
) -> RunResult:  # fmt: skip
    """The result of a run: what is known before training, and ``body``.

    Args:
        device: ``cpu`` or ``cuda``, as the run was carried out.
        processes: processes that shared the run.
    """
    parts = identity_parts(run)
    benchmark = benchmarks.load(run.data.benchmark)
    return RunResult(
        run_id=run_id(run), method=methods.find(run.method_name).name,
        seed=run.seed, model=run.model.path, benchmark=f"{benchmark.name}@{benchmark.version}",
        hyperparameters=run.method.hyperparameters(), train=dataclasses.asdict(run.train),
        sft=parts.get("sft", {}),
        config_hash=identity(run), method_hash=parts["method_hash"], data_hash=parts["data"],
        model_hash=parts["model"], numerics_version=NUMERICS_VERSION, commit=commit(),
        hardware=hardware(device), untested_on_gpu=untested_in(to_dict(run), device, processes), **body,
    )  # fmt: skip
