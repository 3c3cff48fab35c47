"""DAPO-Math-17k: 17,398 competition problems with whole-number answers, English and Chinese.

About five hundred rows repeat another one's text; eight of those groups disagree about the answer.
"""

from benchmarks.math_data import Hub, Part
from benchmarks.math_set import MathSet


class DapoMath17k(MathSet):
    name = "dapo-math-17k"
    parts = {
        "train": Part(
            file="dapo_math_17k",
            rows=17398,
            digest="13c9991977440da0",
            # The original repository repeats every row about a hundred times; this copy holds each once.
            hub=Hub(
                "open-r1/DAPO-Math-17k-Processed",
                config="all",
                split="train",
                problem=("prompt",),
                answer=("solution",),
            ),
        )
    }
    overlapping = frozenset(
        """
        010c0b4d6ffb 0213cb5e8573 24029e1bd44d 240a3f9c8151 279d9cdc169e 2d1fef08412f 33e6dd69789e
        3e19754de869 40e2ff48b70f 497b369037b7 4a014809f54b 57dce41e158a 61db339ea71e 67355896fbff
        730a01d78d31 7c972b4312b9 7ea68481dc49 7fbb46ce99a4 82aa4a22f631 84e4cccaad05 91a585b0e351
        94f9a99dbdba 9be06086b028 a81765c1f868 d9623da1bb0e d997a9680d72 db69bb16de04 e091be07f7b9
        ffedbdf7dab2
        """.split()
    )
