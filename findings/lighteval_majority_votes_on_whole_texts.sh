#!/bin/sh
# lighteval: the majority vote of its MATH tasks compares whole responses, so that four right answers score 0.
# The seven tasks in lighteval.tasks.tasks.math have one metric, maj@n with n=4. They hand it math_normalizer,
# which takes the last boxed answer out of a text, under the names normalize_pred and normalize_gold. The
# metric reads the name normalize, and takes other names without a word. So the votes are whole texts, and the
# winner is compared to the whole reference solution: copies of that solution are right.
#
# One expects otherwise from the documentation's list of metrics (maj_at_k can be used for mathematics, with a
# normalization for it), from the metric's docstring (prediction and gold are normalized, then the most
# frequent answer is compared to the gold), and from 0.10.0, whose metric for these tasks gives the same
# responses 1.
#
# It hurts whoever runs these tasks, or gives maj_at_n these two names in a task of their own: a model that is
# always right, in its own words, gets 0. What helps: a task of one's own with the name normalize.
#
# Seen:
#   0.13.0 four right responses in different words, 7 tasks: 0 0 0 0 0 0 0
#   0.13.0 four copies of the reference solution, 7 tasks: 1 1 1 1 1 1 1
#   0.13.0 four right responses in different words, maj_at_n with normalize: 1
#   0.10.0 four right responses in different words, maj_at_4_math: 1
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/ask.py" <<'PYTHON'
from importlib.metadata import version

from lighteval.metrics.metrics import Metrics
from lighteval.metrics.normalizations import math_normalizer

solution = r"The sides are 3 and 4, hence the area is $3 \cdot 4 = \boxed{12}$."
right = [
    r"Area is length times width, that is $3 \times 4$. The answer is $\boxed{12}$.",
    r"Four rows of three unit squares make $\boxed{12}$.",
    r"$4 \cdot 3$ is twelve, so we get $\boxed{12}$.",
    r"The area of a rectangle is the product of its sides: $\boxed{12}$.",
]
words = "four right responses in different words"


def say(*text):
    print(version("lighteval"), *text)


if hasattr(Metrics, "maj_at_4_math"):
    score = Metrics.maj_at_4_math.value.sample_level_fn(golds=[f" {solution}"], predictions=right)
    say(f"{words}, maj_at_4_math:", score)
else:
    from lighteval.models.model_output import ModelResponse
    from lighteval.tasks.lighteval_task import LightevalTaskConfig
    from lighteval.tasks.tasks import math

    doc = math.math_prompt({"problem": "What is the area of a rectangle of 3 by 4?", "solution": solution})

    def score(metric, responses):
        (value,) = metric.compute_sample(doc=doc, model_response=ModelResponse(text=responses)).values()
        return value

    tasks = [task for task in vars(math).values() if isinstance(task, LightevalTaskConfig)]
    for name, responses in {words: right, "four copies of the reference solution": [solution] * 4}.items():
        scores = [score(metric, responses) for task in tasks for metric in task.metrics]
        say(f"{name}, {len(tasks)} tasks:", *scores)
    own = Metrics.maj_at_n(sample_params={"n": 4, "strip_strings": True, "normalize": math_normalizer})
    say(f"{words}, maj_at_n with normalize:", score(own, right))
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.13.0"
"$folder/venv/bin/pip" install -q "torch==2.13.0" "lighteval==0.13.0" "transformers==5.24.0" \
    "inspect-ai==0.3.285"
"$folder/venv/bin/pip" install -q --no-deps --target "$folder/old" "lighteval==0.10.0"
export HF_HOME="$folder/home" HF_HUB_OFFLINE=1
"$folder/venv/bin/python" "$folder/ask.py" 2> /dev/null | tee "$folder/seen"
PYTHONPATH="$folder/old" "$folder/venv/bin/python" "$folder/ask.py" 2> /dev/null | tee -a "$folder/seen"
cat > "$folder/expected" <<'TEXT'
0.13.0 four right responses in different words, 7 tasks: 0 0 0 0 0 0 0
0.13.0 four copies of the reference solution, 7 tasks: 1 1 1 1 1 1 1
0.13.0 four right responses in different words, maj_at_n with normalize: 1
0.10.0 four right responses in different words, maj_at_4_math: 1
TEXT
cmp "$folder/seen" "$folder/expected"
