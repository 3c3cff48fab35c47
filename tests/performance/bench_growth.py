"""How cost grows: the same work at twice and four times the size, or ten and a hundred times.

    python -m tests.performance.bench_growth                      # all, some minutes
    python -m tests.performance.bench_growth --only report plan   # others in the file stay

Each case is a median of processor seconds of this process (and, of a plan, of its child) over a few runs in
which the sizes take turns. What is shown is cost relative to the smallest size, and the exponent of size that
it grows with.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from harness.util.files import read_json
from tests.performance import bench_plan, bench_report, bench_sweep, real_model
from tests.performance import trl_peer as peer
from tests.performance.about import FOLDER, about, keep
from tests.performance.bench_gpu import FULL, operands, ours, outcome
from tests.performance.bench_logprob import CHUNK_MIB, VOCAB, WIDTH
from tests.performance.bench_sampler import Ours
from tests.performance.measures import exponent
from tests.performance.timing import cpu_timed, table

RESULT = FOLDER / "growth.json"


@dataclass(frozen=True)
class Case:
    """``cost`` gives the seconds at one size; every size is measured ``times`` times, after ``warm_up``."""

    what: str
    sizes: tuple[int, ...]
    cost: Callable[[int], float]
    times: int = 3
    warm_up: int = 1


def operator(vocab: int, positions: int) -> float:
    """Log-prob and entropy, forward and backward."""
    sizes = replace(FULL, positions=positions, vocab=vocab, width=WIDTH)
    values = operands(positions, sizes, "cpu", torch.float32)
    return cpu_timed(lambda: outcome(ours(CHUNK_MIB), values))


def micro_step() -> Callable[[int], float]:
    """A training step with so many prompts; each size has a trainer of its own."""
    trainers: dict[int, Any] = {}

    def cost(prompts: int) -> float:
        if prompts not in trainers:
            trainers[prompts] = peer.our_trainer(peer.Settings(prompts=prompts))
        return cpu_timed(trainers[prompts].step)

    return cost


def sampled() -> Callable[[int, int], float]:
    """Responses to 4 prompts, so many each, of so many tokens."""
    made: list[Any] = []

    def cost(n: int, tokens: int) -> float:
        if not made:
            policy = real_model.policy()
            made.extend((Ours(policy), real_model.prompts(policy, 4)))
        return made[0](made[1], n, tokens)[0]

    return cost


def plan(runs: int) -> float:
    """``entrobench sweep plan`` from the start of its process, without a kept plan."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return bench_plan.plan_once(bench_plan.write_sweep(folder, runs), folder / "runs")[1]


def of_finished(verb: str) -> Callable[[int], float]:
    """``entrobench sweep VERB`` from the start of its process, over finished runs with their kept plan."""

    def cost(runs: int) -> float:
        with tempfile.TemporaryDirectory() as name:
            return bench_sweep.once(verb, bench_sweep.finished_sweep(Path(name), runs))

    return cost


def cases() -> dict[str, Case]:
    """By name; each keeps to its own unit of size."""
    sample = sampled()
    return {
        "step-rows": Case("micro training step: prompts of 8 rollouts", (16, 32, 64), micro_step()),
        "logprob-vocab": Case(
            "log-prob and entropy, forward and backward, 32 positions: vocabulary",
            (VOCAB // 4, VOCAB // 2, VOCAB), lambda size: operator(size, 32),
        ),
        "logprob-tokens": Case(
            "the same at a vocabulary of 37,984: positions", (64, 128, 256),
            lambda size: operator(VOCAB // 4, size),
        ),
        "sampler-rows": Case(
            "sampler, SmolLM2-135M, 4 prompts, 16 tokens: responses to each", (4, 8, 16),
            lambda size: sample(size, 16),
        ),
        "sampler-tokens": Case(
            "sampler, SmolLM2-135M, 4 prompts x 4 responses: tokens", (16, 32, 64),
            lambda size: sample(4, size),
        ),
        "report": Case(
            "reports: records", (100, 1_000, 10_000),
            lambda size: bench_report.measure(size, 5)["together"], times=1, warm_up=0,
        ),
        "plan": Case("sweep plan: runs", (100, 1_000, 10_000), plan, times=1, warm_up=0),
        "status": Case(
            "sweep status: runs", (100, 1_000, 10_000), of_finished("status"), times=1, warm_up=0,
        ),
        "collect": Case(
            "sweep collect: runs", (100, 1_000, 10_000), of_finished("collect"), times=1, warm_up=0,
        ),
    }  # fmt: skip


def measure(case: Case) -> dict[str, Any]:
    """Median seconds by size, in the order of sizes."""
    torch.set_num_threads(1)
    found: dict[int, list[float]] = {size: [] for size in case.sizes}
    for turn in range(case.warm_up + case.times):
        for size in case.sizes:
            seconds = case.cost(size)
            if turn >= case.warm_up:
                found[size].append(seconds)
    medians = [statistics.median(values) for values in found.values()]
    return {
        "what": case.what, "sizes": list(case.sizes), "cpu_s": medians, "times": case.times,
        "relative": [m / medians[0] for m in medians], "exponent": exponent(case.sizes, medians),
        "last_exponent": exponent(case.sizes[-2:], medians[-2:]),
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    known = cases()
    parser = argparse.ArgumentParser(prog="bench_growth", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(known), default=list(known))
    parser.add_argument("--out", type=Path, default=RESULT, help="result file; other cases in it stay")
    args = parser.parse_args(argv)
    result: dict[str, Any] = read_json(args.out) if args.out.exists() else {}
    for name in args.only:
        result[name] = measure(known[name]) | about("transformers")
        keep(args.out, result)
    rows = [
        [case["what"], f"{case['exponent']:.2f}", f"{case['last_exponent']:.2f}"] for case in result.values()
    ]
    print(table(["cost of ours", "exponent", "of the last step"], rows))


if __name__ == "__main__":
    main()
