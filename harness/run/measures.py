"""What a run samples to measure itself: the entropy probe, frontier points, test splits and benchmarks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from harness.distributed.world import world
from harness.evaluation.in_run import evaluate_benchmarks
from harness.evaluation.splits import evaluate_problems, probe_entropy, summary
from harness.model.out_of_memory import naming_memory
from harness.run.best import forget_worse, keep_if_best
from harness.run.measuring import frontier_limit, taken
from harness.train.trainer import Trainer
from harness.util import progress
from harness.util.files import write_json

#: Seeds of what must be the same for every run, so that methods meet equal draws.
PROBE_SEED, EVALUATION_SEED = 20_000, 30_000


def probe(trainer: Trainer) -> dict[str, float]:
    """Entropy of the policy on the first problems of the validation split, by the names of metrics.jsonl."""
    run = trainer.run
    problems = trainer.benchmark.problems(run.data.validation_split)[: run.probe.prompts]
    responses = len(problems) * run.probe.samples
    with naming_memory(run, "probe"), progress.phase("probe", responses, "responses"):
        return probe_entropy(
            trainer.policy, problems, samples=run.probe.samples, max_tokens=run.rollout.max_response_tokens,
            seed=PROBE_SEED, step=trainer.counters.step, micro_rows=run.train.micro_batch_rows,
            by=trainer.rollouts.looks_by,
        )  # fmt: skip


def frontier(trainer: Trainer, folder: Path) -> int:
    """Sample validation problems; kept as a file per step, so a resumed run does not repeat it.

    Returns:
        responses sampled; 0 where the file was there.
    """
    run, step = trainer.run, trainer.counters.step
    path = folder / "eval" / f"frontier-{step:06d}.json"
    if world().run_on_main(path.exists):
        return 0
    problems = taken(trainer.benchmark.problems(run.data.validation_split), frontier_limit(run))
    responses = frontier_responses(trainer)
    with naming_memory(run, "evaluation"), progress.phase("frontier", responses, "responses"):
        table = evaluate_problems(
            trainer.policy, trainer.benchmark, problems, path.with_suffix(".parquet"),
            n=run.eval.frontier_n, temperature=1.0, max_tokens=run.rollout.max_response_tokens,
            seed=EVALUATION_SEED, batch_rows=run.eval.batch_rows, by=trainer.rollouts.looks_by,
        )  # fmt: skip
    point = {"step": step, **summary(table, problems, maj_k=())} if world().is_main else {}
    keep_if_best(trainer.policy, folder, step, point)
    if world().is_main:
        write_json(path, point)
        forget_worse(folder)
    return responses


def frontier_responses(trainer: Trainer) -> int:
    """How many responses a point of the frontier has."""
    run = trainer.run
    size, limit = len(trainer.benchmark.problems(run.data.validation_split)), frontier_limit(run)
    return min(size, size if limit is None else limit) * run.eval.frontier_n


def evaluate(trainer: Trainer, folder: Path) -> dict[str, Any]:
    """Sample and judge the run's test splits and benchmarks; what a record holds of each, by its name.

    Of several processes the first alone gets it.
    """
    run, policy, by = trainer.run, trainer.policy, trainer.rollouts.looks_by
    evals = {}
    for split in run.eval.splits:
        problems = trainer.benchmark.problems(split)
        responses = len(problems) * run.eval.n
        with naming_memory(run, "evaluation"), progress.phase(f"evaluate {split}", responses, "responses"):
            table = evaluate_problems(
                policy, trainer.benchmark, problems, folder / "eval" / f"{split}.parquet",
                n=run.eval.n, temperature=run.eval.temperature, max_tokens=run.rollout.max_response_tokens,
                seed=EVALUATION_SEED, batch_rows=run.eval.batch_rows,
                on_progress=partial(_tell, split), by=by,
            )  # fmt: skip
        if world().is_main:
            evals[split] = summary(table, problems)
    if run.eval.benchmarks:
        evals |= evaluate_benchmarks(
            run, policy, folder / "eval", seed=EVALUATION_SEED, on_progress=_tell, by=by
        )
    return evals


def _tell(name: str, done: int, total: int) -> None:
    progress.note(f"{done} of {total} problems")
