"""Family ``sentence``: a sentence of so many words, all different, that holds a given word.

"Write a sentence of five words with the word river." A response is ``The river is very deep.`` Only its form
is judged: a capital letter, letters and spaces, an end mark; whether it is English, nobody checks.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any

from benchmarks.words.lists import WORDS
from entrobench import WRONG_FORMAT, DrawnProblem, Level, Verdict

_COUNTS = ("", "", "", "three", "four", "five", "six", "seven", "eight", "nine")
_SENTENCE = re.compile(r"(?:[A-Z][a-z']*|[AI])(?: [A-Za-z][a-z']*)+[.!?]")
_FILL = ("the", "old", "man", "saw", "a", "very", "small", "thing", "near", "his", "new", "home")


class Sentences:
    """Four to six words; ``stretch`` asks for seven, ``hard`` for eight or nine, ``ood`` holds two words."""

    name = "sentence"
    examples = (
        ("Write a sentence of four words with the word home.", "Our home is small."),
        ("Write a sentence of six words with the word pencil.", "I lost my pencil last week."),
    )

    def draw(self, rng: random.Random, level: Level) -> DrawnProblem:
        count = {"stretch": 7, "hard": rng.randint(8, 9)}.get(level) or rng.randint(4, 6)
        words = sorted(rng.sample(WORDS, 2 if level == "ood" else 1))
        said = f"the word {words[0]}" if len(words) == 1 else f"the words {words[0]} and {words[1]}"
        held = [*words, *(w for w in rng.sample(_FILL, len(_FILL)) if w not in words)][:count]
        rng.shuffle(held)
        solution = " ".join(held).capitalize() + "."
        meta = {"count": count, "words": words}
        return DrawnProblem(f"Write a sentence of {_COUNTS[count]} words with {said}.", meta, solution)

    def verify(self, meta: Mapping[str, Any], text: str) -> Verdict:
        if not _SENTENCE.fullmatch(text):
            return WRONG_FORMAT
        words = text[:-1].lower().split(" ")
        is_right = len(words) == meta["count"] == len(set(words)) and set(meta["words"]) <= set(words)
        return Verdict("right" if is_right else "wrong", " ".join(words))

    def guess(self, rng: random.Random) -> str:
        return " ".join(rng.sample(_FILL, rng.randint(4, 7))).capitalize() + "."
