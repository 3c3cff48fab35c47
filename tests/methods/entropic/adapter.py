"""EntroPIC: alpha of a minibatch, both terms of the loss, and the controller over a trace of calls."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from methods.entropic import PIController, SureTokens
from tests.methods.support.golden import make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    old, advantage, mode = tensor(case, "old_logp"), tensor(case, "advantages"), hp["loss_agg_mode"]
    batch = make_batch(mask, old={"logp": old}, advantage_BT=advantage)

    def control(integral: float) -> PIController:
        return PIController(hp["target_entropy"], hp["kp"], hp["ki"], hp["alpha_limit"], integral)

    def reduced(value: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """The official reductions, which add ``mean_eps`` to every count, that of rows too."""
        eps, rows = hp["mean_eps"], int(where.any(1).sum())
        mean = aggregate(mode, value, where, count_eps=eps, length_eps=eps)
        return mean * rows / (rows + eps) if mode.startswith("seq-mean") and "norm" not in mode else mean

    now = control(hp["integral_start"])
    ratio = TokenRatio(hp["log_ratio_clamp"])
    sure = SureTokens(now, hp["high_prob_threshold"], mode, mode, ratio)
    stage = PolicyLoss(
        ratio,
        FixedBounds(hp["clip_low"], hp["clip_high"]),
        dual_clip=hp["clip_ratio_c"],
        aggregation=mode,
    )
    leaf = tensor(case, "logp").requires_grad_()
    current = {"logp": leaf, "entropy": tensor(case, "entropy")}
    with torch.no_grad():
        base_constants, constants = (s.prepare(batch, current).value for s in (stage, sure))
    entropy = reduced(current["entropy"], mask)
    alpha = torch.tensor(now.alpha(float(entropy)), dtype=torch.float64)
    exact = now.alpha(float(aggregate(mode, current["entropy"], mask)))
    assert constants["alpha"] == torch.tensor(exact, dtype=torch.float64)
    constants["alpha"] = alpha  # with the counts of the official code
    chosen = (constants["counted"] > 0).to(mask.dtype)
    base = reduced(stage(batch, current, base_constants), mask)
    added = reduced(sure(batch, current, constants), chosen)
    (grad,) = torch.autograd.grad(base + added, leaf)
    now.observe(float(entropy), len(mask) / hp["mini_batch_rows"])
    out = {
        "out_entropy": entropy,
        "out_alpha": constants["alpha"],
        "out_integral": now.integral,
        "out_mask": chosen,
        "out_loss_base": base.detach(),
        "out_loss_adjust": added.detach(),
        "out_loss": (base + added).detach(),
        "out_grad_logp": grad,
    }
    trace, alphas, integrals = control(hp["trace_integral_start"]), [], []
    for h, rows in zip(case["trace_entropy"].tolist(), case["trace_rows"].tolist(), strict=True):
        alphas.append(trace.alpha(h))
        trace.observe(h, rows / hp["mini_batch_rows"])
        integrals.append(trace.integral)
    out |= {"out_trace_alpha": alphas, "out_trace_integral": integrals}
    return {k: np.asarray(v) for k, v in out.items()}
