"""The old pass that the built-in sampler has taken while it drew: when it counts, and for which rollouts.

The sampler has the logits of every token in its hand. In fp32 its log-probs and those of a packed pass under
the same weights differ by the order of additions alone, so a pass of its own would compute nothing new.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness.rollout.settings import BUILTIN, scores_when_sampled
from harness.stages.token_stats import LOGP, TokenStat

if TYPE_CHECKING:
    from harness.config.schema import RunConfig
    from harness.stages.batch import Batch

#: Tag of a row: optimiser steps that its sampler's weights had behind them, and one.
TAG = "sampled_at"


def why_not(run: RunConfig, stats: Iterable[TokenStat]) -> str:
    """Why the old pass of ``run`` is one of its own; empty where the sampler takes it."""
    if run.train.old_pass == "always":
        return "train.old_pass=always"
    if run.rollout.engine != BUILTIN:
        return f"rollout.engine={run.rollout.engine} has log-probs of its own"
    if run.rollout.lag and not scores_when_sampled(run):
        return "rollout.ratio_to=update divides by weights that come after sampling"
    compute = run.model.dtype if run.model.compute_dtype == "same" else run.model.compute_dtype
    if compute not in ("float32", "float64"):
        return f"passes in {compute} round differently while sampling and while training"
    if prompt := [stat.name for stat in stats if stat.on == "prompt"]:
        return f"the method reads {prompt[0]} of prompts, which sampling does not give"
    return ""


def sampled_with(batch: Batch, stats: Iterable[TokenStat], updates: int) -> bool:
    """Whether ``batch`` holds these statistics, taken with the weights after ``updates`` optimiser steps.

    A rollout program that changed tokens of a response has made other log-probs, too, or forgotten them:
    either shows.
    """
    if TAG not in batch.tags or any(stat.name not in batch.old for stat in stats):
        return False
    if not bool((batch.tags[TAG] == updates + 1).all()):
        return False
    own, drawn = batch.old[LOGP.name], batch.rollout_logp_BT
    return own.shape == drawn.shape and bool((own == drawn).all())
