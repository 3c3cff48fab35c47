"""AIME 2025, both contests: 30 problems whose answers are whole numbers from 0 to 999."""

from benchmarks.math_data import Hub, Part, whole_number
from benchmarks.math_set import MathSet


class Aime25(MathSet):
    name = "aime25"
    small = True
    parts = {
        "test": Part(
            file="aime25",
            rows=30,
            digest="33d544d2e2dab229",
            hub=Hub("math-ai/aime25", split="test", read_answer=whole_number),
        )
    }
