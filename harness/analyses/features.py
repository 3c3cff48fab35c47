"""What the head of a model is given at the last token of a text: its last layer, after the final norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.model.decoding import left_padded
from harness.model.policy import Policy
from harness.problems.problem import Problem
from harness.stages.batch import Batch
from harness.util import progress
from harness.util.errors import UserError

if TYPE_CHECKING:
    from harness.statistics.estimators import FloatArray


def last_features(policy: Policy, texts: Sequence[str], rows: int = 64) -> FloatArray:
    """``[N,D]`` in float64, one row for each text in its order; ``rows`` texts are read at a time.

    Raises:
        UserError: a text that does not fit the model's context, or features that are not finite.
    """
    prompts = [policy.encode(text) for text in texts]
    longest = max(map(len, prompts))
    if policy.max_positions and longest >= policy.max_positions:
        raise UserError(
            f"a text has {longest} tokens, more than the context of {policy.max_positions} holds; take other "
            "problems, or a model with a longer context"
        )
    if not min(map(len, prompts)):
        raise UserError("a text has no tokens, so no last one; take other problems")
    # by length: less padding, and a model that may not be padded keeps the order of what it is given
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found = np.empty(0)
    for start in range(0, len(order), rows):
        part = order[start : start + rows]
        hidden = policy.hidden(_batch(policy, [prompts[i] for i in part])).double().cpu().numpy()
        if not found.size:
            found = np.empty((len(prompts), hidden.shape[1]))
        found[part] = hidden
        progress.tell(min(start + rows, len(order)), len(order))
    policy.network.freed()
    if not np.isfinite(found).all():
        raise UserError(f"hidden states of {policy.source} are NaN or infinite; take dtype=float32")
    return found


def _batch(policy: Policy, prompts: Sequence[Sequence[int]]) -> Batch:
    """Each prompt with a token behind it, which is never read: its prediction is what is asked for."""
    ids, mask = left_padded(prompts, policy.pad_id)
    n, number = len(prompts), torch.arange(len(prompts))
    return Batch(
        prompt_BP=ids, prompt_mask_BP=mask, response_BT=torch.full((n, 1), policy.eos_id),
        mask_BT=torch.ones(n, 1, dtype=torch.bool), group_B=number, sample_B=torch.zeros_like(number),
        temperature_B=torch.ones(n), truncated_B=torch.zeros(n, dtype=torch.bool),
        rollout_logp_BT=torch.zeros(n, 1), problems=(Problem("text", ""),) * n, texts=("",) * n,
    )  # fmt: skip
