"""The life of a run inside its folder: train with checkpoints, probe, frontier, evaluation, result."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from harness import catalog
from harness.config import RunConfig
from harness.evaluate import evaluate_problems, probe_entropy, summary
from harness.files import read_json, replacing, write_json
from harness.policy import Policy, load_policy
from harness.policy_source import resolve_model
from harness.problems import Benchmark
from harness.record import new_result
from harness.status import Status
from harness.trainer import Trainer

#: Older checkpoints are deleted.
KEPT_CHECKPOINTS = 2
#: Seeds of what must be the same for every run, so that methods meet equal draws.
PROBE_SEED, EVALUATION_SEED = 20_000, 30_000


def device_of(run: RunConfig) -> str:
    """``cpu`` or ``cuda``, as configured and as there is."""
    if run.device != "auto":
        return run.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def open_run(run: RunConfig) -> tuple[Policy, Benchmark]:
    """The policy with its first weights, and the benchmark."""
    torch.set_num_threads(run.train.threads)
    registry = catalog.benchmarks()
    policy = load_policy(
        resolve_model(run.model.path, registry.shipped_models()), revision=run.model.revision,
        dtype=run.model.dtype, device=device_of(run), temperature=run.rollout.temperature,
    )  # fmt: skip
    return policy, registry.load(run.data.benchmark)


def train_and_evaluate(run: RunConfig, folder: Path, status: Status, *, evaluate: bool) -> dict[str, Any]:
    """Train from the last checkpoint on, then evaluate; returns the result record."""
    policy, benchmark = open_run(run)
    trainer = Trainer(run, policy, benchmark, run.method.stages())
    metrics_file = folder / "metrics.jsonl"
    if not _restore(trainer, folder, metrics_file):
        _append(metrics_file, {"step": 0, "generated_tokens": 0, **_probe(run, trainer)})
        _frontier(run, trainer, folder)
        _save(trainer, folder, metrics_file)
    while not trainer.finished():
        start = status.elapsed_s
        metrics = trainer.step()
        step = trainer.counters.step
        last = trainer.finished()
        if step % run.probe.every == 0 or last:
            metrics |= _probe(run, trainer)
        _append(metrics_file, {"step": step, **metrics})
        _append(
            folder / "timings.jsonl", {"step": step, "wall_s": status.elapsed_s - start, **trainer.seconds}
        )
        if step % run.eval.frontier_every == 0 or last:
            _frontier(run, trainer, folder)
        if step % run.train.checkpoint_every == 0 or last:
            _save(trainer, folder, metrics_file)
        status.write(
            state="running", phase="train", step=step, generated_tokens=trainer.counters.generated_tokens,
            eta_s=round(_eta(trainer, status), 1),
            **{k: metrics[k] for k in ("reward", "accuracy", "entropy", "probe_entropy") if k in metrics},
        )  # fmt: skip
    status.write(state="running", phase="evaluate", step=trainer.counters.step)
    evals = _evaluate(run, policy, benchmark, folder, status) if evaluate else {}
    return _result(run, trainer, folder, evals, status)


def evaluate_only(run: RunConfig, folder: Path, status: Status) -> dict[str, Any]:
    """Frontier point 0, probe and evaluation of the untrained model: the control ``base``."""
    policy, benchmark = open_run(run)
    trainer = Trainer(run, policy, benchmark, run.method.stages())
    metrics_file = folder / "metrics.jsonl"
    metrics_file.unlink(missing_ok=True)
    _append(metrics_file, {"step": 0, "generated_tokens": 0, **_probe(run, trainer)})
    _frontier(run, trainer, folder)
    evals = _evaluate(run, policy, benchmark, folder, status)
    return _result(run, trainer, folder, evals, status) | {"role": "base", "method": "base", "activity": None}


def _probe(run: RunConfig, trainer: Trainer) -> dict[str, float]:
    problems = trainer.benchmark.problems(run.data.validation_split)[: run.probe.prompts]
    return probe_entropy(
        trainer.policy, problems, samples=run.probe.samples, max_tokens=run.rollout.max_response_tokens,
        seed=PROBE_SEED, step=trainer.counters.step, micro_rows=run.train.micro_batch_rows,
    )  # fmt: skip


def _frontier(run: RunConfig, trainer: Trainer, folder: Path) -> None:
    """Sample the validation split; kept as a file per step, so a resumed run does not repeat it."""
    step = trainer.counters.step
    path = folder / "eval" / f"frontier-{step:06d}.json"
    if path.exists():
        return
    problems = trainer.benchmark.problems(run.data.validation_split)
    table = evaluate_problems(
        trainer.policy, trainer.benchmark, problems, folder / "eval" / f"frontier-{step:06d}.parquet",
        n=run.eval.frontier_n, temperature=1.0, max_tokens=run.rollout.max_response_tokens,
        seed=EVALUATION_SEED, batch_rows=run.eval.batch_rows,
    )  # fmt: skip
    write_json(path, {"step": step, **summary(table, problems, maj_k=())})


def _evaluate(
    run: RunConfig, policy: Policy, benchmark: Benchmark, folder: Path, status: Status
) -> dict[str, Any]:
    evals = {}
    for split in run.eval.splits:
        problems = benchmark.problems(split)

        def progress(done: int, total: int, split: str = split) -> None:
            status.write(state="running", phase=f"evaluate {split} {done}/{total}")

        table = evaluate_problems(
            policy, benchmark, problems, folder / "eval" / f"{split}.parquet",
            n=run.eval.n, temperature=run.eval.temperature, max_tokens=run.rollout.max_response_tokens,
            seed=EVALUATION_SEED, batch_rows=run.eval.batch_rows, on_progress=progress,
        )  # fmt: skip
        evals[split] = summary(table, problems)
    return evals


def _result(
    run: RunConfig, trainer: Trainer, folder: Path, evals: dict[str, Any], status: Status
) -> dict[str, Any]:
    from harness.statistics import mean_pass_at_ks, printable_ks

    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    frontier = [read_json(p) for p in sorted((folder / "eval").glob("frontier-*.json"))]
    last = frontier[-1]
    ks = printable_ks(last["n"])
    scores = mean_pass_at_ks(last["n"], last["correct"], ks)
    validation = {f"pass@{k}": float(score) for k, score in zip(ks, scores, strict=True)}
    trained = [s for s in steps if "activity" in s]
    errors = [s["target_error"] for s in trained if "target_error" in s]
    counters = trainer.counters
    return new_result(
        run,
        determinism="bitwise" if device_of(run) == "cpu" else "statistical",
        budget={
            "generated_tokens": counters.generated_tokens, "updates": counters.updates,
            "steps": counters.step, "train_tokens": counters.train_tokens,
            "extra_forward_tokens": counters.extra_forward_tokens,
            "verifier_calls": counters.verifier_calls, "wall_s": round(status.elapsed_s, 1),
        },
        probe=[
            {"step": s["step"], "entropy_nats": s["probe_entropy"],
             "entropy_seq_nats": s["probe_entropy_seq"], "generated_tokens": s["generated_tokens"]}
            for s in steps if "probe_entropy" in s
        ],
        activity=sum(s["activity"] for s in trained) / len(trained) if trained else None,
        target_tracking_error=sum(errors) / len(errors) if errors else None,
        validation=validation,
        frontier=[{k: f[k] for k in ("step", "n", "correct")} for f in frontier],
        evals=evals,
    )  # fmt: skip


def _eta(trainer: Trainer, status: Status) -> float:
    """Seconds of training left, from the share of the budget used so far."""
    budget = trainer.run.train.token_budget
    done = trainer.counters.step / trainer.run.train.steps
    if budget:
        done = max(done, trainer.counters.generated_tokens / budget)
    return status.elapsed_s * (1 - min(done, 1.0)) / max(done, 1e-9)


def _append(path: Path, row: dict[str, Any]) -> None:
    with open(path, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(row, sort_keys=True) + "\n")


def _save(trainer: Trainer, folder: Path, metrics_file: Path) -> None:
    """An atomic checkpoint that remembers how long ``metrics.jsonl`` and ``timings.jsonl`` were."""
    checkpoints = folder / "checkpoints"
    lengths = {}
    for log in (metrics_file, folder / "timings.jsonl"):
        if log.exists():
            with open(log, "rb") as handle:
                os.fsync(handle.fileno())  # before the checkpoint that counts on it
            lengths[log.name] = log.stat().st_size
    state = trainer.state_dict() | {"bytes": lengths}
    with replacing(checkpoints / f"step-{trainer.counters.step:06d}.pt") as temporary:
        torch.save(state, temporary)
    for old in sorted(checkpoints.glob("step-*.pt"))[:-KEPT_CHECKPOINTS]:
        old.unlink()


def _restore(trainer: Trainer, folder: Path, metrics_file: Path) -> bool:
    """Go back to the last checkpoint; lines logged after it are dropped and will be written again.

    Returns whether there was one: the first is written when step 0 has been logged.
    """
    checkpoints = folder / "checkpoints"
    for leftover in folder.rglob(".*.tmp"):  # half-written when the run was killed
        leftover.unlink()
    state = _last_checkpoint(checkpoints)
    if state is not None:
        trainer.load_state_dict(state)
    for log in (metrics_file, folder / "timings.jsonl"):
        if state is None or log.name not in state["bytes"]:
            log.unlink(missing_ok=True)
        else:
            os.truncate(log, state["bytes"][log.name])
    return state is not None


def _last_checkpoint(checkpoints: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read; damaged ones (a full disk, a lost node) are removed."""
    for path in sorted(checkpoints.glob("step-*.pt"), reverse=True):
        if zipfile.is_zipfile(path):  # its directory stands at the end of the file
            state: dict[str, Any] = torch.load(path, weights_only=True)
            return state
        warnings.warn(f"checkpoint {path.name} is incomplete; going on from the one before", stacklevel=2)
        path.unlink()
    return None
