#!/bin/sh
# math-verify reads upper and lower case letters as one symbol: V/v is 1.
#
# math-verify 0.9.0, latex2sympy2_extended 1.11.0. Seen:
#     $\frac{V}{v}$ answered by $1$: True
#     $M-m$ answered by $0$: True
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q math-verify==0.9.0 latex2sympy2_extended==1.11.0 "antlr4-python3-runtime==4.13.2"
"$folder/venv/bin/python" - <<'EOF'
from importlib.metadata import version

from math_verify import parse, verify

print("math-verify", version("math-verify"), "latex2sympy2_extended", version("latex2sympy2_extended"))
pairs = [(r"$\frac{V}{v}$", r"$1$"), (r"$M-m$", r"$0$")]
for gold, answer in pairs:
    verdict = verify(parse(gold), parse(answer))
    print(f"{gold} answered by {answer}: {verdict}")
    assert verdict, "the behaviour has changed"
EOF
