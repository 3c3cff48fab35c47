"""ERC: the band, both forms of the loss, and their totals with the positive term."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.loss import FixedBounds, TokenRatio, log_ratio
from methods.ce_gppo import PositiveNLL
from methods.erc import EntropyBandLoss, entropy_ratio, in_band
from tests.methods.support.golden import make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    old, advantage, rewards = (tensor(case, n) for n in ("old_logp", "advantages", "rewards"))
    before = {"logp": old, "entropy": tensor(case, "old_entropy")}
    batch = make_batch(mask, old=before, advantage_BT=advantage, reward_B=rewards)
    leaf = tensor(case, "logp").requires_grad_()
    current = {"logp": leaf, "entropy": tensor(case, "entropy")}
    correction = torch.ones_like(mask)
    if hp["tis_cap"] > 0:  # in training the run's own correction
        correction = log_ratio(old, tensor(case, "rollout_logp"), None).exp().clamp(max=hp["tis_cap"])

    def mean(value: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        return aggregate("token-mean", value, where, count_eps=hp["mean_eps"])

    term = PositiveNLL(hp["positive_loss_coeff"], hp["correct_score"])
    positive = mean(term(batch, current, {}), term.tokens(batch).to(mask.dtype))
    out: dict[str, Any] = {"out_loss_positive": positive.detach()}
    for suffix, preserving in (("", False), ("_gppo", True)):
        stage = EntropyBandLoss(
            TokenRatio(hp["log_ratio_clamp"]), FixedBounds(hp["clip_low"], hp["clip_high"]),
            dual_clip=hp["clip_ratio_c"], aggregation="token-mean", q_low=hp["entropy_ratio_low"],
            q_high=hp["entropy_ratio_high"], preserving=preserving, eps=hp["entropy_eps"],
        )  # fmt: skip
        with torch.no_grad():
            prepared = stage.prepare(batch, current).value
        loss = mean(stage(batch, current, prepared) * correction, mask)
        total = loss + term.coefficient() * positive
        for name, value in (("", loss), ("_total", total)):
            (grad,) = torch.autograd.grad(value, leaf, retain_graph=True)
            out |= {f"out_loss{name}{suffix}": value.detach(), f"out_grad_logp{name}{suffix}": grad}
    kept = in_band(
        entropy_ratio(current["entropy"], before["entropy"], hp["entropy_eps"]),
        hp["entropy_ratio_low"],
        hp["entropy_ratio_high"],
    )
    out |= {"out_mask": kept.to(mask.dtype) * mask}
    out["out_keep_frac"] = aggregate("token-mean", kept.to(mask.dtype), mask)
    return {k: np.asarray(v) for k, v in out.items()}
