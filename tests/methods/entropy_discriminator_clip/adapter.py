"""Clip_B and Clip_V: both masks and the signals behind them."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.base import StepContext
from harness.stages.defaults import group_normalised
from methods.entropy_discriminator_clip import ClipChange, ClipDiscriminator, discriminator, mean_std
from methods.entropy_polarity import FACTOR, polarity_terms
from tests.methods.support.golden import make_batch, spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, tokens = case.hp, tensor(case, "mask"), tensor(case, "tokens")
    logits = tensor(case, "old_logits")
    flat, target = logits.reshape(-1, logits.shape[-1]), tokens.reshape(-1)
    change = FACTOR.compute(flat, target).reshape(tokens.shape)
    advantage = spread(
        group_normalised(
            tensor(case, "rewards"), tensor(case, "groups"), eps=hp["std_eps"], ddof=hp["std_ddof"]
        ),
        mask,
    )
    old = {"logp": tensor(case, "logp"), "entropy": tensor(case, "entropy"), FACTOR.name: change}
    batch = make_batch(mask, old=old, advantage_BT=advantage)
    context = StepContext(
        step=1, fraction=0.0, total_steps=1, seed=0, prompts_per_step=1, group_size=1,
        max_response_tokens=mask.shape[1], temperature=1.0,
    )  # fmt: skip
    b = ClipDiscriminator(hp["mu_b"], hp["clipb_min_std"])(batch, context)
    v = ClipChange(hp["mu_v"], max_fraction=hp["max_frac"])(batch, context)
    out = {
        "out_advantages": advantage,
        "out_mask_clipb": b.value.train_mask_BT.to(mask.dtype),
        "out_mask_clipv": v.value.train_mask_BT.to(mask.dtype),
        "out_frac_clipb": b.metrics["discriminator/removed"],
        "out_frac_clipv": v.metrics["discriminator/removed"],
        "out_discriminator": discriminator(old["logp"], old["entropy"]),
        "out_nec": polarity_terms(flat, target)[1].reshape(tokens.shape),
        "out_std_clipv": mean_std(change, mask)[1],
    }
    return {k: np.asarray(v) for k, v in out.items()}
