"""Calibration figures of the base model and of blind guessing, written to ``base/calibration.json``."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import islice
from math import comb
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.micro.chains import legal_walk
from benchmarks.micro.testbed import FAMILIES, SPLITS, Micro, stream
from harness.problems import Problem

EVAL_SPLITS = ("validation", "test_id", "test_hard", "test_ood")
SAMPLES = 64
GUESSES = 4096


def pass_at(k: int, samples: int, correct: int) -> float:
    """Unbiased estimate of the chance that at least one of ``k`` samples is right."""
    return 1.0 - comb(samples - correct, k) / comb(samples, k)


def blind_guess_figures() -> dict[str, dict[str, float]]:
    """Mean pass@32 per split of guessing without reading the prompt.

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
            guesses["grammar", name] = [family.guess(rng) for _ in range(GUESSES)]
            source = islice(stream(family, "train", mix, "guess"), GUESSES)
            guesses["foreign", name] = [drawn.solution for drawn in source]
        for problem in bench.problems(split):
            name = problem.meta["family"]
            tries = {kind: guesses[kind, name] for kind in ("grammar", "foreign")}
            if name == "chain":
                tries["target_blind"] = _walks(problem)
            for kind, texts in tries.items():
                correct = sum(bench.verify(problem, text).correct for text in texts)
                scores[kind].append(pass_at(32, len(texts), correct))
                scores[f"{kind}/{name}"].append(scores[kind][-1])
        figures[split] = {kind: round(fmean(values), 4) for kind, values in sorted(scores.items())}
    return figures


def _walks(problem: Problem) -> list[str]:
    rng = random.Random(problem.id)
    walks = [legal_walk(rng, problem.meta, rng.randint(3, 7)) for _ in range(GUESSES // 4)]
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
    from transformers import AutoTokenizer, Qwen2ForCausalLM

    from benchmarks.micro.sampling import sample_responses

    model = Qwen2ForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    bench = Micro()
    figures: dict[str, Any] = {}
    for seed, split in enumerate(EVAL_SPLITS):
        problems = bench.problems(split)
        texts, lengths, entropies = sample_responses(
            model, tokenizer, [problem.prompt for problem in problems], SAMPLES, seed
        )
        rows = defaultdict(list)
        for i, problem in enumerate(problems):
            verdicts = [bench.verify(problem, text) for text in texts[i]]
            correct = sum(verdict.correct for verdict in verdicts)
            row = {
                "pass@1": correct / SAMPLES,
                "pass@32": pass_at(32, SAMPLES, correct),
                "distinct_right": len({v.canonical for v in verdicts if v.correct}),
                "unparsed": sum(v.status == "unparsed" for v in verdicts) / SAMPLES,
                "tokens": fmean(lengths[i]),
                "entropy_nats_sum": fmean(entropies[i]),
                "max_tokens": max(lengths[i]),
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
