"""AIME 2024, both contests: 30 problems whose answers are whole numbers from 0 to 999."""

from entrobench import Hub, MathSet, Part, register_benchmark, whole_number


@register_benchmark("aime24")
class Aime24(MathSet):
    small = True
    parts = {
        "test": Part(
            file="aime24",
            rows=30,
            digest="9e8cb4ec19c76233",
            hub=Hub("HuggingFaceH4/aime_2024", split="train", read_answer=whole_number),
        )
    }
