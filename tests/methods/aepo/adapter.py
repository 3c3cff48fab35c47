"""AEPO: temperature, selection and mixing of tempered rows, loss and the state for the next step."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.base import StepContext
from harness.stages.defaults import group_normalised
from harness.stages.loss import FixedBounds, PolicyLoss
from methods.aepo import EntropyState, MixTempered, extra_temperature
from tests.methods.support.golden import loss_and_grad, make_batch, spread, tensor

#: These are in the order of the mixed batch.
MASKS = {
    "out_advantages": "out_mixed_mask",
    "out_mixed_mask": "",
    "out_grad_logp": "out_mixed_mask",
}


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp = case.hp

    def both(name: str) -> torch.Tensor:
        return torch.cat([tensor(case, name), tensor(case, f"extra_{name}")])

    state = EntropyState(hp["entropy_target"])
    state.h = hp["prev_entropy"]
    mask = both("mask")
    n_main, n_extra = len(case["rewards"]), len(case["extra_rewards"])
    tempered = torch.cat([torch.zeros(n_main), torch.ones(n_extra)])
    main_groups = tensor(case, "groups")
    group = torch.cat([main_groups, tensor(case, "extra_groups") + main_groups.max() + 1])
    advantage = group_normalised(both("rewards"), group, eps=hp["std_eps"], ddof=hp["std_ddof"])
    index = torch.cat([torch.arange(n_main), torch.arange(n_extra)])
    batch = make_batch(
        mask,
        group_B=group,
        old={"logp": both("old_logp"), "current_logp": both("logp")},
        advantage_BT=spread(advantage, mask),
        tags={"tempered": tempered, "index": index},
    )
    context = StepContext(
        step=1, fraction=0.0, total_steps=1, seed=0, prompts_per_step=1, group_size=1,
        max_response_tokens=mask.shape[1], temperature=1.0,
    )  # fmt: skip
    select = MixTempered(state, hp["reinforce_sample_num"] / n_main, hp["advantage_threshold"])
    selected = select(batch, context)
    mixed = selected.value
    bounds = FixedBounds(hp["clip_low"], hp["clip_high"])
    stage = PolicyLoss(bounds=bounds, dual_clip=hp["clip_dual"], aggregation="token-mean")
    logp = mixed.old["current_logp"]
    loss, grad = loss_and_grad(stage, mixed, logp)[:2]
    mixed_mask = mixed.mask_BT.to(mask.dtype)
    out = {
        "out_temperature": extra_temperature(
            state.h, state.target, hp["temperature_high"], hp["temperature_low"]
        ),
        "out_num": int(selected.metrics["aepo/tempered_rows"]),
        "out_index": mixed.tags["index"],
        "out_source": mixed.tags["tempered"],
        "out_advantages": mixed.advantages(),
        "out_mixed_mask": mixed_mask,
        "out_loss": loss,
        "out_grad_logp": grad,
        "out_next_entropy": -aggregate("token-mean", logp, mixed_mask),
    }
    return {k: np.asarray(v) for k, v in out.items()}
