"""ProGRPO: confidences of prompt and answer, re-weighted advantages and the loss with them."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.defaults import group_normalised
from harness.stages.loss import FixedBounds, PolicyLoss
from methods.progrpo import confidence, reweighted
from tests.methods.support.golden import loss_and_grad, make_batch, spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    reward, group, old = (tensor(case, n) for n in ("rewards", "groups", "old_logp"))
    advantage = group_normalised(reward, group, eps=hp["std_eps"], ddof=hp["std_ddof"])
    prompt = confidence(tensor(case, "prompt_logp"), tensor(case, "prompt_mask"), hp["low_fraction"])
    answer = confidence(old, mask, hp["low_fraction"])
    arm = {
        gate: reweighted(advantage, reward, group, prompt, answer, hp["alpha"], gate)
        for gate in ("any_correct", "mixed_only")
    }
    stage = PolicyLoss(
        bounds=FixedBounds(hp["clip_ratio_low"], hp["clip_ratio_high"]),
        dual_clip=hp["clip_c"],
        aggregation="token-mean",
    )
    batch = make_batch(mask, old={"logp": old}, advantage_BT=spread(arm["any_correct"], mask))
    loss, grad = loss_and_grad(stage, batch, tensor(case, "logp"))[:2]
    out = {
        "out_conf_prompt": prompt,
        "out_conf_answer": answer,
        "out_advantages": arm["any_correct"],
        "out_advantages_mixed_only": arm["mixed_only"],
        "out_loss": loss,
        "out_grad_logp": grad,
    }
    return {k: np.asarray(v) for k, v in out.items()}
