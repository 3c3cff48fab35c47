"""DAPO-Math-17k: 17,398 competition problems with whole-number answers, English and Chinese.

About five hundred rows repeat another one's text; eight of those groups disagree about the answer.
"""

from entrobench import Hub, MathSet, Part, register_benchmark


@register_benchmark("dapo-math-17k")
class DapoMath17k(MathSet):
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
            held_out=514,
        )
    }
    overlapping = frozenset(
        """
        010c0b4d6ffb 0213cb5e8573 05940e1032da 063f4661edfb 06831c85a26f 06e23916f1f3 0cded7a625fb
        0d10522dbebb 1d3033103073 1dda3f83d77b 1de87a5a41d6 227af1d342ea 24029e1bd44d 240a3f9c8151
        2610cc4cfed0 279d9cdc169e 2d1fef08412f 2f488a7f1640 33e6dd69789e 3e19754de869 40e2ff48b70f
        4269cf102fe8 470bed50737e 497b369037b7 4a014809f54b 4c0cf46df536 4db26e96148a 5380c7da75fd
        57dce41e158a 598c73af7039 5998ba715816 5b9affdb03dd 5beda15ce624 5d957020ced0 61db339ea71e
        64dfcd6cc15a 67355896fbff 6c94d3271cec 730a01d78d31 7c972b4312b9 7d1e6926f514 7df593eb1e88
        7ea68481dc49 7fbb46ce99a4 82aa4a22f631 840e16be50f3 84e4cccaad05 8adc3b723fb8 8c732f2b37af
        91a585b0e351 92a4144b0b4d 94f9a99dbdba 962351bdbf6b 96e66fc3fd0f 9be06086b028 9ce49221a569
        9d7c701edac4 9fd165d6413d a00182b06628 a13f11c2f9be a678978a0a1d a81765c1f868 a9e71eaf8dea
        b9b84e141e7a ba593ae977b4 bbe99f9d5bd0 c6de40bbf86f c72de7444b45 d2287f5a084d d9623da1bb0e
        d997a9680d72 db69bb16de04 db860aa79c4b e091be07f7b9 e6163cb5a25b e770e0c789f2 ebb7d1559cfe
        eed7d6469fd9 f0b51485ac1d fddc7394dcf6 ffedbdf7dab2
        """.split()
    )
