"""SPO: beginnings and credit of segments, whitening, loss with its KL; values and edges of a tree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import token_coefficients
from harness.stages.branching import node_values
from harness.stages.uncertain import UncertainWhitening, whitened_over
from methods.spo import (
    SPOChain,
    beginnings,
    edge_advantages,
    kept_edges,
    segment_advantages,
    uncertain,
)
from tests.methods.support.golden import make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, old = case.hp, tensor(case, "mask").bool(), tensor(case, "old_logp")
    threshold = hp["prob_threshold"]
    low = uncertain(old, mask, threshold)
    begins = beginnings(low, hp["cutpoint_interval"])
    value = tensor(case, "cut_values")[:, : mask.shape[1]]
    credit = segment_advantages(begins, torch.where(begins, value, 0.0), tensor(case, "rewards"))
    credit = torch.where((old.exp() > threshold) | ~mask, 0.0, credit)
    batch = make_batch(mask, old={"logp": old}, ref_logp_BT=tensor(case, "ref_logp"), advantage_BT=credit)
    stages = SPOChain(
        prob_threshold=threshold, eps=hp["cliprange"], kl_coef=hp["kl_coef"], ratio_threshold=None
    ).stages()
    loss = replace(cast(Any, stages.loss), credit=UncertainWhitening(threshold, hp["whiten_eps"]))
    leaf = tensor(case, "logp").clone().requires_grad_()
    stats, losses = {"logp": leaf}, []
    for term in (loss, *stages.regularisers):
        prepared = term.prepare(batch, stats).value
        chosen = term.tokens(batch)
        coefficient = token_coefficients(term.aggregation, chosen.double()) * prepared.get("counted", 1.0)
        losses.append((term(batch, stats, prepared) * coefficient).sum())
    total = losses[0] + sum(
        r.coefficient() * own for r, own in zip(stages.regularisers, losses[1:], strict=True)
    )
    (grad,) = torch.autograd.grad(total, leaf)
    parent = tensor(case, "tree_parent")
    values = node_values(parent, tensor(case, "tree_leaf_reward"))
    edges = edge_advantages(parent, values)
    out = {
        "out_token_advantages": credit,
        "out_advantages": whitened_over(credit, low, mask, hp["whiten_eps"]),
        "out_action_mask": low.long(),
        "out_pg_loss": losses[0].detach(),
        "out_loss": total.detach(),
        "out_grad_logp": grad,
        "out_tree_value": values,
        "out_tree_advantage": edges,
        "out_tree_advantage_grpo": edge_advantages(parent, values, "normalised"),
        "out_tree_keep": kept_edges(parent, values, edges).long(),
    }
    return {k: np.asarray(v) for k, v in out.items()}
