"""What every method costs over GRPO after the rollouts: the tables of ``results/performance/methods.json``.

``python -m tests.performance.bench_methods`` measures it, here it is only written down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.util.files import read_json

MEASURED = Path("results/performance/methods.json")
#: By how much passes' tokens may grow otherwise than response tokens before the table says so.
NOTED = 0.1
_HEAD = (
    "method", "update / GRPO's (min to max)", "tokens", "per token", "step without rollouts", "beyond GRPO",
)  # fmt: skip
_ABOUT = """\
Each side takes one training step again and again, from the same weights on its own frozen rollouts, in pairs
and in alternating order; seconds are CPU seconds of one thread. Figures are the method's divided by GRPO's,
medians over the pairs. The row `grpo` is GRPO against itself; how far it and the rows that take nothing
beyond GRPO lie from 1 is the machine's noise.

- *update*: the optimiser steps: passes, weights and bounds, loss, backward, clipping, AdamW;
- *tokens*: response tokens in the optimiser steps, since some methods keep fewer or more rows;
- *per token*: the update by response token;
- *step without rollouts*: also the old pass, the reference, rewards to update plan, the log;
- *beyond GRPO*: extra passes in response tokens. *scoring* (by the rollout program) and *reference* are
  multiples of the rollouts' tokens, *pre-pass* (without gradient) and *gradient* (a row's own gradient, say)
  of those in the optimiser steps, and so is *head*: products with the head behind an inner layer, beside
  those of the full policy, which the log needs. *statistic*: what a pass computes per token beside log-prob
  and entropy; it reads the logits of the whole vocabulary again. *with prompts*: tokens of the passes with
  gradient, prompts included, where they are not as many times GRPO's as the response tokens are: GRPO's rows
  share their prompts, and a pass takes a prompt once.

Rollouts are not in it: a program that samples more of them pays before the step, and the leaderboard counts
the tokens."""
_SHAPES = {
    "micro": "The micro testbed: a minibatch is one pass",
    "vocab-152k": "A vocabulary of 151,936 over a small random backbone: a minibatch is two passes, so that "
    "statistics over a minibatch need a pre-pass",
}


def _cells(found: Mapping[str, Any]) -> list[str]:
    if "refused" in found:
        return ["refused", "", "", "", str(found["refused"])]
    update, counted = found["update"], found["updated_tokens"]
    beyond = [f"{value:.2g} {kind}" for kind, value in found["extra_passes"].items()]
    beyond += [f"statistic `{name}`" for name in found["extra_statistics"]]
    if "network_tokens" in found:
        network = found["network_tokens"]["ours"] / found["network_tokens"]["grpo"]
        if abs(network * counted["grpo"] / counted["ours"] - 1) > NOTED:
            beyond.append(f"{network:.2f} times the tokens with prompts")
    return [
        f"{update['ratio_median']:.2f} ({update['ratio_min']:.2f} to {update['ratio_max']:.2f})",
        f"{counted['ours'] / counted['grpo']:.2f}",
        f"{found['token']['ratio_median']:.2f}",
        f"{found['step']['ratio_median']:.2f}",
        ", ".join(beyond) or "nothing",
    ]


def cost_table(measured: Mapping[str, Any]) -> str:
    """One shape as a Markdown table."""
    rows = [[f"`{name}`", *_cells(found)] for name, found in measured.items()]
    lines = [list(_HEAD), [":--", *["--:"] * 4, ":--"], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cost_page(root: Path, names: Sequence[str]) -> str:
    """The page, below its first lines; methods in ``names`` that nobody has measured are named.

    Args:
        root: the checkout.
    """
    file = root / MEASURED
    measured = dict(read_json(file)) if file.exists() else {}
    parts = [
        "# What a method costs over GRPO",
        "",
        f"Made from [{MEASURED}](../../{MEASURED}), "
        "which `python -m tests.performance.bench_methods` measures.",
        "",
        _ABOUT,
    ]
    for shape, words in _SHAPES.items():
        rows = {name: found for name, found in measured.get(shape, {}).items() if name in names}
        missing = [f"`{name}`" for name in names if name not in rows]
        parts += ["", f"## {words}", "", cost_table(rows)]
        parts += ["", f"Not measured: {', '.join(missing)}."] if missing else []
    return "\n".join(parts)
