"""GSM8K: grade-school word problems; 1,319 to evaluate on, 7,473 to train on."""

from entrobench import Hub, MathSet, Part, after_hashes, register_benchmark


def _hub(split: str) -> Hub:
    return Hub("openai/gsm8k", config="main", split=split, problem=("question",), read_answer=after_hashes)


@register_benchmark("gsm8k")
class Gsm8k(MathSet):
    parts = {
        "train": Part(
            file="gsm8k_train", rows=7473, digest="56173eddccac9c5c", hub=_hub("train"), held_out=244
        ),
        "test": Part(file="gsm8k_test", rows=1319, digest="0c1167b540e2e0dd", hub=_hub("test")),
    }
