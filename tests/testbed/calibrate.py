"""Figures of the base model and of blind guessing: ``python -m tests.testbed.calibrate [--model DIR]``.

They are written to ``calibration.json``, beside the model's folder and not in it: every file in there is part
of the identity of runs.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.micro.chains import legal_walk
from benchmarks.micro.family import MAX_RESPONSE_TOKENS
from benchmarks.micro.testbed import BASE_DIR, FAMILIES, SPLITS, Micro, stream
from harness.problems.problem import Problem
from harness.statistics import pass_at_k
from harness.util.files import write_json

EVAL_SPLITS = ("validation", "test_id", "test_hard", "test_ood")
CALIBRATION_FILE = BASE_DIR.parent / "calibration.json"
SAMPLES = 64
GUESSES = 4096


def blind_guess_figures(count: int = GUESSES) -> dict[str, dict[str, float]]:
    """Mean pass@32 per split of ``count`` guesses without reading the prompt.

    ``grammar``: uniform over the family's grammar; ``foreign``: a solution of another random problem
    of the same family and mix. ``target_blind`` is not blind: legal moves of a chain (read from the
    prompt) that ignore the target, for the chain problems only.
    """
    bench = Micro()
    figures: dict[str, dict[str, float]] = {}
    for split in EVAL_SPLITS:
        mix = SPLITS[split][1]
        scores: dict[str, list[float]] = defaultdict(list)
        guesses: dict[tuple[str, str], list[str]] = {}
        for name, family in FAMILIES.items():
            rng = random.Random(f"guess-{name}")
            guesses["grammar", name] = [family.guess(rng) for _ in range(count)]
            source = islice(stream(family, "train", mix, "guess"), count)
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


def problem_space(draws: int = 200_000) -> dict[str, int]:
    """Different training problems per family among ``draws`` draws: a lower bound of the space."""
    return {
        name: len(
            {drawn.prompt for drawn in islice(stream(family, "train", SPLITS["train"][1], "space"), draws)}
        )
        for name, family in FAMILIES.items()
    }


def base_figures(folder: Path) -> dict[str, Any]:
    """pass@1, pass@32, entropy (nats), lengths (tokens) per split and family of the model in ``folder``."""
    import torch

    from harness.model.policy import load_policy
    from harness.rollout.roll_out import roll_out
    from harness.stages.base import Prompt
    from harness.stages.token_stats import ENTROPY

    policy, bench = load_policy(folder), Micro()
    figures: dict[str, Any] = {}
    for split in EVAL_SPLITS:
        problems = bench.problems(split)
        with torch.no_grad():
            batch = roll_out(
                policy, [Prompt(problem, i) for i, problem in enumerate(problems)], SAMPLES,
                keys=[("calibration", problem.id, i) for problem in problems for i in range(SAMPLES)],
                temperature=1.0, max_tokens=MAX_RESPONSE_TOKENS,
            )  # fmt: skip
            entropy_B = policy.stats(batch, [ENTROPY])["entropy"].sum(1)
        rows = defaultdict(list)
        for i, problem in enumerate(problems):
            own = slice(i * SAMPLES, (i + 1) * SAMPLES)
            verdicts = [bench.verify(problem, text) for text in batch.texts[own]]
            correct = sum(verdict.correct for verdict in verdicts)
            row = {
                "pass@1": correct / SAMPLES,
                "pass@32": float(pass_at_k(SAMPLES, correct, 32)),
                "distinct_right": len({v.canonical for v in verdicts if v.correct}),
                "unparsed": sum(v.status == "unparsed" for v in verdicts) / SAMPLES,
                "tokens": fmean(batch.length_B[own].tolist()),
                "entropy_nats_sum": fmean(entropy_B[own].tolist()),
                "max_tokens": int(batch.length_B[own].max()),
            }
            rows["all"].append(row)
            rows[problem.meta["family"]].append(row)
        figures[split] = {name: _summary(group) for name, group in rows.items()}
    return figures


def _summary(rows: list[dict[str, float]]) -> dict[str, float]:
    summary = {name: fmean(row[name] for row in rows) for name in rows[0]}
    summary["max_tokens"] = max(row["max_tokens"] for row in rows)
    # Token mean: all entropy over all tokens, so long responses weigh more.
    summary["entropy_nats_per_token"] = summary["entropy_nats_sum"] / summary["tokens"]
    return {name: round(value, 4) for name, value in summary.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=BASE_DIR, help="folder of the base model")
    model = parser.parse_args().model

    import torch

    torch.set_num_threads(1)
    figures = {
        "base": base_figures(model),
        "blind_pass@32": blind_guess_figures(),
        "distinct_training_problems_in_200k_draws": problem_space(),
    }
    write_json(CALIBRATION_FILE, figures)
    for split, groups in figures["base"].items():
        print(split, groups["all"])


if __name__ == "__main__":
    main()
