"""AMC 12, 2022 and 2023: the 83 problems that the oat suite calls "amc". They hold the 40 of ``amc23``."""

from entrobench import Hub, MathSet, Part, register_benchmark, whole_number


@register_benchmark("amc22_23")
class Amc2223(MathSet):
    small = True
    parts = {
        "test": Part(
            file="amc22_23",
            rows=83,
            digest="c3671e3145b9bd92",
            hub=Hub("AI-MO/aimo-validation-amc", split="train", read_answer=whole_number),
        )
    }
