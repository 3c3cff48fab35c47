"""MATH, levels 3 to 5, as SimpleRL-Zoo trains on it: 8,521 problems.

About a third of them come from MATH's test split; none is in MATH-500.
"""

from entrobench import Hub, MathSet, Part, register_benchmark


@register_benchmark("math-l3to5")
class MathL3to5(MathSet):
    parts = {
        "train": Part(
            file="math_train_l3to5",
            rows=8521,
            digest="6f4396cabc9f09b2",
            hub=Hub(
                "hkust-nlp/SimpleRL-Zoo-Data",
                split="train",
                data_files="simplelr_qwen_level3to5/train.parquet",
                problem=("question", "extra_info.question", "problem"),
                answer=("gt_answer", "reward_model.ground_truth", "answer"),
                drop_empty=True,
            ),
            held_out=228,
        )
    }
    overlapping = frozenset(
        """
        123b78bfd5a3 730a01d78d31 9e57333f1517 b9d066e5d632 bbe99f9d5bd0
        """.split()
    )
