"""What a plan says of measuring: how much it generates beside training, and where that is too much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.evaluation.in_run import evaluation_tokens
from harness.run.measuring import SHARE, Measuring, frontier_size, measuring, sections, takes_all
from harness.sweep.budget import amount, tokens_of
from harness.sweep.jobs import Job


def measuring_notes(jobs: Sequence[Job]) -> list[str]:
    """A line for each setting by its most demanding row, and a warning where measuring is out of proportion.

    From settings alone: no data is read, and every response counts as long as it may be.
    """
    worst: dict[str, tuple[Measuring, Job]] = {}
    for job in jobs:
        if job.role == "base":
            continue  # trains nothing
        cost = measuring(job.config, frontier_size(job.config)[0] or 0)
        if job.setting not in worst or cost.share > worst[job.setting][0].share:
            worst[job.setting] = cost, job
    return [line for cost, job in worst.values() for line in _lines(cost, job)]


def _lines(cost: Measuring, job: Job) -> list[str]:
    config = sections(job.config)
    of = "" if job.setting == "default/default" else f" of {job.setting}"
    tokens = tokens_of(job)[0]
    asked = config.eval.frontier_problems == "auto" and takes_all(config.data.benchmark)
    chosen = f"; {config.data.benchmark} asks for all problems" if asked else ""
    total = f"{amount(cost.share * tokens)} tokens beside {amount(tokens)} of training"
    lines = [
        f"measuring{of}: at most {total}, {_percent(cost.share)} (probe {_percent(cost.probe)}, frontier "
        f"{_percent(cost.frontier)}: {_problems(job)}{chosen})"
    ]
    at_end = evaluation_tokens(config)
    if at_end:
        lines.append(f"  test sets at the end of a run: at most {amount(at_end)} tokens")
    if cost.share > SHARE + 1e-9 and not asked:
        lines.append(
            f"WARNING: measuring{of} may generate {_percent(cost.share)} of training's tokens, more than "
            f"{_percent(SHARE)} ({job.label}): {_remedy(cost, config)}"
        )
    return lines


def _problems(job: Job) -> str:
    taken, there = frontier_size(job.config)
    samples = f"x {job.config['eval']['frontier_n']}"
    if taken is None:
        return f"all problems {samples}, of which the number is not known, so not counted"
    if there is None:
        return f"{taken} problems at most {samples}"
    return f"{taken} of {there} problems {samples}"


def _remedy(cost: Measuring, config: Any) -> str:
    if cost.probe > SHARE:
        return "raise probe.every, or lower probe.prompts or probe.samples"
    if config.eval.frontier_problems == "auto":
        return "raise eval.frontier_every, or lower eval.frontier_n"
    return "write eval.frontier_problems=auto, raise eval.frontier_every, or lower eval.frontier_n"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 1 else f"{100 * share:,.0f} %"
