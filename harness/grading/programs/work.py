"""What a worker does with a program; it loads nothing but the language."""

from __future__ import annotations

import json
from typing import Any

from harness.grading.programs.interpreter import run, value_of, written
from harness.grading.programs.reader import Invalid, ProgramTree, read_expression, read_program

#: The part of a grading job that runs a program.
PART = "program"


def answered(program: str, asked: str) -> dict[str, Any]:
    """Read and run a program; ``asked`` are inputs and parameters of a :class:`runner.Ask`, as JSON."""
    rest = json.loads(asked)
    try:
        tree = read_program(program, rest["parameters"])
    except Invalid as error:
        return {"status": "invalid", "why": str(error)}
    return {"status": "ran", "outputs": [_output(tree, text) for text in rest["inputs"]]}


def _output(tree: ProgramTree, text: str) -> str | None:
    try:
        arguments = value_of(read_expression(f"[{text}]")) if text.strip() else []
        return written(run(tree, arguments))  # type: ignore[arg-type]
    except (Invalid, RecursionError):
        return None
