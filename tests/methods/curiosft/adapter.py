"""CurioSFT: the teacher's temperatures and log-probs from stored logits, loss and gradient."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.demonstrations import cross_entropy
from methods.curiosft import CuriousLogProb, SelfDistillation, tempered_entropy
from tests.methods.support.golden import make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, tokens = case.hp, tensor(case, "mask"), tensor(case, "tokens")
    teacher = CuriousLogProb(
        tau_min=hp["tau_min"], tau_max=hp["tau_max"], pivot=hp["pivot"], slope=hp["slope"],
        max_gain=hp["max_gain"], low_entropy=hp["low_entropy_threshold"], top_k=int(hp["topk"]),
        iterations=int(hp["bisection_iters"]),
    )  # fmt: skip
    logits = tensor(case, "teacher_logits")
    flat = logits.reshape(-1, logits.shape[-1])
    q = teacher.compute(flat, tokens.reshape(-1)).reshape(tokens.shape)
    distillation = SelfDistillation(teacher, hp["alpha"])
    batch = make_batch(mask, advantage_BT=mask, token_tags={teacher.name: q})
    leaf = tensor(case, "logp").requires_grad_()
    loss = sum(
        (
            factor * aggregate("token-mean", stage(batch, {"logp": leaf}, {}), mask, count_eps=1e-8)
            for factor, stage in ((1.0, cross_entropy()), (distillation.coefficient(), distillation))
        ),
        torch.zeros(()),
    )
    seen = teacher.largest(flat)  # H is the entropy that the search starts from, not that of all logits
    entropy = tempered_entropy(seen, torch.ones_like(seen[:, 0]))
    return {
        "out_entropy_teacher": entropy.reshape(tokens.shape).numpy(),
        "out_tau": teacher.temperature(flat).reshape(tokens.shape).numpy(),
        "out_ref_logp": q.numpy(),
        "out_loss": loss.detach().numpy(),
        "out_grad_logp": torch.autograd.grad(loss, leaf)[0].numpy(),
    }
