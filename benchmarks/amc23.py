"""AMC 12, 2023: the 40 problems of the Qwen2.5-Math suite. Not comparable with the 83 of ``amc22_23``."""

from entrobench import Hub, MathSet, Part, register_benchmark, whole_number


@register_benchmark("amc23")
class Amc23(MathSet):
    small = True
    parts = {
        "test": Part(
            file="amc23",
            rows=40,
            digest="f2a3d791de0dd6b2",
            hub=Hub("math-ai/amc23", split="test", read_answer=whole_number),
        )
    }
