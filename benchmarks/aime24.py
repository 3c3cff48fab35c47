"""AIME 2024, both contests: 30 problems whose answers are whole numbers from 0 to 999."""

from benchmarks.math_data import Hub, Part, whole_number
from benchmarks.math_set import MathSet


class Aime24(MathSet):
    name = "aime24"
    small = True
    parts = {
        "test": Part(
            file="aime24",
            rows=30,
            digest="9e8cb4ec19c76233",
            hub=Hub("HuggingFaceH4/aime_2024", split="train", read_answer=whole_number),
        )
    }
