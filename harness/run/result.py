"""The result of a run, from the files of its folder and what its trainer counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from harness.distributed.world import world
from harness.records.record import Budget, Evaluation, FrontierPoint, Probe, RunResult
from harness.run.best import frontier_points
from harness.run.identity import new_result
from harness.run.reuse import TAKEN
from harness.run.set_up import device_of
from harness.run.status import Status
from harness.run.trace import entropy_before, trace
from harness.statistics import mean_pass_at_ks, printable_ks
from harness.train.trainer import Trainer


def run_result(
    trainer: Trainer, folder: Path, evals: dict[str, Any], status: Status, evaluated: int, **known: Any
) -> RunResult | None:
    """The result, on the first process; the others get none.

    Args:
        evals: what was measured of each test set, as plain values.
        evaluated: the step whose weights were evaluated.
        known: further fields, in place of those from the files.
    """
    if not world().is_main:
        return None
    run = trainer.run
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    frontier = frontier_points(folder)
    point = next(f for f in frontier if f["step"] == evaluated)
    ks = printable_ks(point["n"])
    scores = mean_pass_at_ks(point["n"], point["correct"], ks)
    validation = {f"pass@{k}": float(score) for k, score in zip(ks, scores, strict=True)}
    # steps on demonstrations before the method's own have another measure of all of it
    trained = [s for s in steps if "activity" in s and s["step"] > run.sft.steps]
    errors = [s["target_error"] for s in trained if "target_error" in s]
    above = [s["target_above"] for s in trained if "target_above" in s]
    counters = trainer.counters
    sizes = sorted({*trainer.sizes, world().size})
    result = new_result(
        run,
        device=device_of(run),
        processes=world().size,
        processes_used=sizes,
        # another number of processes rounds differently, and a sample may then differ
        determinism=trainer.rollouts.sampler.determinism if len(sizes) == 1 else "statistical",
        budget=Budget(
            generated_tokens=counters.generated_tokens, updates=counters.updates,
            steps=counters.step, train_tokens=counters.train_tokens,
            extra_forward_tokens=counters.extra_forward_tokens,
            verifier_calls=counters.verifier_calls, wall_s=round(_wall_s(folder, status), 1),
        ),
        evaluated_step=evaluated,
        probe=[
            Probe(step=s["step"], entropy_nats=s["probe_entropy"],
                  entropy_seq_nats=s["probe_entropy_seq"], generated_tokens=s["generated_tokens"])
            for s in steps if "probe_entropy" in s
        ],
        activity=sum(s["activity"] for s in trained) / len(trained) if trained else None,
        target_tracking_error=sum(errors) / len(errors) if errors else None,
        above_target=sum(above) / len(above) if above else None,
        validation=validation,
        trace=trace(trained),
        frontier=[
            FrontierPoint(step=f["step"], n=f["n"], correct=f["correct"],
                          distinct_correct=f.get("distinct_correct"),
                          entropy_nats=entropy_before(f["step"], trained))
            for f in frontier
        ],
        frontier_problem_ids=_taken(trainer, point),
        left_out=_left_out(trainer),
        evals={name: msgspec.convert(entry, Evaluation) for name, entry in evals.items()},
    )  # fmt: skip
    return msgspec.structs.replace(result, **known)


def _left_out(trainer: Trainer) -> dict[str, int]:
    """Problems, and demonstrations, that do not fit the context."""
    found = dict(getattr(trainer.benchmark, "left_out", {}))
    tuned = trainer.demonstrations
    return found | ({"demonstrations": tuned.left_out} if tuned is not None and tuned.left_out else {})


def _taken(trainer: Trainer, point: dict[str, Any]) -> list[str] | None:
    """The problems of the frontier, where they are not the whole validation split."""
    ids = list(point["problem_ids"])
    problems = trainer.benchmark.problems(trainer.run.data.validation_split)
    return ids if len(ids) < len(problems) else None


def _wall_s(folder: Path, status: Status) -> float:
    """Seconds of the run; where another had trained for it, its own and that one's training steps."""
    if not (folder / TAKEN).exists():
        return status.elapsed_s
    lines = (folder / "timings.jsonl").read_text(encoding="utf-8").splitlines()
    return status.elapsed_s + sum(float(json.loads(line)["wall_s"]) for line in lines)
