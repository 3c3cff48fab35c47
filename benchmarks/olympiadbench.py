"""OlympiadBench: the 675 English, text-only mathematics problems with a final answer."""

from benchmarks.math_data import Hub, Part, joined
from benchmarks.math_set import MathSet


class OlympiadBench(MathSet):
    name = "olympiadbench"
    parts = {
        "test": Part(
            file="olympiadbench",
            rows=675,
            digest="efddf3caa379e321",
            hub=Hub(
                "Hothan/OlympiadBench",
                config="OE_TO_maths_en_COMP",
                split="train",
                problem=("question",),
                answer=("final_answer",),
                read_answer=joined,
            ),
        )
    }
