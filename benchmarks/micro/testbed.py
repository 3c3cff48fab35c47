"""The micro problem set: splits that are disjoint by construction, one verifier, a frozen fingerprint.

The hash of a problem's canonical key decides whether it belongs to training, validation or test;
training problems and demonstrations of the base model come from the training bucket only.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from benchmarks.micro.chains import Chains
from benchmarks.micro.digits import Digits
from benchmarks.micro.family import MAX_RESPONSE_TOKENS, WRONG_FORMAT, Drawn, Family, Level
from benchmarks.micro.sums import Sums
from entrobench import Problem, Verdict, register_benchmark

VERSION = "2"
VERIFIER_VERSION = "1"
"""Raised when a verdict changes; a test notices that."""
BASE_DIR = Path(__file__).parent / "base"
FROZEN_FILE = Path(__file__).parent / "FROZEN"
REGIMES_FILE = Path(__file__).parent / "regimes.json"
FAMILIES: dict[str, Family] = {family.name: family for family in (Sums(), Chains(), Digits())}

Bucket = Literal["train", "validation", "test"]

STRETCH_SHARE = 0.2
"""Share of ``stretch`` problems in training, validation and ``test_id``; the others are ``easy``."""
Mix = dict[Level, float]
_ID: Mix = {"easy": 1 - STRETCH_SHARE, "stretch": STRETCH_SHARE}

SPLITS: dict[str, tuple[Bucket, Mix, int]] = {
    "train": ("train", _ID, 21_000),
    "validation": ("validation", _ID, 96),
    "test_id": ("test", _ID, 100),
    "test_hard": ("test", {"hard": 1.0}, 100),
    "test_ood": ("test", {"ood": 1.0}, 100),
}
"""Split name -> (bucket of the key, shares of the levels, number of problems)."""


def bucket_of(key: str) -> Bucket:
    """Bucket of a canonical key: 80 % train, 5 % validation, 15 % test."""
    share = int.from_bytes(hashlib.sha256(f"micro|{key}".encode()).digest()[:8], "big") % 100
    return "train" if share < 80 else "validation" if share < 85 else "test"


def stream(family: Family, bucket: Bucket, mix: Mix, seed: str, version: str = VERSION) -> Iterator[Drawn]:
    """Endless deterministic stream of problems with solutions of one family, bucket and level mix."""
    rng = random.Random(f"micro-{version}-{family.name}-{bucket}-id-{seed}")
    levels, shares = list(mix), list(mix.values())
    while True:
        level = rng.choices(levels, shares)[0] if len(levels) > 1 else levels[0]
        # The level is kept until a problem of the bucket turns up, so that its share is exact.
        while bucket_of((drawn := family.draw(rng, level)).prompt) != bucket:
            pass
        yield drawn


@cache
def _split(split: str) -> tuple[Problem, ...]:
    bucket, mix, count = SPLITS[split]
    streams = [(f.name, stream(f, bucket, mix, split)) for f in FAMILIES.values()]
    seen: set[str] = set()
    problems: list[Problem] = []
    while len(problems) < count:
        # Families take turns, so every prefix of a split is balanced.
        name, source = streams[len(problems) % len(streams)]
        drawn = next(d for d in source if d.prompt not in seen)
        seen.add(drawn.prompt)
        meta = {"family": name, **drawn.meta}
        problems.append(Problem(f"micro/{split}/{len(problems):05d}", drawn.prompt, meta=meta))
    return tuple(problems)


@register_benchmark("micro", models={"micro": "base"})
class Micro:
    """Sums, chains and digit strings with many valid answers each (see the family modules)."""

    name: str
    version = VERSION
    whole_frontier = True
    """A frontier takes all validation problems: answers have eight tokens, and curves are to be smooth."""

    def splits(self) -> Sequence[str]:
        return tuple(SPLITS)

    def problems(self, split: str) -> Sequence[Problem]:
        """All problems of ``split``; built on first use, always in the same order."""
        if split not in SPLITS:
            raise ValueError(f"micro has no split {split!r}; choose one of {', '.join(SPLITS)}")
        return _split(split)

    def size(self, split: str) -> int:
        return SPLITS[split][2]

    def verify(self, problem: Problem, text: str) -> Verdict:
        text = text.strip()
        if len(text) >= MAX_RESPONSE_TOKENS:
            return WRONG_FORMAT
        return FAMILIES[problem.meta["family"]].verify(problem.meta, text)

    def regimes(self) -> Mapping[str, Any]:
        """``name@version`` -> frozen settings of sweeps and their digest; see ``docs/regimes.md``."""
        return dict(json.loads(REGIMES_FILE.read_text()))

    def fingerprint(self) -> str:
        """sha256 over ``FROZEN``: version, verifier version, digests of problems, verdicts and base weights.

        Nothing is generated: a plan asks for it many times. A test compares the file with what there is.
        """
        return hashlib.sha256(json.dumps(frozen(), sort_keys=True).encode()).hexdigest()


def frozen() -> dict[str, str]:
    """What published records refer to (see :mod:`tests.testbed.freeze`)."""
    return dict(json.loads(FROZEN_FILE.read_text()))
