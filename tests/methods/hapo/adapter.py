"""HAPO: scores, scales, advantage, ranges, redistribution, losses of both signs, sampling temperatures."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.loss import PolicyLoss, TokenRatio
from methods.hapo import (
    RedistributedCredit,
    ScoredRange,
    adaptive_range,
    sampling_temperature,
    scale_of,
    token_weighted,
)
from tests.methods.support.golden import make_batch, spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    logp, old, entropy = (tensor(case, n) for n in ("logp", "old_logp", "entropy"))
    logits = tensor(case, "logits")
    advantage_B = token_weighted(
        tensor(case, "rewards"), tensor(case, "groups"), mask.sum(1), mask.shape[1],
        eps=hp["std_eps"], fallback=hp["fallback_abs_adv"], ddof=hp["fallback_std_ddof"],
    )  # fmt: skip
    batch = make_batch(mask, old={"logp": old}, advantage_BT=spread(advantage_B, mask))
    rho, floor = hp["entropy_pivot"], hp["log_eps"]
    out: dict[str, object] = {"out_advantages": batch.advantages()}
    for signed, suffix in ((False, ""), (True, "_signed")):
        bounds = ScoredRange(rho, signed, hp["clip_alpha"], hp["clip_low"], hp["clip_high"], floor)
        ratio = TokenRatio(None)
        stage = PolicyLoss(
            ratio, bounds, credit=RedistributedCredit(bounds, ratio, hp["adv_beta"]),
            dual_clip=hp["clip_c"], aggregation="token-mean",
        )  # fmt: skip
        leaf = logp.clone().requires_grad_()
        current = {"logp": leaf, "entropy": entropy}
        with torch.no_grad():
            prepared = stage.prepare(batch, current).value
        loss = aggregate(stage.aggregation, stage(batch, current, prepared), mask)
        (grad,) = torch.autograd.grad(loss, leaf)
        h = bounds.scores(batch, current) * mask
        previous = scale_of(tensor(case, "old_entropy"), mask, rho, signed, floor)
        hot = sampling_temperature(
            logits.reshape(-1, logits.shape[-1]), previous, hp["temperature"], hp["temperature_tau"],
            hp["sampler_log_eps"], hp["sampler_std_eps"],
        ).reshape(mask.shape)  # fmt: skip
        out |= {f"out_h{suffix}": h, f"out_loss{suffix}": loss.detach()}
        out |= {f"out_grad_logp{suffix}": grad, f"out_sampling_temperature{suffix}": hot}
        if not signed:
            low, high = adaptive_range(h, hp["clip_low"], hp["clip_high"], hp["clip_alpha"])
            out |= {
                "out_stats": list(scale_of(entropy, mask, rho, signed, floor)),
                "out_prev_stats": list(previous),
                "out_clip_low": low * mask,
                "out_clip_high": high * mask,
                "out_redistributed_advantages": prepared["advantage"] * mask,
            }
    return {k: np.asarray(v) for k, v in out.items()}
