"""Fork tokens: both masks, loss over the kept tokens, gradient, clip fraction over all tokens."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio, clipped_tokens, log_ratio
from methods.fork_tokens import HighEntropy
from tests.methods.support.golden import make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    logp, old, advantage, entropy = (tensor(case, n) for n in ("logp", "old_logp", "advantages", "entropy"))
    batch = make_batch(mask, old={"logp": old}, advantage_BT=advantage)
    stage = PolicyLoss(
        TokenRatio(hp["log_ratio_clamp"]),
        FixedBounds(hp["clip_low"], hp["clip_high"]),
        selection=HighEntropy(hp["top_ratio"]),
        dual_clip=hp["clip_c"],
        aggregation="token-mean",
    )
    leaf = logp.clone().requires_grad_()
    stats = {"logp": leaf, "entropy": entropy}
    with torch.no_grad():
        prepared = stage.prepare(batch, stats).value
        trl = HighEntropy(hp["top_ratio"], "quantile", "all")(batch, stats).value
    kept = (prepared["counted"] > 0).to(mask.dtype)
    loss = aggregate(stage.aggregation, stage(batch, stats, prepared), kept, count_eps=hp["mean_eps"])
    (grad,) = torch.autograd.grad(loss, leaf)
    ratio = log_ratio(logp, old, hp["log_ratio_clamp"]).exp()
    clipped, _ = clipped_tokens(ratio, advantage, 1 - hp["clip_low"], 1 + hp["clip_high"])
    out = {
        "out_loss": loss.detach(),
        "out_grad_logp": grad,
        "out_mask": kept,
        "out_mask_trl": trl.to(mask.dtype),
        "out_clipfrac": aggregate("token-mean", clipped.to(mask.dtype), mask, count_eps=hp["mean_eps"]),
    }
    return {k: np.asarray(v) for k, v in out.items()}
