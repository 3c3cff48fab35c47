"""SAPO: gate and slope, the losses with them as verl, TRL and AReaL reduce them."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.loss import TokenRatio, log_ratio
from methods.sapo import UNBOUNDED, SoftGateLoss, gate, gate_slope, temperatures
from tests.methods.support.golden import TRL_ROWS, loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, logp = case.hp, tensor(case, "mask"), tensor(case, "logp")
    old, advantage = tensor(case, "old_logp"), tensor(case, "advantages")
    batch = make_batch(mask, old={"logp": old}, advantage_BT=advantage)

    def stage(clamp: float | None, aggregation: str = "seq-mean-token-mean") -> SoftGateLoss:
        return SoftGateLoss(
            TokenRatio(clamp),
            UNBOUNDED,
            aggregation=aggregation,
            tau_pos=hp["tau_pos"],
            tau_neg=hp["tau_neg"],
        )

    ratio = log_ratio(logp, old, hp["log_ratio_clamp"]).exp()
    tau = temperatures(advantage, hp["tau_pos"], hp["tau_neg"])
    out: dict[str, object] = {"out_gate": gate(ratio, tau), "out_gate_slope": gate_slope(ratio, tau)}
    for suffix, loss, options in (
        ("", stage(hp["log_ratio_clamp"]), {"length_eps": hp["length_eps"]}),
        ("_trl", stage(None), TRL_ROWS),
        ("_token_mean", stage(None, "token-mean"), {}),
    ):
        value, grad = loss_and_grad(loss, batch, logp, **options)[:2]
        out |= {f"out_loss{suffix}": value, f"out_grad_logp{suffix}": grad}
    return {k: np.asarray(v) for k, v in out.items()}
