"""Measure all families and write the table, or print some of them.

``python -m tests.families [FAMILY ...]``; in an environment with another version of transformers
``python -m tests.families --keep FILE``, and then here ``--beside FILE``, to have that version in it, too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.families.measure import RIGHT, Outcome, all_families, measure_all

PAGE = Path(__file__).parents[2] / "docs" / "model-families.md"
_HEAD = """# Model families

Written by `python -m tests.families`; do not edit by hand. Measured with transformers {version}: of its {all}
causal language model families {right} are right here, {refused} are refused in one line before any draw.

Each family is a tiny model with random weights, with a layer of every kind that the family has and windows
shorter than the text. It is loaded as a run loads it, responses are drawn from it, and the log-probs of
sampling and the log-probs and entropies of training are compared with the logits of the model's own code,
one row at a time. *Right* means that none of them is more than {limit} nats off. Loading makes a check of the
same kind with the real weights, so what is right here and wrong in another size is refused there.
{beside}
What *how* says: *packed*, rollouts share rows and prompts; *padded*, a row each; *by length*, rows of one
length at a time, since the family's code takes no padding; *no cache*, every token is drawn by reading the
row from its start, since its cache gives other numbers (right, and slow for long responses).

| family | class | here | how, or why not |
|---|---|---|---|
"""


def page(outcomes: Sequence[Outcome], beside: Mapping[str, Any] | None) -> str:
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as classes

    right = sum(outcome.kind == "right" for outcome in outcomes)
    head = _HEAD.format(
        version=transformers.__version__, all=len(outcomes), right=right, refused=len(outcomes) - right,
        limit=RIGHT, beside=_beside(outcomes, beside) if beside else "",
    )  # fmt: skip
    rows = (f"| {o.family} | {classes[o.family]} | {o.kind} | {o.how or _cell(o.said)} |\n" for o in outcomes)
    return head + "".join(rows)


def _beside(outcomes: Sequence[Outcome], other: Mapping[str, Any]) -> str:
    here, there = {o.family: o.kind for o in outcomes}, other["kinds"]
    right = sum(kind == "right" for kind in there.values())
    differ = [f"{name} ({kind} there)" for name, kind in there.items() if here.get(name, kind) != kind]
    return (
        f"\nWith transformers {other['version']}: {right} of {len(there)} right, the others refused. "
        f"Not as in the table: {', '.join(differ) or 'none'}.\n"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main(words: Sequence[str]) -> int:
    import transformers

    parser = argparse.ArgumentParser(prog="python -m tests.families")
    parser.add_argument("family", nargs="*")
    parser.add_argument("--keep", type=Path, help="write what was found as JSON, not the table")
    parser.add_argument("--beside", type=Path, help="such a file of another version of transformers")
    asked = parser.parse_args(words)
    outcomes = []
    for outcome in measure_all(asked.family or all_families(), int(os.environ.get("FAMILIES_WORKERS", "2"))):
        outcomes.append(outcome)
        print(f"{outcome.family}: {outcome.kind}, {outcome.how or outcome.said}", flush=True)
    faults = [outcome.family for outcome in outcomes if outcome.kind not in ("right", "refused")]
    if asked.keep:
        found = {"version": transformers.__version__, "kinds": {o.family: o.kind for o in outcomes}}
        asked.keep.write_text(json.dumps(found))
    elif not asked.family and not faults:
        PAGE.write_text(page(outcomes, json.loads(asked.beside.read_text()) if asked.beside else None))
    print(f"{len(faults)} faults: {', '.join(faults)}" if faults else "no faults")
    return min(len(faults), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
