#!/bin/sh
# reasoning-gym: four of its tasks give full marks to one and the same answer, whatever was asked. A policy trained on
# their rewards needs no reasoning, and finds out.
# - game_of_life_halting compares bool(text) with bool("True"): every text that is not empty is right, "False" for a
#   board that halts among them.
# - coin_flip divides the length of the common beginning by the length of the shorter text: "0" is all of "0", and every
#   probability below 1 begins with it.
# - complex_arithmetic takes min(1.0, exp(-distance)): with nan for a number the distance is nan, and Python's min
#   leaves the 1.0 that stands first.
# - puzzle24 looks for four numbers within its range and the value 24, not for the four numbers of the question.
# That the answers of another question pass is what to test a grader with: own answers alone find none of these.
#
# Seen, answers with full marks among 50 questions:
#   0.1.25 game_of_life_halting, "maybe": 50
#   0.1.25 coin_flip, "0": 48
#   0.1.25 complex_arithmetic, "nan": 50
#   0.1.25 puzzle24, "2*3*4*1": 50
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/ask.py" <<'PYTHON'
from importlib.metadata import version

import reasoning_gym

for task, answer in (
    ("game_of_life_halting", "maybe"), ("coin_flip", "0"), ("complex_arithmetic", "nan"),
    ("puzzle24", "2*3*4*1"),
):
    questions = reasoning_gym.create_dataset(task, size=50, seed=7)
    full = sum(questions.score_answer(answer, questions[i]) == 1.0 for i in range(50))
    print(version("reasoning-gym"), f'{task}, "{answer}": {full}')
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "reasoning-gym==0.1.25" "sympy==1.14.0"
"$folder/venv/bin/python" "$folder/ask.py" | tee "$folder/seen"
[ "$(grep -c ': 50$\|coin_flip.*: 48$' "$folder/seen")" = 4 ]
