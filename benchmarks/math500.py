"""MATH-500: the 500 problems of MATH's test split that PRM800K set aside."""

from entrobench import Hub, MathSet, Part, register_benchmark


@register_benchmark("math500")
class Math500(MathSet):
    parts = {
        "test": Part(
            file="math500",
            rows=500,
            digest="39631e211598d489",
            hub=Hub("HuggingFaceH4/MATH-500", split="test"),
        )
    }
