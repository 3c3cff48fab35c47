"""AIME 2025, both contests: 30 problems whose answers are whole numbers from 0 to 999."""

from entrobench import Hub, MathSet, Part, register_benchmark, whole_number


@register_benchmark("aime25")
class Aime25(MathSet):
    small = True
    parts = {
        "test": Part(
            file="aime25",
            rows=30,
            digest="33d544d2e2dab229",
            hub=Hub("math-ai/aime25", split="test", read_answer=whole_number),
        )
    }
