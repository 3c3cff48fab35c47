"""The problem set ``words``: names, numbers and sentences that a small model gets right now and then."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from benchmarks.words.names import Names
from benchmarks.words.numbers import Rise, Sums
from benchmarks.words.sentences import Sentences
from entrobench import (
    WRONG_FORMAT,
    Bucket,
    DrawnProblem,
    GeneratedSet,
    Mix,
    Problem,
    UserError,
    Verdict,
    register_benchmark,
)

VERSION = "1"
VERIFIER_VERSION = "1"
"""Raised when a verdict changes; a test notices that."""
FROZEN_FILE = Path(__file__).parent / "FROZEN"
FAMILIES = {family.name: family for family in (Names(), Rise(), Sums(), Sentences())}
MAX_CHARACTERS = 120
"""Longer responses are no answer; right ones take at most 32 tokens."""

STRETCH_SHARE = 0.2
"""Share of ``stretch`` problems in training, validation and ``test_id``; the others are ``easy``."""
_ID: Mix = {"easy": 1 - STRETCH_SHARE, "stretch": STRETCH_SHARE}

SPLITS: dict[str, tuple[Bucket, Mix, int]] = {
    "train": ("train", _ID, 560),
    "validation": ("validation", _ID, 48),
    "test_id": ("test", _ID, 100),
    "test_hard": ("test", {"hard": 1.0}, 60),
    "test_ood": ("test", {"ood": 1.0}, 60),
}
"""Split name -> (bucket of the question, shares of the levels, number of problems)."""


def prompt_of(question: str, family: str) -> str:
    """Two answered questions and this one, as turns of ChatML: SmolLM2's and Qwen's own form."""
    turns = [*((q, a) for q, a in FAMILIES[family].examples), (question, None)]
    return "".join(
        f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
        + (f"{answer}<|im_end|>\n" if answer is not None else "")
        for asked, answer in turns
    )


@register_benchmark("words")
class Words(GeneratedSet):
    """Names, rising numbers, sums and sentences in plain English (see the family modules)."""

    version = VERSION
    salt = "words"
    families = FAMILIES
    recipes = SPLITS
    shares = (70, 10)
    whole_frontier = True
    """A frontier takes all validation problems: responses are short, and curves are to be smooth."""

    def problem(self, key: str, family: str, drawn: DrawnProblem) -> Problem:
        meta = {"family": family, "question": drawn.prompt, **drawn.meta}
        return Problem(key, prompt_of(drawn.prompt, family), meta=meta)

    def verify(self, problem: Problem, text: str) -> Verdict:
        if len(text.strip()) > MAX_CHARACTERS:
            return WRONG_FORMAT
        return super().verify(problem, text)

    def fingerprint(self) -> str:
        """sha256 over ``FROZEN``: version, verifier version, digests of problems and verdicts.

        Nothing is generated: a plan asks for it many times. A test compares the file with what there is.
        """
        return hashlib.sha256(json.dumps(frozen(), sort_keys=True).encode()).hexdigest()


def frozen() -> dict[str, str]:
    """What published records refer to (see :mod:`tests.testbed.freeze`).

    Raises:
        UserError: the file is of another version than the problems that are drawn here.
    """
    found = dict(json.loads(FROZEN_FILE.read_text()))
    for name, own in (("version", VERSION), ("verifier", VERIFIER_VERSION)):
        if found.get(name) != own:
            raise UserError(
                f"{FROZEN_FILE} has {name} {found.get(name)} of words, and the problems here are of {name} "
                f"{own}; take file and code from the same checkout (git checkout -- benchmarks/words)"
            )
    return found
