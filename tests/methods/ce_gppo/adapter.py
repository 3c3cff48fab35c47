"""CE-GPPO: the policy loss, which tokens it preserves and caps, and the total with the positive term."""

from __future__ import annotations

import math

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.loss import FixedBounds, TokenRatio, clipped_tokens, log_ratio
from methods.ce_gppo import PositiveNLL, PreservingLoss, preserved_surrogate
from tests.methods.support.golden import loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, logp = case.hp, tensor(case, "mask"), tensor(case, "logp")
    old, advantage = tensor(case, "old_logp"), tensor(case, "advantages")
    batch = make_batch(mask, old={"logp": old}, advantage_BT=advantage, reward_B=tensor(case, "rewards"))
    cap, eps = hp["clip_ratio_c"], {"count_eps": hp["mean_eps"]}
    stage = PreservingLoss(
        TokenRatio(None), FixedBounds(hp["clip_low"], hp["clip_high"]), dual_clip=cap,
        aggregation="token-mean", beta1=hp["beta1"], beta2=hp["beta2"],
    )  # fmt: skip
    loss, grad = loss_and_grad(stage, batch, logp, **eps)[:2]
    low, high = 1 - hp["clip_low"], 1 + hp["clip_high"]
    log_r = log_ratio(logp, old, None)
    kept, _ = clipped_tokens(log_r.exp(), advantage, low, high)
    before_cap = preserved_surrogate(log_r, log_r.exp(), advantage, low, high, (hp["beta1"], hp["beta2"]))
    capped = (advantage < 0) & (before_cap > -advantage * (math.inf if cap is None else cap))

    term = PositiveNLL(hp["positive_loss_coeff"], hp["correct_score"])
    leaf = logp.clone().requires_grad_()
    positive = aggregate(
        term.aggregation, term(batch, {"logp": leaf}, {}), term.tokens(batch).to(logp.dtype), **eps
    )
    (positive_grad,) = torch.autograd.grad(positive, leaf)

    def share(where: torch.Tensor) -> torch.Tensor:
        return aggregate("token-mean", where.to(mask.dtype), mask, count_eps=hp["mean_eps"])

    out = {
        "out_loss": loss,
        "out_grad_logp": grad,
        "out_mask_low": kept & (advantage < 0),
        "out_mask_high": kept & (advantage > 0),
        "out_clipfrac": share(kept),
        "out_dual_clipfrac": share(capped),
        "out_loss_positive": positive.detach(),
        "out_loss_total": loss + term.coefficient() * positive.detach().numpy(),
        "out_grad_logp_total": grad + term.coefficient() * positive_grad.numpy(),
    }
    return {k: np.asarray(v) for k, v in out.items()}
