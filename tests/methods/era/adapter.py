"""ERA: activated log-probs of both policies by the truncated and the plain test, losses, gradients."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.loss import FixedBounds, PolicyLoss
from harness.stages.token_stats import LOGP
from methods.era import ActivatedRatio, InverseScale, response_entropy
from tests.methods.support.golden import make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, tokens = case.hp, tensor(case, "mask"), tensor(case, "tokens")
    advantage = tensor(case, "advantages")
    out: dict[str, object] = {}
    for truncated, suffix in ((True, ""), (False, "_paper")):
        ratio = ActivatedRatio(
            hp["log_ratio_clamp"], hp["era_lb"], hp["era_ub"], hp["era_k"], truncated,
            hp["topk_size"] if hp["topk"] else None, hp["top_fraction"], hp["logp_outside_topk"],
        )  # fmt: skip

        def of(logits: torch.Tensor, ratio: ActivatedRatio = ratio) -> dict[str, torch.Tensor]:
            flat = logits.reshape(-1, logits.shape[-1])
            wanted = dict.fromkeys([*ratio.stats, LOGP])
            return {s.name: s.compute(flat, tokens.reshape(-1)).reshape(tokens.shape) for s in wanted}

        leaf = tensor(case, "logits").requires_grad_()
        current, old = of(leaf), of(tensor(case, "old_logits"))
        batch = make_batch(mask, old=old, advantage_BT=advantage)
        weight = InverseScale(ratio, hp["adv_scale"])
        stage = PolicyLoss(
            ratio, FixedBounds(hp["clip_low"], hp["clip_high"]), weight, dual_clip=hp["clip_c"],
            aggregation="token-mean",
        )  # fmt: skip
        with torch.no_grad():
            prepared = stage.prepare(batch, current).value
        loss = aggregate("token-mean", stage(batch, current, prepared), mask, count_eps=1e-8)
        (grad,) = torch.autograd.grad(loss, leaf)
        low, high = ratio.tests(batch, current, truncated)
        scale = torch.where(low, ratio.k, torch.where(high, 1 / ratio.k, torch.ones_like(advantage)))
        entropy = current["entropy"].detach()
        out |= {
            "out_resp_entropy": response_entropy(entropy, mask, hp["top_fraction"]),
            f"out_scale{suffix}": scale,
            f"out_logp{suffix}": ratio.activated(batch, current).detach(),
            f"out_old_logp{suffix}": ratio.activated(batch, batch.old),
            f"out_advantages{suffix}": advantage * prepared["weight"],
            f"out_loss{suffix}": loss.detach(),
            f"out_grad_logits{suffix}": grad,
        }
    return {k: np.asarray(v) for k, v in out.items()}
