#!/bin/sh
# math-verify compares lists and sets without repetition, and a set with a tuple in any order.
#
# math-verify 0.9.0, latex2sympy2_extended 1.11.0. Seen:
#     $1,1,2$ answered by $1,2,2$: True
#     $\{1,2\}$ answered by $(2,1)$: True
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q math-verify==0.9.0 latex2sympy2_extended==1.11.0 "antlr4-python3-runtime==4.13.2"
"$folder/venv/bin/python" - <<'EOF'
from importlib.metadata import version

from math_verify import parse, verify

print("math-verify", version("math-verify"), "latex2sympy2_extended", version("latex2sympy2_extended"))
pairs = [(r"$1,1,2$", r"$1,2,2$"), (r"$\{1,2\}$", r"$(2,1)$")]
for gold, answer in pairs:
    verdict = verify(parse(gold), parse(answer))
    print(f"{gold} answered by {answer}: {verdict}")
    assert verdict, "the behaviour has changed"
EOF
