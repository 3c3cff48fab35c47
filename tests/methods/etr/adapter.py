"""ETR: bounds of each rollout as inputs (the interface), and the reconstruction of them in both modes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from harness.registry.golden import GoldenCase
from harness.stages.base import Out, Stats
from harness.stages.batch import Batch
from harness.stages.defaults import group_normalised
from harness.stages.loss import Bounds, PolicyLoss
from methods.etr import ElasticBounds, elastic_bounds, pass_rate, pass_variance
from tests.methods.support.golden import AGGREGATION, loss_and_grad, make_batch, spread, tensor


@dataclass(frozen=True, eq=False)
class GivenBounds(Bounds):
    """Ratio bounds from given clip ranges of each row."""

    eps_low: Tensor
    eps_high: Tensor

    def __call__(self, batch: Batch, current: Stats) -> Out[tuple[Tensor, Tensor]]:
        return Out((1 - self.eps_low, 1 + self.eps_high))


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    reward, group, logp = (tensor(case, n) for n in ("rewards", "groups", "logp"))
    variance = pass_variance(reward, group)
    out: dict[str, object] = {"out_pass_rate": pass_rate(reward, group), "out_group_variance": variance}
    old = {"logp": tensor(case, "old_logp")}
    modes: dict[str, Bounds] = {}
    if "advantages" in case:
        batch = make_batch(mask, old=old, advantage_BT=tensor(case, "advantages"))
        modes[""] = GivenBounds(tensor(case, "eps_low"), tensor(case, "eps_high"))
    else:
        advantage = group_normalised(reward, group, eps=hp["std_eps"], ddof=hp["std_ddof"])
        out["out_advantages"] = advantage
        batch = make_batch(
            mask, old=old, advantage_BT=spread(advantage, mask), tags={"pass_variance": variance}
        )
        for mode, k_macro in (("implicit", 0.0), ("explicit", hp["k_macro"])):
            setting = (hp["eps_0"], hp["k_micro"], k_macro, hp["eps_low_cap"])
            modes[f"{mode}_"] = ElasticBounds(*setting)
            low, high = elastic_bounds(advantage, variance, *setting)
            out |= {f"out_eps_low_{mode}": low, f"out_eps_high_{mode}": high}
    for mode, bounds in modes.items():
        for key in ("token_mean", "seq_mean_token_mean"):
            stage = PolicyLoss(bounds=bounds, dual_clip=hp["clip_c"], aggregation=AGGREGATION[key])
            loss, grad = loss_and_grad(stage, batch, logp, length_eps=0.0)[:2]
            out |= {f"out_loss_{mode}{key}": loss, f"out_grad_logp_{mode}{key}": grad}
    return {k: np.asarray(v) for k, v in out.items()}
