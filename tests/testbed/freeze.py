"""Digests of what records of drawn problems refer to: ``python -m tests.testbed.freeze`` writes ``FROZEN``.

A run's identity reads the file (:meth:`benchmarks.micro.testbed.Micro.fingerprint`) and generates nothing; a
test compares the files with these digests.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from itertools import islice
from typing import get_args

from benchmarks.micro import testbed as micro
from benchmarks.words import problems as words
from harness.problem_sets.generated import GeneratedSet, Level
from harness.problems.problem import Problem
from harness.util.files import write_json
from tests.testbed.demonstrations import spoil

JUDGED = 60
"""Problems per family and level whose verdicts are part of the digest."""


def problems_digest(problems: GeneratedSet) -> str:
    """sha256 over every problem of every split: id, prompt and what the verifier reads."""
    digest = hashlib.sha256()
    for split in problems.splits():
        for problem in problems.problems(split):
            line = [problem.id, problem.prompt, dict(problem.meta)]
            digest.update(json.dumps(line, sort_keys=True).encode())
    return digest.hexdigest()


def verdicts_digest(problems: GeneratedSet, spoilt: Callable[[random.Random, str, str], str]) -> str:
    """sha256 over the verdicts on right, spoilt and guessed answers: it changes when the verifier does."""
    digest, rng = hashlib.sha256(), random.Random(f"{problems.salt}-verdicts")
    for name, family in problems.families.items():
        for level in get_args(Level):
            for drawn in islice(problems.stream(family, "test", {level: 1.0}, "verdicts"), JUDGED):
                problem = Problem("", drawn.prompt, meta={"family": name, **drawn.meta})
                texts = [drawn.solution, drawn.solution + "0", family.guess(rng)]
                texts += [spoilt(rng, name, drawn.solution) for _ in range(4)]
                for text in texts:
                    verdict = problems.verify(problem, text)
                    line = [drawn.prompt, text, verdict.status, verdict.canonical]
                    digest.update(json.dumps(line).encode())
    return digest.hexdigest()


def micro_verdicts() -> str:
    """:func:`verdicts_digest` of the micro testbed."""
    return verdicts_digest(micro.Micro(), lambda rng, name, text: spoil(rng, name, text, ""))


def _cut(rng: random.Random, _: str, text: str) -> str:
    """``text`` with one piece between blanks left out or doubled."""
    pieces = text.split(" ")
    at = rng.randrange(len(pieces))
    return " ".join([*pieces[:at], *(pieces[at : at + 1] * rng.choice((0, 2))), *pieces[at + 1 :]])


def base_digest() -> str:
    """sha256 over the base model's configuration, weights and tokenizer."""
    digest = hashlib.sha256()
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        digest.update(hashlib.sha256((micro.BASE_DIR / file).read_bytes()).digest())
    return digest.hexdigest()


def digests() -> dict[str, dict[str, str]]:
    """What the ``FROZEN`` of each set must hold."""
    return {
        "micro": {
            "version": micro.VERSION, "verifier": micro.VERIFIER_VERSION,
            "problems": problems_digest(micro.Micro()),
            "verdicts": micro_verdicts(),
            "base": base_digest(),
        },
        "words": {
            "version": words.VERSION, "verifier": words.VERIFIER_VERSION,
            "problems": problems_digest(words.Words()), "verdicts": verdicts_digest(words.Words(), _cut),
        },
    }  # fmt: skip


if __name__ == "__main__":
    for set_name, found in digests().items():
        write_json({"micro": micro, "words": words}[set_name].FROZEN_FILE, found)
