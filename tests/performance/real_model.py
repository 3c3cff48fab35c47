"""SmolLM2-135M and the problems of the real-model cases: GSM8K where it can be read, else ours of its kind.

The weights are those of ``entrobench prefetch-model smollm2-135m``; GSM8K is read as in a run (from
``ENTROBENCH_DATA``, the copy that was fetched, or the hub). Without it the bench makes word problems of the
same length, so that it needs the weights and nothing else: a result says which it was (``problems``).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

from harness.model.policy import Policy, load_policy
from harness.model.source import resolve_model
from harness.problems.problem import Benchmark, Problem, Verdict
from harness.registry import benchmarks
from harness.util.errors import UserError

MODEL = "smollm2-135m"
NAMES = ("Mina", "Tariq", "Olga", "Kenji", "Rosa", "Samuel", "Ingrid", "Bao")
GOODS = ("pencils", "apples", "tickets", "stickers", "marbles", "candles", "notebooks", "shells")
ASKED = "Please reason step by step, and put your final answer within \\boxed{}."


class WordProblems:
    """Grade-school word problems of some 120 tokens, made from a seed."""

    name, version = "word-problems", "1"

    def splits(self) -> Sequence[str]:
        return ("train",)

    def problems(self, split: str) -> Sequence[Problem]:
        if split not in self.splits():
            raise ValueError(f"unknown split '{split}'; choose train")
        draw = random.Random(1)
        return [self._problem(draw, i) for i in range(400)]

    def _problem(self, draw: random.Random, index: int) -> Problem:
        (one, two), what = draw.sample(NAMES, 2), draw.choice(GOODS)
        boxes, each, given, price = (draw.randint(3, 20) for _ in range(4))
        text = (
            f"{one} buys {boxes} boxes of {what} at the market on Saturday, and every box holds {each} "
            f"{what}. On the way home {one} meets {two}, who already has {given} {what}, and gives {two} "
            f"half of what the boxes hold, rounded down. The next day {two} sells all the {what} to the "
            f"neighbours for {price} cents apiece and puts the money into a jar. How many cents are in the "
            "jar in the end?"
        )
        answer = (boxes * each // 2 + given) * price
        return Problem(f"word-problems/{index:03d}", f"{text}\n{ASKED}\n", answer=str(answer))

    def verify(self, problem: Problem, text: str) -> Verdict:
        said = text.rpartition("\\boxed{")[2].partition("}")[0].strip()
        return Verdict("right" if said == problem.answer else "wrong", said or None)

    def verify_all(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Verdict]:
        return [self.verify(p, t) for p, t in zip(problems, texts, strict=True)]

    def fingerprint(self) -> str:
        return self.version


class Endless(Policy):
    """A policy whose responses end at the limit only, so that both sides of a comparison do equal work."""

    @classmethod
    def of(cls, policy: Policy) -> Endless:
        """The same model without ends."""
        return cls(policy.model, policy.tokenizer, policy.temperature, network=policy.network)

    @property
    def eos_ids(self) -> tuple[int, ...]:
        return (-1,)


@cache
def problems() -> Benchmark:
    """GSM8K, or the word problems where its training set can neither be read nor fetched."""
    gsm8k: Benchmark = benchmarks.load("gsm8k")
    try:
        gsm8k.problems("train")
    except (UserError, ImportError):
        return WordProblems()
    return gsm8k


def folder() -> str:
    """Where the weights are.

    Raises:
        UserError: they were never fetched; the message names the command.
    """
    return resolve_model(MODEL, benchmarks.shipped_models())


def policy(dtype: str = "float32") -> Policy:
    """The weights on the CPU; see :func:`folder`."""
    return load_policy(folder(), dtype=dtype, device="cpu")


def prompts(of: Policy, count: int) -> list[list[int]]:
    """Token ids of the first ``count`` training problems."""
    return [of.encode(p.prompt) for p in problems().problems("train")[:count]]
