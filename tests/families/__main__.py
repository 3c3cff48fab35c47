"""``python -m tests.families [FAMILY ...]``: measure all families and write the table, or print some."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

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

What *how* says: *packed*, rollouts share rows and prompts; *padded*, a row each; *by length*, rows of one
length at a time, since the family's code takes no padding; *no cache*, every token is drawn by reading the
row from its start, since its cache gives other numbers (right, and slow for long responses).

| family | class | here | how, or why not |
|---|---|---|---|
"""


def page(outcomes: Sequence[Outcome]) -> str:
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as classes

    right = sum(outcome.kind == "right" for outcome in outcomes)
    head = _HEAD.format(
        version=transformers.__version__, all=len(outcomes), right=right, refused=len(outcomes) - right,
        limit=RIGHT,
    )  # fmt: skip
    rows = (f"| {o.family} | {classes[o.family]} | {o.kind} | {o.how or _cell(o.said)} |\n" for o in outcomes)
    return head + "".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main(names: Sequence[str]) -> int:
    workers = int(os.environ.get("FAMILIES_WORKERS", "2"))
    outcomes = []
    for outcome in measure_all(names or all_families(), workers):
        outcomes.append(outcome)
        print(f"{outcome.family}: {outcome.kind}, {outcome.how or outcome.said}", flush=True)
    faults = [outcome.family for outcome in outcomes if outcome.kind not in ("right", "refused")]
    if not names and not faults:
        PAGE.write_text(page(outcomes))
    print(f"{len(faults)} faults: {', '.join(faults)}" if faults else "no faults")
    return min(len(faults), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
