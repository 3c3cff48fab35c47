"""The micro problem set: splits that are disjoint by construction, one verifier, a frozen fingerprint.

The hash of a problem's canonical key decides whether it belongs to training, validation or test;
training problems and demonstrations of the base model come from the training bucket only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.micro.chains import Chains
from benchmarks.micro.digits import Digits
from benchmarks.micro.family import MAX_RESPONSE_TOKENS
from benchmarks.micro.sums import Sums
from entrobench import (
    WRONG_FORMAT,
    Bucket,
    GeneratedSet,
    Mix,
    Problem,
    ProblemFamily,
    Verdict,
    register_benchmark,
)

VERSION = "2"
VERIFIER_VERSION = "1"
"""Raised when a verdict changes; a test notices that."""
BASE_DIR = Path(__file__).parent / "base"
FROZEN_FILE = Path(__file__).parent / "FROZEN"
REGIMES_FILE = Path(__file__).parent / "regimes.json"
FAMILIES: dict[str, ProblemFamily] = {family.name: family for family in (Sums(), Chains(), Digits())}

STRETCH_SHARE = 0.2
"""Share of ``stretch`` problems in training, validation and ``test_id``; the others are ``easy``."""
_ID: Mix = {"easy": 1 - STRETCH_SHARE, "stretch": STRETCH_SHARE}

SPLITS: dict[str, tuple[Bucket, Mix, int]] = {
    "train": ("train", _ID, 21_000),
    "validation": ("validation", _ID, 96),
    "test_id": ("test", _ID, 100),
    "test_hard": ("test", {"hard": 1.0}, 100),
    "test_ood": ("test", {"ood": 1.0}, 100),
}
"""Split name -> (bucket of the key, shares of the levels, number of problems)."""


@register_benchmark("micro", models={"micro": "base", "micro-expert": "expert"})
class Micro(GeneratedSet):
    """Sums, chains and digit strings with many valid answers each (see the family modules)."""

    version = VERSION
    salt = "micro"
    families = FAMILIES
    recipes = SPLITS
    whole_frontier = True
    """A frontier takes all validation problems: answers have eight tokens, and curves are to be smooth."""

    def verify(self, problem: Problem, text: str) -> Verdict:
        text = text.strip()
        if len(text) >= MAX_RESPONSE_TOKENS:
            return WRONG_FORMAT
        return super().verify(problem, text)

    def second_prompt(self, problem: Problem, answer: str) -> str:
        """The problem once more behind its first answer; characters have no words for "on another path"."""
        return f"{answer.strip()},{problem.prompt}"

    def regimes(self) -> Mapping[str, Any]:
        """``name@version`` -> frozen settings of sweeps and their digest; see ``docs/regimes.md``."""
        return dict(json.loads(REGIMES_FILE.read_text()))

    def fingerprint(self) -> str:
        """sha256 over ``FROZEN``: version, verifier version, digests of problems, verdicts and base weights.

        Nothing is generated: a plan asks for it many times. A test compares the file with what there is.
        """
        return hashlib.sha256(json.dumps(frozen(), sort_keys=True).encode()).hexdigest()


bucket_of, stream = Micro.bucket_of, Micro.stream


def frozen() -> dict[str, str]:
    """What published records refer to (see :mod:`tests.testbed.freeze`)."""
    return dict(json.loads(FROZEN_FILE.read_text()))
