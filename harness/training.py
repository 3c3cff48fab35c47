"""The life of a run inside its folder: train with checkpoints, probe, frontier, evaluation, result."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from harness import catalog, templates
from harness.best import forget_worse, frontier_points, keep_if_best, load_best
from harness.checkpoints import Checkpoints
from harness.config import RunConfig
from harness.evaluate import evaluate_problems, probe_entropy, summary
from harness.evaluation.in_run import evaluate_benchmarks
from harness.files import write_json
from harness.mirror import Copy, mirrored
from harness.notice import ALLOCATION_ENDS, Notice, Stopped
from harness.oom import naming_memory
from harness.parallel import world
from harness.policy import Policy, load_policy
from harness.policy_source import resolve_model
from harness.problems import Benchmark
from harness.record import new_result
from harness.sibling import TAKEN, take_over
from harness.stages import Stages
from harness.status import Status
from harness.trace import entropy_before, trace
from harness.trainer import Trainer

#: Seeds of what must be the same for every run, so that methods meet equal draws.
PROBE_SEED, EVALUATION_SEED = 20_000, 30_000


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
    """The policy with its first weights, and the benchmark."""
    torch.set_num_threads(run.train.threads)
    registry = catalog.benchmarks()
    policy = load_policy(
        resolve_model(run.model.path, registry.shipped_models()), revision=run.model.revision,
        dtype=run.model.dtype, device=device_of(run), temperature=run.rollout.temperature,
        attention=run.model.attention,
    )  # fmt: skip
    benchmark: Benchmark = registry.load(run.data.benchmark)
    if run.data.template:
        benchmark = templates.Templated(benchmark, templates.find(run.data.template), policy.tokenizer)
    return policy, benchmark


def stages_of(run: RunConfig) -> Stages:
    """What stands at the stations of ``run``: its method's stages, and the diagnostics it asks for."""
    load = catalog.methods().load_diagnostic
    stages: Stages = run.method.stages()
    return stages.with_(diagnostics=tuple(load(name)() for name in run.train.diagnostics))


def train_and_evaluate(
    run: RunConfig, folder: Path, status: Status, *, evaluate: bool, notice: Notice
) -> dict[str, Any]:
    """Train from the last checkpoint on, then evaluate; returns the result record, on the first process.

    Raises:
        Stopped: the run had to go; it goes on from where it was when it is started again.
    """
    with notice.leaving():
        policy, benchmark = open_run(run)
        trainer = Trainer(run, policy, benchmark, stages_of(run))
    with closing(trainer.rollouts.sampler):
        return _train_and_evaluate(trainer, folder, status, evaluate=evaluate, notice=notice)


def _train_and_evaluate(
    trainer: Trainer, folder: Path, status: Status, *, evaluate: bool, notice: Notice
) -> dict[str, Any]:
    run = trainer.run
    logs = [folder / "metrics.jsonl", folder / "timings.jsonl"]
    trained_by = world().leaders(lambda: take_over(run, folder))
    checkpoints = Checkpoints(trainer, folder, logs, keep=run.train.keep_checkpoints)
    pending = checkpoints.restore()
    if pending is None:
        _finish_step(run, trainer, folder, checkpoints, {"metrics": {"generated_tokens": 0}}, notice)
    elif pending:
        _finish_step(run, trainer, folder, checkpoints, pending, notice)
    with mirrored(run, folder) as mirror:
        _train(run, trainer, folder, status, checkpoints, notice, mirror)
        status.write(state="running", phase="evaluate", step=trainer.counters.step)
        with notice.leaving():
            last = trainer.counters.step
            best = run.eval.weights == "best"
            evaluated = load_best(trainer.policy, folder)["step"] if best else last
            trainer.rollouts.sampler.outdated()
            evals = _evaluate(run, trainer, folder, status) if evaluate else {}
            result = _result(run, trainer, folder, evals, status, evaluated) | {"trained_by": trained_by}
        mirror.summarise(result)
    return result


def _train(
    run: RunConfig, trainer: Trainer, folder: Path, status: Status, checkpoints: Checkpoints,
    notice: Notice, mirror: Copy,
) -> None:  # fmt: skip
    """Take the steps that are left."""
    status.write(state="running", phase="train", step=trainer.counters.step)
    while not trainer.finished():
        metrics = _step(trainer, checkpoints, notice, status)
        row = _finish_step(run, trainer, folder, checkpoints, metrics, notice)
        mirror.send(row)
        status.write(
            state="running", phase="train", step=trainer.counters.step,
            generated_tokens=trainer.counters.generated_tokens, eta_s=round(_eta(trainer, status), 1),
            **{k: row[k] for k in ("reward", "accuracy", "entropy", "probe_entropy") if k in row},
        )  # fmt: skip


def _step(trainer: Trainer, checkpoints: Checkpoints, notice: Notice, status: Status) -> dict[str, Any]:
    """One training step, left before its first update when the run has to go."""
    if not notice.room_for("step", "save"):
        checkpoints.save(rest=checkpoints.rest())
        raise Stopped(ALLOCATION_ENDS)
    before = checkpoints.rest() if notice.listening else {}
    hook = trainer.optimizer.register_step_pre_hook(lambda *_: notice.stay())
    start = status.elapsed_s
    try:
        with notice.timed("step"), notice.leaving():
            metrics = trainer.step()
    except Stopped:
        checkpoints.save(rest=before)
        raise
    finally:
        hook.remove()
    return {"metrics": metrics, "timing": {"wall_s": status.elapsed_s - start, **trainer.clock.seconds}}


def _finish_step(
    run: RunConfig, trainer: Trainer, folder: Path, checkpoints: Checkpoints, done: dict[str, Any],
    notice: Notice,
) -> dict[str, Any]:  # fmt: skip
    """Probe, frontier, log and checkpoint, as they are due; returns the logged row.

    A run that has to go while it samples the probe or the frontier keeps what is still to be done.
    """
    step, last = trainer.counters.step, trainer.finished()
    metrics: dict[str, Any] = done["metrics"]
    try:
        with notice.leaving():
            if (step % run.probe.every == 0 or last) and "probe_entropy" not in metrics:
                metrics |= _probe(run, trainer)
            if step % run.eval.frontier_every == 0 or last:
                _frontier(run, trainer, folder)
        trainer.rollouts.sampler.rest()
    except Stopped:
        checkpoints.save(pending=done)
        raise
    row = {"step": step, **metrics}
    _append(folder / "metrics.jsonl", row)
    if "timing" in done:
        _append(folder / "timings.jsonl", {"step": step, **done["timing"]})
    if step % run.train.checkpoint_every == 0 or last:
        with notice.timed("save"):
            checkpoints.save()
    return row


def evaluate_only(run: RunConfig, folder: Path, status: Status, *, notice: Notice) -> dict[str, Any]:
    """Frontier point 0, probe and evaluation of the untrained model: the control ``base``."""
    with notice.leaving():
        return _evaluate_untrained(run, folder, status)


def _evaluate_untrained(run: RunConfig, folder: Path, status: Status) -> dict[str, Any]:
    policy, benchmark = open_run(run)
    with closing((trainer := Trainer(run, policy, benchmark, stages_of(run))).rollouts.sampler):
        return _measured_untrained(trainer, folder, status)


def _measured_untrained(trainer: Trainer, folder: Path, status: Status) -> dict[str, Any]:
    run = trainer.run
    metrics_file = folder / "metrics.jsonl"
    if world().leads:
        metrics_file.unlink(missing_ok=True)
    _append(metrics_file, {"step": 0, "generated_tokens": 0, **_probe(run, trainer)})
    _frontier(run, trainer, folder)
    evals = _evaluate(run, trainer, folder, status)
    body = _result(run, trainer, folder, evals, status, 0)
    return body | {"role": "base", "method": "base", "activity": None}


def _probe(run: RunConfig, trainer: Trainer) -> dict[str, float]:
    problems = trainer.benchmark.problems(run.data.validation_split)[: run.probe.prompts]
    with naming_memory(run, "probe"):
        return probe_entropy(
            trainer.policy, problems, samples=run.probe.samples, max_tokens=run.rollout.max_response_tokens,
            seed=PROBE_SEED, step=trainer.counters.step, micro_rows=run.train.micro_batch_rows,
            by=trainer.rollouts.looks_by,
        )  # fmt: skip


def _frontier(run: RunConfig, trainer: Trainer, folder: Path) -> None:
    """Sample the validation split; kept as a file per step, so a resumed run does not repeat it."""
    step = trainer.counters.step
    path = folder / "eval" / f"frontier-{step:06d}.json"
    if world().leaders(path.exists):
        return
    problems = trainer.benchmark.problems(run.data.validation_split)
    with naming_memory(run, "evaluation"):
        table = evaluate_problems(
            trainer.policy, trainer.benchmark, problems, folder / "eval" / f"frontier-{step:06d}.parquet",
            n=run.eval.frontier_n, temperature=1.0, max_tokens=run.rollout.max_response_tokens,
            seed=EVALUATION_SEED, batch_rows=run.eval.batch_rows, by=trainer.rollouts.looks_by,
        )  # fmt: skip
    point = {"step": step, **summary(table, problems, maj_k=())} if world().leads else {}
    keep_if_best(trainer.policy, folder, step, point)
    if world().leads:
        write_json(path, point)
        forget_worse(folder)


def _evaluate(run: RunConfig, trainer: Trainer, folder: Path, status: Status) -> dict[str, Any]:
    policy, benchmark, by = trainer.policy, trainer.benchmark, trainer.rollouts.looks_by
    evals = {}
    for split in run.eval.splits:
        problems = benchmark.problems(split)

        def progress(done: int, total: int, split: str = split) -> None:
            status.write(state="running", phase=f"evaluate {split} {done}/{total}")

        with naming_memory(run, "evaluation"):
            table = evaluate_problems(
                policy, benchmark, problems, folder / "eval" / f"{split}.parquet",
                n=run.eval.n, temperature=run.eval.temperature, max_tokens=run.rollout.max_response_tokens,
                seed=EVALUATION_SEED, batch_rows=run.eval.batch_rows, on_progress=progress, by=by,
            )  # fmt: skip
        if world().leads:
            evals[split] = summary(table, problems)

    def on_benchmark(name: str, done: int, total: int) -> None:
        status.write(state="running", phase=f"evaluate {name} {done}/{total}")

    if run.eval.benchmarks:
        evals |= evaluate_benchmarks(
            run, policy, folder / "eval", seed=EVALUATION_SEED, on_progress=on_benchmark, by=by
        )
    return evals


def _result(
    run: RunConfig, trainer: Trainer, folder: Path, evals: dict[str, Any], status: Status, evaluated: int
) -> dict[str, Any]:
    if not world().leads:
        return {}
    from harness.statistics import mean_pass_at_ks, printable_ks

    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    frontier = frontier_points(folder)
    point = next(f for f in frontier if f["step"] == evaluated)
    ks = printable_ks(point["n"])
    scores = mean_pass_at_ks(point["n"], point["correct"], ks)
    validation = {f"pass@{k}": float(score) for k, score in zip(ks, scores, strict=True)}
    trained = [s for s in steps if "activity" in s]
    errors = [s["target_error"] for s in trained if "target_error" in s]
    counters = trainer.counters
    sizes = sorted({*trainer.sizes, world().size})
    return new_result(
        run,
        device=device_of(run),
        processes=world().size,
        processes_used=sizes,
        # another number of processes rounds differently, and a sample may then differ
        determinism=trainer.rollouts.sampler.determinism if len(sizes) == 1 else "statistical",
        budget={
            "generated_tokens": counters.generated_tokens, "updates": counters.updates,
            "steps": counters.step, "train_tokens": counters.train_tokens,
            "extra_forward_tokens": counters.extra_forward_tokens,
            "verifier_calls": counters.verifier_calls, "wall_s": round(_wall_s(folder, status), 1),
        },
        evaluated_step=evaluated,
        probe=[
            {"step": s["step"], "entropy_nats": s["probe_entropy"],
             "entropy_seq_nats": s["probe_entropy_seq"], "generated_tokens": s["generated_tokens"]}
            for s in steps if "probe_entropy" in s
        ],
        activity=sum(s["activity"] for s in trained) / len(trained) if trained else None,
        target_tracking_error=sum(errors) / len(errors) if errors else None,
        validation=validation,
        trace=trace(trained),
        frontier=[
            {k: f[k] for k in ("step", "n", "correct")} | {"entropy_nats": entropy_before(f["step"], trained)}
            for f in frontier
        ],
        evals=evals,
    )  # fmt: skip


def _wall_s(folder: Path, status: Status) -> float:
    """Seconds of the run; where another had trained for it, its own and that one's training steps."""
    if not (folder / TAKEN).exists():
        return status.elapsed_s
    lines = (folder / "timings.jsonl").read_text(encoding="utf-8").splitlines()
    return status.elapsed_s + sum(float(json.loads(line)["wall_s"]) for line in lines)


def _eta(trainer: Trainer, status: Status) -> float:
    """Seconds of training left, from the share of the budget used so far."""
    budget = trainer.run.train.token_budget
    done = trainer.counters.step / trainer.run.train.steps
    if budget:
        done = max(done, trainer.counters.generated_tokens / budget)
    return status.elapsed_s * (1 - min(done, 1.0)) / max(done, 1e-9)


def _append(path: Path, row: dict[str, Any]) -> None:
    if not world().leads:
        return
    with open(path, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(row, sort_keys=True) + "\n")
