"""BuPO: log-probs of the internal policy, the loss, and its gradients on hidden states and the head."""

from __future__ import annotations

import numpy as np
import torch

from harness.model.logits import token_stats
from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from methods.bupo import BuPO
from tests.methods.support.golden import AGGREGATION, make_batch, tensor

LAYER = 1.0


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    aggregation = case.meta["aggregation"]
    method = BuPO(
        layer=LAYER, eps_low=hp["clip"], eps_high=hp["clip"], dual_clip=hp["clip_ratio_c"],
        aggregation=AGGREGATION.get(aggregation, aggregation),
    )  # fmt: skip
    loss = method.stages().loss
    (stat,) = loss.parts()[0].current_stats
    hidden, head = (tensor(case, name).requires_grad_() for name in ("hidden", "lm_head"))
    inside = mask.bool()
    values = token_stats(
        hidden[inside], head, tensor(case, "tokens")[inside], [stat], temperature=hp["temperature"]
    )
    logp = torch.zeros_like(mask).masked_scatter(inside, values[stat.name])
    old = tensor(case, "old_logp")
    batch = make_batch(mask, old={"logp": old, stat.name: old}, advantage_BT=tensor(case, "advantages"))
    current = {"logp": logp, stat.name: logp}
    with torch.no_grad():
        prepared = loss.prepare(batch, current).value
    value = aggregate(loss.aggregation, loss(batch, current, prepared), batch.train_mask_BT)
    grad_logp, grad_hidden, grad_head = torch.autograd.grad(value, [logp, hidden, head])
    out = {
        "out_logp_internal": logp,
        "out_loss": value,
        "out_grad_logp": grad_logp,
        "out_grad_hidden": grad_hidden,
        "out_grad_lm_head": grad_head,
    }
    return {k: v.detach().numpy() for k, v in out.items()}
