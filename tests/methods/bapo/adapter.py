"""BAPO: bounds found by the released search and by the paper's, and the losses with them."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.loss import PolicyLoss, TokenRatio, log_ratio
from methods.bapo import SearchedBounds, positive_fraction, positive_negative_ratio
from tests.methods.support.golden import loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    logp, old, advantage = (tensor(case, n) for n in ("logp", "old_logp", "advantages"))
    batch = make_batch(mask, old={"logp": old}, advantage_BT=advantage)
    ratio = log_ratio(logp, old, hp["log_ratio_clamp"]).exp()
    released = SearchedBounds(
        hp["adv_ratio_target"],
        *(hp[f"ratio_{side}_{part}"] for side in ("lower", "upper") for part in ("start", "max", "step")),
        search="released",
        eps=hp["eps"],
    )
    paper_hp = hp["paper_variant"]
    paper = SearchedBounds(
        *(paper_hp[k] for k in ("rho0", "a_lo", "b_lo", "delta2", "a_hi", "b_hi", "delta1")),
        search="paper",
        tolerance=hp["paper_bound_tol"],
    )
    out: dict[str, object] = {}
    for bounds, dual_clip, prefix in ((released, hp["clip_ratio_c"], "out_"), (paper, None, "out_paper_")):
        stage = PolicyLoss(
            TokenRatio(hp["log_ratio_clamp"]), bounds, dual_clip=dual_clip, aggregation="token-mean"
        )
        loss, grad, prepared, _ = loss_and_grad(stage, batch, logp)
        low, high = float(prepared["low"]), float(prepared["high"])
        out |= {f"{prefix}loss": loss, f"{prefix}grad_logp": grad}
        out |= {f"{prefix}clip_low": low, f"{prefix}clip_high": high}
        if prefix == "out_":
            q = positive_negative_ratio(ratio, advantage, mask, low, high, hp["eps"])
            out["out_pos_neg_ratio"] = np.nan_to_num(q, posinf=1e300)
        else:
            out["out_paper_rho"] = positive_fraction(ratio, advantage, mask, old, low, high)
    return {k: np.asarray(v) for k, v in out.items()}
