"""Metrics of two training steps of some entries on the testbed, as committed for the numerics version.

``python -m tests.helpers.two_steps`` writes ``tests/golden/two-steps.json`` anew: after ``NUMERICS_VERSION``
was raised, or when an entry is added.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

FILE = Path(__file__).parents[1] / "golden" / "two-steps.json"
#: Settings by entry, beside those that all have. They reach what the entry is made for within two steps.
ENTRIES: dict[str, tuple[str, ...]] = {
    "grpo": (),
    "dapo": ("method.gen_factor=1.5",),
    "vcpo@released": (),
    "entrocraft@paper": (),
    "hapo@released": (),
    "kl-penalty@loss": (),
    "steer": (),
    "aepo": ("method.reinforce_share=0.1", "method.extra_share=0.5"),
}
SETTINGS = (
    "model.path=micro", "data.benchmark=micro", "seed=5", "device=cpu", "train.steps=2",
    "train.minibatches=2", "train.lr=1e-4", "train.warmup_steps=0", "rollout.prompts_per_step=6",
    "rollout.group_size=6", "eval.frontier_n=4",
)  # fmt: skip
#: How the work is laid out, and the rounding between two passes itself.
NOT_OF_THE_METHOD = ("copied_tokens", "rollout_mismatch")
#: Share of a number by which processors, or versions of torch, may differ.
RELATIVE = 2e-3
#: Shares of some 350 tokens that lie beyond a bound: two may lie so near to it that rounding decides.
COUNTED = {"activity": 6e-3, "clip_low": 6e-3, "clip_high": 6e-3}
#: Below this a number is the rounding of two passes that should agree.
ABSOLUTE = 2e-6


def two_steps(name: str) -> list[dict[str, float]]:
    """The metrics of both steps of an entry; times are no part of them."""
    from harness.run.set_up import open_run, stages_of
    from harness.train.trainer import Trainer
    from tests.helpers.settings import composed

    run = composed(f"method={name}", *SETTINGS, *ENTRIES[name])
    trainer = Trainer(run, *open_run(run), stages_of(run))
    return [rounded(trainer.step()) for _ in range(2)]


def rounded(metrics: dict[str, float]) -> dict[str, float]:
    """Four significant digits; what is within rounding of 0 is 0."""
    return {
        key: 0.0 if abs(value) < ABSOLUTE else float(f"{value:.4g}")
        for key, value in sorted(metrics.items())
        if key not in NOT_OF_THE_METHOD
    }


def differing(wanted: dict[str, float], found: dict[str, float]) -> list[str]:
    """A line for every metric that is missing, new or another number."""
    lines = []
    for key in sorted(wanted.keys() | found.keys()):
        a, b = wanted.get(key), found.get(key)
        near = COUNTED.get(key, ABSOLUTE)
        if a is None or b is None or not math.isclose(a, b, rel_tol=RELATIVE, abs_tol=near):
            lines.append(f"{key}: {a} committed, {b} found")
    return lines


def main() -> None:
    from harness.run.identity import NUMERICS_VERSION
    from harness.util.files import write_text

    steps = {name: two_steps(name) for name in ENTRIES}
    body = {"numerics_version": NUMERICS_VERSION, "steps": steps}
    write_text(FILE, json.dumps(body, indent=1) + "\n")
    print(FILE.relative_to(Path.cwd()) if FILE.is_relative_to(Path.cwd()) else FILE)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
