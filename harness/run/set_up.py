"""What a run works with: its device, policy, benchmark and stages, from its configuration."""

from __future__ import annotations

import os

import torch

from harness.config.schema import RunConfig, to_dict
from harness.distributed.world import world
from harness.model.memory.machine import check_training
from harness.model.policy import Policy, load_policy
from harness.model.source import resolve_model
from harness.problems import templates
from harness.problems.problem import Benchmark
from harness.registry import benchmarks, methods
from harness.rollout.second_model import held_beside
from harness.rollout.settings import context_of
from harness.run.prompts import Reader, fitting, templated
from harness.stages.base import Stages
from harness.util.progress import phase


def device_of(run: RunConfig) -> str:
    """``cpu`` or ``cuda``, as configured and as there is.

    Raises:
        RuntimeError: the cluster granted GPUs that torch does not see, and nobody asked for the CPU.
    """
    granted = os.environ.get("SLURM_STEP_GPUS") or os.environ.get("SLURM_JOB_GPUS")
    if run.device != "cpu" and granted and not torch.cuda.is_available():
        raise RuntimeError(
            f"Slurm granted GPU {granted} on {os.environ.get('SLURMD_NODENAME', 'this node')} but torch "
            f"{torch.__version__} sees none; mend the driver or the build of torch there, or write device=cpu"
        )
    if run.device != "auto":
        return run.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def open_run(run: RunConfig) -> tuple[Policy, Benchmark]:
    """The policy with its first weights, and the benchmark, with prompts that fit.

    Raises:
        UserError: the model cannot be loaded, or cannot be given these prompts.
    """
    torch.set_num_threads(run.train.threads)
    registry = benchmarks
    with phase("load model", announce=True):
        path, device = resolve_model(run.model.path, registry.shipped_models()), device_of(run)
        if device == "cpu" and world().size == 1:
            check_training(run.model.path, path, run.model.revision, to_dict(run), held_beside(run))
        policy = load_policy(
            path, revision=run.model.revision, dtype=run.model.dtype, device=device,
            temperature=run.rollout.temperature, attention=run.model.attention,
        )  # fmt: skip
    if run.data.template:
        policy.stop_texts = templates.find(run.data.template).stop_texts
    read = Reader(lambda: policy.tokenizer, context_of(run, policy.max_positions))
    with phase("read problems", announce=True):
        return policy, fitting(run, templated(run, lambda: policy.tokenizer), read)


def stages_of(run: RunConfig) -> Stages:
    """The stages of ``run``: those of its method, and the diagnostics it asks for."""
    load = methods.load_diagnostic
    stages: Stages = run.method.stages()
    return stages.with_(diagnostics=tuple(load(name)() for name in run.train.diagnostics))
