"""What a sweep costs: generated tokens, and GPU-hours where they are known, measured or stated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from harness.run.state import FINISHED, RunState
from harness.sweep.jobs import Job
from harness.sweep.resources import slurm_resources
from harness.sweep.sweep import Sweep


@dataclass(frozen=True)
class Cost:
    """Hours of one run: GPU-hours where the sweep asks for GPUs, else hours of wall time.

    ``source``: ``measured`` (this run), ``like finished runs`` (their mean), ``stated`` (by the file) or
    ``unknown``, and then there are no hours.
    """

    hours: float | None
    source: str


@dataclass(frozen=True)
class Totals:
    """Sums over a sweep. ``hours`` by source; ``unknown`` counts the runs without any."""

    tokens: int
    tokens_done: int
    bounded: bool
    hours: dict[str, float]
    unknown: int


def gpus_of(sweep: Sweep) -> int:
    """GPUs that one run holds, as the file asks for them."""
    return slurm_resources(sweep.slurm).total_gpus


def tokens_of(job: Job) -> tuple[int, bool]:
    """Generated training tokens of a run, and whether that is a budget (else it is the most it can be)."""
    if job.role == "base":
        return 0, True
    train, rollout = job.config["train"], job.config["rollout"]
    if train["token_budget"]:
        return int(train["token_budget"]), True
    a_step = rollout["prompts_per_step"] * rollout["group_size"] * rollout["max_response_tokens"]
    return int(train["steps"] * a_step), False


def costs(sweep: Sweep, jobs: Sequence[Job], states: Sequence[RunState]) -> list[Cost]:
    """The cost of every run, from the nearest source that knows it."""
    factor = max(1, gpus_of(sweep)) / 3600
    row: dict[tuple[str, str, str], list[float]] = {}
    setting: dict[str, list[float]] = {}
    for job, state in zip(jobs, states, strict=True):
        if state.state in FINISHED and state.elapsed_s:
            hours = state.elapsed_s * factor
            row.setdefault((job.setting, job.role, job.label), []).append(hours)
            if job.role != "base":
                setting.setdefault(job.setting, []).append(hours)
    stated = {p.name: p.gpu_hours or sweep.gpu_hours for p in sweep.grid}
    return [
        _cost(job, state, state.elapsed_s * factor, row, setting, stated.get(job.setting))
        for job, state in zip(jobs, states, strict=True)
    ]


def _cost(
    job: Job, state: RunState, own: float, row: dict[tuple[str, str, str], list[float]],
    setting: dict[str, list[float]], stated: float | None,
) -> Cost:  # fmt: skip
    if state.state in FINISHED and own:
        return Cost(own, "measured")
    like = row.get((job.setting, job.role, job.label)) or (
        setting.get(job.setting) if job.role != "base" else None
    )
    if like:
        return Cost(mean(like), "like finished runs")
    if stated and job.role != "base":  # the untrained model is only evaluated
        return Cost(stated, "stated")
    return Cost(None, "unknown")


def totals(jobs: Sequence[Job], states: Sequence[RunState], found: Sequence[Cost]) -> Totals:
    """Sums over ``jobs``."""
    tokens = [tokens_of(job) for job in jobs]
    hours: dict[str, float] = {}
    for cost in found:
        if cost.hours is not None:
            hours[cost.source] = hours.get(cost.source, 0.0) + cost.hours
    return Totals(
        tokens=sum(n for n, _ in tokens),
        tokens_done=sum(
            n for (n, _), state in zip(tokens, states, strict=True) if state.state in FINISHED
        ),
        bounded=all(known for _, known in tokens),
        hours=hours,
        unknown=sum(cost.hours is None for cost in found),
    )  # fmt: skip


def amount(number: float) -> str:
    """``110 k``, ``12.5 M``, ``1.2 G``."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:g}"
