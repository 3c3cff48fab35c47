"""DCPO: virtual temperature, alpha, rho, the mixed advantage, loss and gradient."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.base import StepContext
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from methods.aepo import EntropyState
from methods.dcpo import VirtualTemperature
from tests.methods.support.golden import loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    assert hp["std_ddof"] == 1
    logp, old, tokens = tensor(case, "logp"), tensor(case, "old_logp"), tensor(case, "tokens")
    logits, rewards = tensor(case, "old_logits"), tensor(case, "rewards")
    state = EntropyState(hp["entropy_target"])
    state.h = hp["prev_entropy"]
    stage = VirtualTemperature(
        state, hp["temperature_low_entropy"], hp["temperature_high_entropy"], hp["gap_cap"],
        hp["score_threshold"], hp["std_eps"],
    )  # fmt: skip
    flat = stage.tempered.compute(logits.reshape(-1, logits.shape[-1]), tokens.reshape(-1))
    batch = make_batch(
        mask, old={"logp": old, stage.tempered.name: flat.reshape(tokens.shape)}, reward_B=rewards,
        group_B=tensor(case, "groups"),
    )  # fmt: skip
    context = StepContext(
        step=1, fraction=0.0, total_steps=1, seed=0, prompts_per_step=1, group_size=1,
        max_response_tokens=mask.shape[1], temperature=1.0,
    )  # fmt: skip
    made = stage(batch, context)
    advantage = made.value * mask
    loss_stage = PolicyLoss(
        TokenRatio(None), FixedBounds(hp["clip_low"], hp["clip_high"]), dual_clip=hp["clip_dual"],
        aggregation="token-mean",
    )  # fmt: skip
    trained = batch.with_(advantage_BT=advantage)
    loss, grad = loss_and_grad(loss_stage, trained, logp, count_eps=1e-8)[:2]
    out = {
        "out_temperature": made.metrics["dcpo/temperature"],
        "out_alpha": made.metrics["dcpo/alpha"],
        "out_true_ratio": (rewards > hp["score_threshold"]).double().mean(),
        "out_weights": (batch.old[stage.tempered.name] - old).exp() * mask,
        "out_advantages": advantage,
        "out_loss": loss,
        "out_grad_logp": grad,
    }
    return {k: np.asarray(v) for k, v in out.items()}
