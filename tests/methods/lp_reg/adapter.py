"""Lp-Reg: the proxy's log-probs from stored logits, the tokens that get the KL, loss and gradient."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.loss import FixedBounds, TokenRatio
from harness.stages.token_stats import MinPLogProb
from methods.lp_reg import HeldUpLoss
from tests.methods.support.golden import loss_and_grad, make_batch, tensor

#: verl's names of the estimators.
KL = {"kl": "k1", "abs": "abs", "mse": "k2", "low_var_kl": "k3"}


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, tokens = case.hp, tensor(case, "mask"), tensor(case, "tokens")
    relative = {"minp": True, "fixed": False}[hp["regular_type"]]
    proxy = MinPLogProb(min_p=hp["min_p"], relative=relative, soft=hp["minp_soft"])
    temperature, old_logits = hp["temperature"], tensor(case, "old_logits")
    flat = (old_logits / temperature).reshape(-1, old_logits.shape[-1])
    q = proxy.at_temperature(flat, tokens.reshape(-1), temperature).reshape(tokens.shape)
    batch = make_batch(
        mask, old={"logp": tensor(case, "old_logp"), proxy.name: q}, advantage_BT=tensor(case, "advantages")
    )
    stage = HeldUpLoss(
        TokenRatio(None), FixedBounds(hp["clip_low"], hp["clip_high"]), proxy=proxy,
        rho=(hp["rho_neg"], hp["rho_pos"]), beta=hp["beta"], kl=KL.get(hp["kl_type"], hp["kl_type"]),
        aggregation=case.meta["aggregation"].split()[0],
    )  # fmt: skip
    eps = {"count_eps": 1e-8} if stage.aggregation == "token-mean" else {}
    loss, grad, prepared, _ = loss_and_grad(stage, batch, tensor(case, "logp"), **eps)
    return {
        "out_proxy_logp": np.asarray(q),
        "out_mask": np.asarray(prepared["held"].to(mask.dtype)),
        "out_loss": loss,
        "out_grad_logp": grad,
    }
