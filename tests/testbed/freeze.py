"""Digests of what the testbed's records refer to: ``python -m tests.testbed.freeze`` writes ``FROZEN``.

A run's identity reads the file (:meth:`benchmarks.micro.testbed.Micro.fingerprint`) and generates nothing; a
test compares the file with these digests.
"""

from __future__ import annotations

import hashlib
import json
import random
from itertools import islice
from typing import get_args

from benchmarks.micro.testbed import (
    BASE_DIR,
    FAMILIES,
    FROZEN_FILE,
    SPLITS,
    VERIFIER_VERSION,
    VERSION,
    Micro,
    stream,
)
from harness.problem_sets.generated import Level
from harness.problems.problem import Problem
from harness.util.files import write_json
from tests.testbed.demonstrations import spoil

JUDGED = 60
"""Problems per family and level whose verdicts are part of the digest."""


def problems_digest() -> str:
    """sha256 over every problem of every split: id, prompt and what the verifier reads."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for problem in Micro().problems(split):
            line = [problem.id, problem.prompt, dict(problem.meta)]
            digest.update(json.dumps(line, sort_keys=True).encode())
    return digest.hexdigest()


def verdicts_digest() -> str:
    """sha256 over the verdicts on right, spoilt and guessed answers: it changes when the verifier does."""
    digest, rng = hashlib.sha256(), random.Random("micro-verdicts")
    for name, family in FAMILIES.items():
        for level in get_args(Level):
            for drawn in islice(stream(family, "test", {level: 1.0}, "verdicts"), JUDGED):
                problem = Problem("", drawn.prompt, meta={"family": name, **drawn.meta})
                texts = [drawn.solution, drawn.solution + "0", family.guess(rng)]
                texts += [spoil(rng, name, drawn.solution, "") for _ in range(4)]
                for text in texts:
                    verdict = Micro().verify(problem, text)
                    line = [drawn.prompt, text, verdict.status, verdict.canonical]
                    digest.update(json.dumps(line).encode())
    return digest.hexdigest()


def base_digest() -> str:
    """sha256 over the base model's configuration, weights and tokenizer."""
    digest = hashlib.sha256()
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        digest.update(hashlib.sha256((BASE_DIR / file).read_bytes()).digest())
    return digest.hexdigest()


def digests() -> dict[str, str]:
    """What ``FROZEN`` must hold."""
    return {
        "version": VERSION,
        "verifier": VERIFIER_VERSION,
        "problems": problems_digest(),
        "verdicts": verdicts_digest(),
        "base": base_digest(),
    }


if __name__ == "__main__":
    write_json(FROZEN_FILE, digests())
