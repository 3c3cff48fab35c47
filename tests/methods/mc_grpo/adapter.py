"""MC-GRPO: advantages, the row left out, loss and gradient in TRL's three forms."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import token_coefficients
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from harness.stages.regularise import ReferenceKL
from methods.mc_grpo import AGGREGATIONS, MedianAdvantage, WithoutMedian
from tests.methods.support.golden import TRL_ROWS, make_batch, plain_context, spread, tensor

FORMS = dict(zip(("grpo", "dr_grpo", "dapo"), AGGREGATIONS, strict=True))


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, logp = case.hp, tensor(case, "mask"), tensor(case, "logp")
    reward, group = tensor(case, "rewards"), tensor(case, "groups")
    rescale = {"math": False, "gsm": True}[case.meta["variant"]]
    batch = make_batch(
        mask, old={"logp": tensor(case, "old_logp")}, ref_logp_BT=tensor(case, "ref_logp"), reward_B=reward,
        group_B=group, tags={"row": torch.arange(len(mask))},
    )  # fmt: skip
    context, how = plain_context(mask), FORMS[hp["loss_type"]]
    advantage = MedianAdvantage(hp["mad_eps"], rescale)(batch, context).value
    batch = batch.with_(advantage_BT=spread(advantage, mask))
    kept = WithoutMedian("sampled" if how == "token-mean" else "kept")(batch, context).value
    rows = kept.tags["row"]
    loss_stage = PolicyLoss(TokenRatio(None), FixedBounds(hp["epsilon"], hp["epsilon"]), aggregation=how)
    kl = ReferenceKL(hp["beta"], "k3", how, exponent_clamp=None, value_clamp=None)
    leaf = logp.clone().requires_grad_()
    stats = {"logp": leaf[rows]}
    with torch.no_grad():
        prepared = loss_stage.prepare(kept, stats).value
    coefficient = token_coefficients(
        how, kept.train_mask_BT.double(), count_mask_BT=kept.denominator_mask_BT,
        width=hp["max_completion_length"], **TRL_ROWS,
    )  # fmt: skip
    per_token = loss_stage(kept, stats, prepared) + kl.coefficient() * kl(kept, stats, {})
    loss = (coefficient * per_token).sum()
    (grad,) = torch.autograd.grad(loss, leaf)
    out = {
        "out_advantages": advantage,
        "out_mask": torch.isin(torch.arange(len(mask)), rows),
        "out_loss": loss.detach(),
        "out_grad_logp": grad,
    }
    return {k: np.asarray(v) for k, v in out.items()}
