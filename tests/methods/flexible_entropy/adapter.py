"""Flexible entropy: thresholds at a step, both losses, and OD's trace of states."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.loss import PolicyLoss, TokenRatio
from methods.flexible_entropy import Phase, ProbabilityBounds, entropy_band
from tests.methods.support.golden import loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    logp, old, advantage = (tensor(case, n) for n in ("logp", "old_logp", "advantages"))
    batch = make_batch(mask, old={"logp": old}, advantage_BT=advantage)
    phase = Phase(hp["h_min_frac"])
    phase.u, phase.raising = hp["step"] / hp["total_steps"], bool(hp["state"])
    bounds = ProbabilityBounds(
        {"ID": "id", "DID": "did", "OD": "od"}[hp["strategy"]], phase,
        hp["alpha_high"], hp["beta_high"], hp["alpha_low"], hp["beta_low"], hp["eps_std"],
    )  # fmt: skip
    out: dict[str, object] = {}
    for name, options in (("token_mean", {}), ("seq_mean_token_mean", {"length_eps": 0.0})):
        stage = PolicyLoss(TokenRatio(None), bounds, aggregation=name.replace("_", "-"))
        loss, grad, prepared, _ = loss_and_grad(stage, batch, logp, **options)
        out |= {f"out_loss_{name}": loss, f"out_grad_logp_{name}": grad}
        out |= {"out_eps_high": prepared["high"] - 1, "out_eps_low": 1 - prepared["low"]}

    trace = Phase(hp["h_min_frac"])
    trace.raising = bool(hp["s0"])
    states, highs = [], []
    for k, entropy in enumerate(case["od_entropy"].tolist()):
        trace.u = k / hp["od_total_steps"]
        logged = trace.observe(entropy)
        states.append(float(trace.raising))
        highs.append(logged["flexible/tau_high"])
    assert trace.h_init is not None
    out |= {"out_od_state": states, "out_od_tau_high": highs}
    out["out_od_tau_low"] = entropy_band(trace.h_init, hp["h_min_frac"], 0.0)[0]
    return {k: np.asarray(v) for k, v in out.items()}
