"""Softmax radius: the steps of a small network under the cap, and the radii of stored logits.

``lr`` of the json is the rate before the spike; the array of that name holds the rate of every step.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy, linear

from harness.registry.golden import GoldenCase
from harness.train.proposal import Proposal, largest_spread
from methods.softmax_radius import logit_spread, output_radius, radius, step_scale, top_gap
from tests.methods.support.golden import tensor

NAMES = ("fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias")


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, x, y = case.hp, tensor(case, "x"), tensor(case, "y")
    weights = [tensor(case, f"init_{name}").requires_grad_() for name in NAMES]

    def logits() -> torch.Tensor:
        return linear(linear(x, *weights[:2]).relu(), *weights[2:])

    adam = torch.optim.Adam(weights, lr=0.0, betas=tuple(hp["betas"]), eps=hp["eps"])
    found: dict[str, list[float]] = {"rho": [], "tau": [], "lr_eff": [], "losses": []}
    for lr in tensor(case, "lr").tolist()[: hp["steps"]]:
        adam.zero_grad()
        loss = cross_entropy(logits(), y)
        loss.backward()
        adam.param_groups[0]["lr"] = lr
        proposed = Proposal(weights, adam.step, logits, lambda a, b, far: largest_spread((b - a) / far))
        rho = radius(proposed.spread())
        scale = step_scale(proposed.length, rho, 1.0, "cap")
        proposed.take(scale)
        values = {"rho": rho, "tau": proposed.length, "lr_eff": lr * scale, "losses": float(loss.detach())}
        for name, value in values.items():
            found[name].append(value)
    stored, out = tensor(case, "logits"), {f"out_{k}": np.array(v) for k, v in found.items()}
    out |= {f"final_{n}": w.detach().numpy() for n, w in zip(NAMES, weights, strict=True)}
    for proxy, spread in (("mean", logit_spread), ("max", logit_spread), ("top2", top_gap)):
        out[f"out_rho_logits_{proxy}"] = np.array(output_radius(spread(stored), proxy))
    return out
