"""Figures of a drawn set's base model and of blind guessing: ``python -m tests.testbed.calibrate``.

    python -m tests.testbed.calibrate [--model DIR]                       # the micro testbed
    python -m tests.testbed.calibrate --set words --model smollm2-135m

They are written to the set's ``calibration.json``, beside what its ``FROZEN`` names and not among it: what
that file names is part of the identity of runs.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.micro.chains import legal_walk
from benchmarks.micro.family import MAX_RESPONSE_TOKENS
from benchmarks.micro.testbed import BASE_DIR, Micro
from benchmarks.words.problems import Words
from harness.model.source import resolve_model
from harness.problem_sets.generated import GeneratedSet
from harness.problems.problem import Problem, Verdict
from harness.registry import benchmarks
from harness.statistics import pass_at_k
from harness.util.files import write_json

GUESSES = 4096


@dataclass(frozen=True)
class Calibration:
    """How a set is measured.

    Attributes:
        model: its base model, a folder or a name.
        splits: those that are measured.
        samples: of each problem, at temperature 1.
        max_tokens: of a response.
        at_once: problems sampled together; None for all.
        draws: from each family's training stream, to count different problems.
    """

    problems: GeneratedSet
    model: str
    file: Path
    splits: tuple[str, ...]
    samples: int
    max_tokens: int
    at_once: int | None
    draws: int


MICRO = Calibration(
    Micro(), str(BASE_DIR), BASE_DIR.parent / "calibration.json",
    splits=("validation", "test_id", "test_hard", "test_ood"),
    samples=64, max_tokens=MAX_RESPONSE_TOKENS, at_once=None, draws=200_000,
)  # fmt: skip
WORDS = Calibration(
    Words(), "smollm2-135m", BASE_DIR.parents[1] / "words" / "calibration.json",
    splits=("validation", "test_id"), samples=32, max_tokens=32, at_once=8, draws=20_000,
)  # fmt: skip
SETS: Mapping[str, Calibration] = {"micro": MICRO, "words": WORDS}


def blind_guess_figures(of: Calibration = MICRO, count: int = GUESSES) -> dict[str, dict[str, float]]:
    """Mean pass@32 per split of ``count`` guesses without reading the prompt.

    ``grammar``: uniform over the family's grammar; ``foreign``: a solution of another random problem
    of the same family and mix. ``target_blind`` is not blind: legal moves of a chain (read from the
    prompt) that ignore the target, for the chain problems only.
    """
    bench = of.problems
    figures: dict[str, dict[str, float]] = {}
    for split in of.splits:
        mix = bench.recipes[split][1]
        scores: dict[str, list[float]] = defaultdict(list)
        guesses: dict[tuple[str, str], list[str]] = {}
        for name, family in bench.families.items():
            rng = random.Random(f"guess-{name}")
            guesses["grammar", name] = [family.guess(rng) for _ in range(count)]
            source = islice(bench.stream(family, "train", mix, "guess"), count)
            guesses["foreign", name] = [drawn.solution for drawn in source]
        for problem in bench.problems(split):
            name = problem.meta["family"]
            tries = {kind: guesses[kind, name] for kind in ("grammar", "foreign")}
            if name == "chain":
                tries["target_blind"] = _walks(problem, count // 4)
            for kind, texts in tries.items():
                correct = sum(bench.verify(problem, text).correct for text in texts)
                scores[kind].append(float(pass_at_k(len(texts), correct, 32)))
                scores[f"{kind}/{name}"].append(scores[kind][-1])
        figures[split] = {kind: round(fmean(values), 4) for kind, values in sorted(scores.items())}
    return figures


def _walks(problem: Problem, count: int) -> list[str]:
    rng = random.Random(problem.id)
    walks = [legal_walk(rng, problem.meta, rng.randint(3, 7)) for _ in range(count)]
    return [",".join(map(str, walk)) if walk else "" for walk in walks]


def problem_space(of: Calibration = MICRO) -> dict[str, int]:
    """Different training problems per family among ``of.draws`` draws: a lower bound of the space."""
    bench = of.problems
    mix = bench.recipes["train"][1]
    return {
        name: len({drawn.prompt for drawn in islice(bench.stream(family, "train", mix, "space"), of.draws)})
        for name, family in bench.families.items()
    }


def base_figures(of: Calibration, folder: str) -> dict[str, Any]:
    """pass@1, pass@32, entropy (nats), lengths (tokens) per split and family of the model in ``folder``."""
    from harness.model.policy import load_policy

    policy = load_policy(folder)
    figures: dict[str, Any] = {}
    for split in of.splits:
        problems = of.problems.problems(split)
        size = of.at_once or len(problems)
        rows = defaultdict(list)
        for start in range(0, len(problems), size):
            print(f"{of.problems.name} {split}: {start} of {len(problems)} problems", flush=True)
            for family, row in _rows(of, policy, problems[start : start + size]):
                rows["all"].append(row)
                rows[family].append(row)
        figures[split] = {name: _summary(group) for name, group in rows.items()}
    return figures


def _rows(of: Calibration, policy: Any, problems: Any) -> Iterator[tuple[str, dict[str, float]]]:
    """The family and the figures of each problem."""
    import torch

    from harness.rollout.roll_out import roll_out
    from harness.stages.requests import Prompt
    from harness.stages.token_stats import ENTROPY

    with torch.no_grad():
        batch = roll_out(
            policy, [Prompt(problem, i) for i, problem in enumerate(problems)], of.samples,
            keys=[("calibration", problem.id, i) for problem in problems for i in range(of.samples)],
            temperature=1.0, max_tokens=of.max_tokens, stats=[ENTROPY],
        )  # fmt: skip
    entropy_B = batch.old["entropy"].sum(1)
    for i, problem in enumerate(problems):
        own = slice(i * of.samples, (i + 1) * of.samples)
        verdicts = [of.problems.verify(problem, text) for text in batch.texts[own]]
        row = _row(verdicts, batch.length_B[own].tolist(), entropy_B[own].tolist())
        yield problem.meta["family"], row


def _row(verdicts: list[Verdict], lengths: list[int], entropies: list[float]) -> dict[str, float]:
    correct, samples = sum(verdict.correct for verdict in verdicts), len(verdicts)
    return {
        "pass@1": correct / samples,
        "pass@32": float(pass_at_k(samples, correct, 32)),
        "distinct_right": len({v.canonical for v in verdicts if v.correct}),
        "unparsed": sum(v.status == "unparsed" for v in verdicts) / samples,
        "tokens": fmean(lengths),
        "entropy_nats_sum": fmean(entropies),
        "max_tokens": max(lengths),
    }


def _summary(rows: list[dict[str, float]]) -> dict[str, float]:
    summary = {name: fmean(row[name] for row in rows) for name in rows[0]}
    summary["max_tokens"] = max(row["max_tokens"] for row in rows)
    # Token mean: all entropy over all tokens, so long responses weigh more.
    summary["entropy_nats_per_token"] = summary["entropy_nats_sum"] / summary["tokens"]
    return {name: round(value, 4) for name, value in summary.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", dest="problems", choices=SETS, default="micro", help="the set of problems")
    parser.add_argument("--model", help="the base model: a folder or a name; left out, the set's own")
    args = parser.parse_args()
    of: Calibration = SETS[args.problems]
    folder = resolve_model(args.model or of.model, benchmarks.shipped_models())

    import torch

    torch.set_num_threads(1)
    figures = {
        "base": base_figures(of, folder),
        "blind_pass@32": blind_guess_figures(of),
        f"distinct_training_problems_in_{of.draws // 1000}k_draws": problem_space(of),
    }
    write_json(of.file, figures)
    for split, groups in figures["base"].items():
        print(split, groups["all"])


if __name__ == "__main__":
    main()
