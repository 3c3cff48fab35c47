"""Sets of problems that are drawn, not read: splits that are disjoint by construction, always the same.

The hash of a problem's canonical text decides whether it belongs to training, validation or test, so that no
problem of an evaluation split can occur in training, whatever is drawn from it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar, Literal, Protocol

from harness.problems.problem import Problem, Verdict

#: What a problem may be used for.
Bucket = Literal["train", "validation", "test"]
#: ``easy`` and ``stretch`` are trained on, validated on and tested; ``hard`` has more or larger constraints,
#: and ``ood`` combined ones, both for tests only.
Level = Literal["easy", "stretch", "hard", "ood"]
#: Shares of the levels in a split.
Mix = Mapping[Level, float]
#: Draws without a new problem after which a family is taken to have no more.
TRIES = 100_000
#: The verdict on a response that is no answer at all.
WRONG_FORMAT = Verdict("unparsed")


@dataclass(frozen=True)
class DrawnProblem:
    """A solvable problem together with one solution of it.

    ``prompt`` is the canonical text: two problems that are equal up to reordering have the same.
    """

    prompt: str
    meta: Mapping[str, Any]
    solution: str


class ProblemFamily(Protocol):
    """One kind of problem: a generator, an exact verifier and a problem-independent guesser."""

    name: str

    def draw(self, rng: random.Random, level: Level) -> DrawnProblem:
        """Draw a problem of ``level`` that has a solution."""

    def verify(self, meta: Mapping[str, Any], text: str) -> Verdict:
        """Judge a stripped response that is short enough."""

    def guess(self, rng: random.Random) -> str:
        """A well-formed answer drawn from the grammar without seeing a problem."""


class GeneratedSet:
    """Base of the drawn sets.

    Class attributes:
        salt: what every hash and every draw begins with; changing it changes every problem.
        families: take turns in every split, so that every prefix of a split is balanced.
        recipes: split -> (bucket of the canonical text, shares of the levels, number of problems).
        shares: percent of canonical texts in training and in validation; the others are for tests.
        own_prompts: no template is put around a question, and the set judges responses by itself.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    salt: ClassVar[str]
    families: ClassVar[Mapping[str, ProblemFamily]]
    recipes: ClassVar[Mapping[str, tuple[Bucket, Mix, int]]]
    shares: ClassVar[tuple[int, int]] = (80, 5)
    own_prompts: ClassVar[bool] = True
    _made: ClassVar[dict[tuple[type, str], tuple[Problem, ...]]] = {}

    @classmethod
    def bucket_of(cls, key: str) -> Bucket:
        """Where a canonical text belongs."""
        digest = hashlib.sha256(f"{cls.salt}|{key}".encode()).digest()
        share, (train, validation) = int.from_bytes(digest[:8], "big") % 100, cls.shares
        return "train" if share < train else "validation" if share < train + validation else "test"

    @classmethod
    def stream(
        cls, family: ProblemFamily, bucket: Bucket, mix: Mix, seed: str, version: str = ""
    ) -> Iterator[DrawnProblem]:
        """Endless deterministic stream of problems with solutions of one family, bucket and level mix."""
        rng = random.Random(f"{cls.salt}-{version or cls.version}-{family.name}-{bucket}-id-{seed}")
        levels, shares = list(mix), list(mix.values())
        while True:
            level = rng.choices(levels, shares)[0] if len(levels) > 1 else levels[0]
            # The level is kept until a problem of the bucket turns up, so that its share is exact.
            while cls.bucket_of((drawn := family.draw(rng, level)).prompt) != bucket:
                pass
            yield drawn

    def splits(self) -> Sequence[str]:
        return tuple(self.recipes)

    def size(self, split: str) -> int:
        return self.recipes[split][2]

    def problems(self, split: str) -> Sequence[Problem]:
        """All problems of ``split``; built on first use, always in the same order."""
        if split not in self.recipes:
            raise ValueError(f"{self.name} has no split {split!r}; choose one of {', '.join(self.recipes)}")
        key = type(self), split
        if key not in self._made:
            self._made[key] = tuple(self._drawn(split))
        return self._made[key]

    def _drawn(self, split: str) -> Iterator[Problem]:
        bucket, mix, count = self.recipes[split]
        streams = [(name, self.stream(f, bucket, mix, split)) for name, f in self.families.items()]
        seen: set[str] = set()
        for number in range(count):
            name, source = streams[number % len(streams)]
            drawn = next((d for d in islice(source, TRIES) if d.prompt not in seen), None)
            if drawn is None:
                raise ValueError(f"{self.name}: family {name} has too few problems for {count} in {split}")
            seen.add(drawn.prompt)
            problem = self.problem(f"{self.salt}/{split}/{number:05d}", name, drawn)
            yield replace(problem, solution=drawn.solution)

    def demonstration(self, problem: Problem) -> str:
        """The solution that ``problem`` was drawn with: a right answer."""
        return problem.solution

    def problem(self, key: str, family: str, drawn: DrawnProblem) -> Problem:
        """What the model is given of a drawn problem."""
        return Problem(key, drawn.prompt, meta={"family": family, **drawn.meta})

    def verify(self, problem: Problem, text: str) -> Verdict:
        return self.families[problem.meta["family"]].verify(problem.meta, text.strip())
