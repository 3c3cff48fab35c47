"""AMC 12, 2022 and 2023: the 83 problems that the oat suite calls "amc". They hold the 40 of ``amc23``."""

from benchmarks.math_data import Hub, Part, whole_number
from benchmarks.math_set import MathSet


class Amc2223(MathSet):
    name = "amc22_23"
    small = True
    parts = {
        "test": Part(
            file="amc22_23",
            rows=83,
            digest="c3671e3145b9bd92",
            hub=Hub("AI-MO/aimo-validation-amc", split="train", read_answer=whole_number),
        )
    }
