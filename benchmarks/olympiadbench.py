"""OlympiadBench: the 675 English, text-only mathematics problems with a final answer."""

from entrobench import Hub, MathSet, Part, joined, register_benchmark


@register_benchmark("olympiadbench")
class OlympiadBench(MathSet):
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
