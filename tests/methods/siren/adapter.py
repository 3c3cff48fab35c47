"""SIREN: nucleus entropy, peaks, the aggregate and its gradient, and the loss with the squared distance."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import AGGREGATIONS, aggregate
from harness.stages.loss import FixedBounds, PolicyLoss
from harness.stages.token_stats import LOGP, NucleusEntropy
from methods.siren import Anchor, PeakEntropy, peak_entropy, peaks
from tests.methods.support.golden import make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, tokens = case.hp, tensor(case, "mask"), tensor(case, "tokens")
    stat = NucleusEntropy(top_p=hp["top_p"], top_k=int(hp["top_k"]))
    leaf = tensor(case, "logits").requires_grad_()

    def of(logits: torch.Tensor, chosen: Any) -> torch.Tensor:
        flat = logits.reshape(-1, logits.shape[-1])
        return chosen.compute(flat, tokens.reshape(-1)).reshape(tokens.shape)

    current = {"logp": of(leaf, LOGP), stat.name: of(leaf, stat)}
    first = of(tensor(case, "init_logits"), stat)
    batch = make_batch(mask, old={"logp": tensor(case, "old_logp")}, advantage_BT=tensor(case, "advantages"))
    # "policy loss <name> (...)": the sum over T, of every row or of all rows, or the token mean
    name = case.meta["aggregation"].split("policy loss ")[1].split()[0]
    mode = {"seq-mean-token-sum-norm": "all-seq-mean-token-sum-norm"}.get(name, name)
    assert mode in AGGREGATIONS
    counts = {"count_eps": 1e-8} if mode == "token-mean" else {}
    stage = PolicyLoss(
        bounds=FixedBounds(hp["clip"], hp["clip"]), dual_clip=hp["clip_ratio_c"], aggregation=mode
    )
    anchor = Anchor(float(case["anchor"]), stat, hp["quantile"])
    term = PeakEntropy(anchor, hp["coef"])
    with torch.no_grad():
        constants = [s.prepare(batch, current).value for s in (stage, term)]
    policy = aggregate(mode, stage(batch, current, constants[0]), mask, **counts)
    square = aggregate(term.aggregation, term(batch, current, constants[1]), mask, length_eps=0.0)
    loss = policy + term.coefficient() * square
    reduced = peak_entropy(current[stat.name], mask, hp["quantile"])
    (grad,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    (entropy_grad,) = torch.autograd.grad(reduced, leaf)
    entropy = current[stat.name].detach()
    out = {
        "out_anchor_init": peak_entropy(first, mask, hp["quantile"]),
        "out_entropy_topp": entropy * mask,
        "out_mask": peaks(entropy, mask, hp["quantile"]).to(mask.dtype),
        "out_entropy_agg": reduced.detach(),
        "out_pg_loss": policy.detach(),
        "out_loss": loss.detach(),
        "out_grad_logits": grad,
        "out_grad_entropy_agg_logits": entropy_grad,
    }
    return {k: np.asarray(v) for k, v in out.items()}
