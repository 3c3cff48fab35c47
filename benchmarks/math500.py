"""MATH-500: the 500 problems of MATH's test split that PRM800K set aside."""

from benchmarks.math_data import Hub, Part
from benchmarks.math_set import MathSet


class Math500(MathSet):
    name = "math500"
    parts = {
        "test": Part(
            file="math500",
            rows=500,
            digest="39631e211598d489",
            hub=Hub("HuggingFaceH4/MATH-500", split="test"),
        )
    }
