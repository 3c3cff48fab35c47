"""RiskPO: scores of the papers, advantages, loss and gradient; the tracked quantiles and their next step."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.bundles import tied
from harness.stages.loss import FixedBounds, PolicyLoss
from methods.riskpo import BundleRisk, Risk, first_quantiles, moved_quantiles, paper_scores
from tests.methods.support.golden import VERL_ROWS, loss_and_grad, make_batch, spread, tensor


def renumbered(group_B: torch.Tensor, bundle_B: torch.Tensor, size: int) -> torch.Tensor:
    """Numbers of the groups, of which consecutive ones make up the stored bundles as they are met."""
    number: dict[int, int] = {}
    for place, bundle in enumerate(dict.fromkeys(bundle_B.tolist())):
        for k, group in enumerate(sorted(set(group_B[bundle_B == bundle].tolist()))):
            number[group] = place * size + k
    return torch.tensor([number[group] for group in group_B.tolist()])


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    reward, group = tensor(case, "rewards"), tensor(case, "groups")
    group = renumbered(group, tensor(case, "bundles"), hp["bundle_size"])
    measure = "mixed" if hp["use_mixing_risk_measure"] else "middle"
    weight = hp["w_mix"]
    if measure == "middle" and hp.get("risk_seeking_upper_tail"):
        measure, weight = "upper", hp.get("upper_weight", 1.5)
    risk = Risk(
        hp["quantile_down"], hp["quantile_up"], measure, weight, hp["natural_baseline_adv"],
        hp["norm_adv_by_std_in_grpo"], hp["epsilon"],
    )  # fmt: skip
    stage = BundleRisk(risk, hp["bundle_size"], hp["credit_assign_mode"], hp["use_q_track_mode"])
    track = tensor(case, "q_track").tolist()
    advantage = spread(stage.of(reward, group, (track[0], track[1]) if track else None).value, mask)
    score = [paper_scores(reward, rows) for rows in tied(group, hp["bundle_size"])]
    loss_stage = PolicyLoss(
        bounds=FixedBounds(hp["clip_ratio"], hp["clip_ratio"]), dual_clip=hp["clip_ratio_c"],
        aggregation=hp["loss_agg_mode"],
    )  # fmt: skip
    batch = make_batch(mask, old={"logp": tensor(case, "old_logp")}, advantage_BT=advantage)
    loss, grad = loss_and_grad(loss_stage, batch, tensor(case, "logp"), count_eps=1e-8, **VERL_ROWS)[:2]
    out = {
        "out_bundle_scores": torch.nn.utils.rnn.pad_sequence(score, batch_first=True),
        "out_advantages": advantage,
        "out_tracker_q_init": first_quantiles(torch.cat(score)),
        "out_tracker_q_next": moved_quantiles(tensor(case, "tracker_q"), torch.cat(score), hp["lr_q"]),
        "out_loss": loss,
        "out_grad_logp": grad,
    }
    return {k: np.asarray(v) for k, v in out.items()}
