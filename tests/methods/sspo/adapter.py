"""SSPO: segment ratios and entropies, the loss with given bounds or with the reconstructed rule for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from harness.registry.golden import GoldenCase
from harness.stages.base import Out, Stats
from harness.stages.batch import Batch
from harness.stages.defaults import group_normalised
from harness.stages.loss import Bounds, PolicyLoss
from harness.stages.ratios import SegmentRatio, segment_means
from methods.sspo import EntropyBounds
from tests.methods.support.golden import AGGREGATION, loss_and_grad, make_batch, spread, tensor


@dataclass(frozen=True)
class Given(Bounds):
    low: Tensor
    high: Tensor

    def __call__(self, batch: Batch, current: Stats) -> Out[tuple[Tensor, Tensor]]:
        return Out((1 - self.low, 1 + self.high))


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, logp = case.hp, tensor(case, "mask"), tensor(case, "logp")
    old = {"logp": tensor(case, "old_logp"), "entropy": tensor(case, "entropy")}
    batch = make_batch(mask, old=old, segment_BT=tensor(case, "segments"))
    out: dict[str, object] = {}
    if hp:
        advantage = group_normalised(
            tensor(case, "rewards"), tensor(case, "groups"), eps=hp["std_eps"], ddof=hp["std_ddof"]
        )
        batch = batch.with_(advantage_BT=spread(advantage, mask))
        bounds: Bounds = EntropyBounds(hp["eps_low"], hp["eps_high"], hp["scale_lo"], hp["scale_hi"])
        low, high = bounds(batch, {"logp": logp}).value
        out |= {"out_advantages": advantage, "out_eps_low": 1 - low, "out_eps_high": high - 1}
    else:
        batch = batch.with_(advantage_BT=tensor(case, "advantages") * mask)
        bounds = Given(tensor(case, "eps_low"), tensor(case, "eps_high"))
    for key in ("seq_mean_token_mean", *(() if hp else ("token_mean",))):
        stage = PolicyLoss(SegmentRatio(), bounds, aggregation=AGGREGATION[key])
        loss, grad = loss_and_grad(stage, batch, logp, length_eps=0.0)[:2]
        out |= {f"out_loss_{key}": loss, f"out_grad_logp_{key}": grad}
    out |= {
        "out_seg_ratio": stage.ratio_BT(batch, {"logp": logp}),
        "out_seg_entropy": segment_means(old["entropy"], tensor(case, "segments"), mask),
    }
    return {k: np.asarray(v) for k, v in out.items()}
