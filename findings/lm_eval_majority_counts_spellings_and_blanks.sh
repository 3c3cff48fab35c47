#!/bin/sh
# lm-eval: the majority vote of gsm8k_cot_self_consistency counts raw strings. "1,200" and "1200" are two
# candidates, though the task's exact_match takes either for the answer, and a response with no answer votes
# for "[invalid]", which can win against every number. A problem on which 40 of 64 responses are right scores
# 0 at maj@64, and so does one on which the right answer is the most frequent number.
#
# One expects otherwise from the task guide, which explains this very task: the numeric answers are picked out
# of the responses, and the majority of those numbers is taken, as in the paper on self-consistency (arXiv
# 2203.11171). "[invalid]" is no number, and commas are something that the task's metric is told to ignore; it
# does so after the vote.
#
# It hurts whoever compares models by maj@64: one that writes thousands in two ways, or that is often stopped
# before its answer, loses votes that it has won. What helps: log the samples, take the commas out, leave out
# "[invalid]", and count again.
#
# Here a model with a script answers four questions of a local file, by the shipped task with nothing changed
# but its data.
#
# Seen (datasets 5.2.0), the right answers being 1,200 and, in the last line, 18:
#   0.4.13 64 say 1,200: the vote goes to 1,200, exact_match 1
#   0.4.13 64 say 1200: the vote goes to 1200, exact_match 1
#   0.4.13 20 say 1,200, 20 say 1200, 24 say 1300: the vote goes to 1300, exact_match 0
#   0.4.13 20 say 18, 16 say 17, 28 stop before an answer: the vote goes to [invalid], exact_match 0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/ask.py" <<'PYTHON'
import json
import sys
from pathlib import Path

import lm_eval
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

folder = Path(sys.argv[1])
cases = {
    "64 say 1,200": ("1,200", {"The answer is 1,200.": 64}),
    "64 say 1200": ("1,200", {"The answer is 1200.": 64}),
    "20 say 1,200, 20 say 1200, 24 say 1300": (
        "1,200", {"The answer is 1,200.": 20, "The answer is 1200.": 20, "The answer is 1300.": 24},
    ),
    "20 say 18, 16 say 17, 28 stop before an answer": (
        "18", {"The answer is 18.": 20, "The answer is 17.": 16, "First we add the": 28},
    ),
}


class Scripted(LM):
    def __init__(self):
        super().__init__()
        self.left = {}
        for name, (_, texts) in cases.items():
            self.left[name] = [text for text in texts for _ in range(texts[text])]

    def generate_until(self, requests):
        asked = [request.args[0].rsplit("Q: ", 1)[1].removesuffix("\nA:") for request in requests]
        return [self.left[name].pop() for name in asked]

    def loglikelihood(self, requests):
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


rows = [json.dumps({"question": name, "answer": f"#### {gold}"}) for name, (gold, _) in cases.items()]
(folder / "questions.jsonl").write_text("\n".join(rows))
shipped = Path(lm_eval.__file__).parent / "tasks" / "gsm8k" / "gsm8k-cot-self-consistency.yaml"
(folder / "tasks").mkdir()
(folder / "tasks" / "own.yaml").write_text(
    f"include: {shipped}\ntask: own\ndataset_path: json\ndataset_name: null\n"
    f"dataset_kwargs: {{data_files: {{test: {folder}/questions.jsonl}}}}\n"
)
manager = TaskManager(include_path=str(folder / "tasks"), include_defaults=False)
done = lm_eval.simple_evaluate(Scripted(), tasks=["own"], task_manager=manager, bootstrap_iters=0)
for sample in done["samples"]["own"]:
    if sample["filter"] == "maj@64":
        (vote,) = sample["filtered_resps"]
        name, right = sample["doc"]["question"], sample["exact_match"]
        print(f"{lm_eval.__version__} {name}: the vote goes to {vote}, exact_match {right:.0f}")
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "lm_eval==0.4.13" "datasets==5.2.0" "evaluate==0.4.6"
HF_HOME="$folder/home" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" "$folder/ask.py" "$folder" 2> /dev/null \
    | tee "$folder/seen"
cat > "$folder/expected" <<'TEXT'
0.4.13 64 say 1,200: the vote goes to 1,200, exact_match 1
0.4.13 64 say 1200: the vote goes to 1200, exact_match 1
0.4.13 20 say 1,200, 20 say 1200, 24 say 1300: the vote goes to 1300, exact_match 0
0.4.13 20 say 18, 16 say 17, 28 stop before an answer: the vote goes to [invalid], exact_match 0
TEXT
cmp "$folder/seen" "$folder/expected"
