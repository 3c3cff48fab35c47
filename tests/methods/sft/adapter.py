"""SFT: log-probs from stored logits, the loss with its gradients, and the means that it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.demonstrations import cross_entropy
from harness.stages.token_stats import LOGP
from tests.methods.support.golden import make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, tokens = case.hp, tensor(case, "mask"), tensor(case, "tokens")
    if hp["label_smoothing"] != 0:
        raise ValueError("there is no label smoothing here")
    logits = tensor(case, "logits").requires_grad_()
    flat = (logits / hp["temperature"]).reshape(-1, logits.shape[-1])
    logp = LOGP.compute(flat, tokens.reshape(-1)).reshape(tokens.shape)
    out: dict[str, Any] = {"out_logp": logp.detach()}

    def loss_of(leaf: Tensor, aggregation: str, rows: slice = slice(None)) -> Tensor:
        batch = make_batch(mask[rows], advantage_BT=mask[rows])
        per_token = cross_entropy()(batch, {"logp": leaf[rows]}, {})
        if aggregation == "sum":
            return (per_token * mask[rows]).sum()
        return aggregate(aggregation, per_token, mask[rows], length_eps=0.0)

    def add(name: str, loss: Tensor, leaf: Tensor) -> None:
        out[f"out_loss{name}"] = loss.detach()
        out[f"out_grad_logp{name}"] = torch.autograd.grad(loss, leaf)[0]

    leaf = logp.detach().requires_grad_()
    add("", loss_of(leaf, "token-mean"), leaf)
    add("_seq_mean", loss_of(leaf, "seq-mean-token-mean"), leaf)
    size = int(hp["micro_batch_rows"])
    parts = [slice(i, i + size) for i in range(0, len(mask), size)]
    add("_micro_mean", torch.stack([loss_of(leaf, "token-mean", part) for part in parts]).mean(), leaf)
    out["out_loss_sum"] = loss_of(leaf, "sum").detach()
    out["out_grad_logits"] = torch.autograd.grad(loss_of(logp, "token-mean"), logits)[0]
    return {k: np.asarray(v) for k, v in out.items()}
