"""Entropy polarity: both terms of the token factor, and the product with the advantage."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from methods.entropy_polarity import FACTOR, polarity, polarity_terms
from tests.methods.support.golden import tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    logits, tokens, mask = tensor(case, "logits"), tensor(case, "tokens"), tensor(case, "mask")
    advantage = tensor(case, "advantages")
    flat, target = logits.reshape(-1, logits.shape[-1]), tokens.reshape(-1)

    def shaped(value: torch.Tensor) -> torch.Tensor:
        return value.reshape(tokens.shape)

    sampled, correction = polarity_terms(flat, target)
    factor = shaped(FACTOR.compute(flat, target))
    out = {
        "out_token_factor": factor,
        "out_sampled_term": shaped(sampled),
        "out_state_correction": shaped(correction),
        "out_polarity": polarity(factor, advantage, mask),
    }
    return {k: np.asarray(v) for k, v in out.items()}
