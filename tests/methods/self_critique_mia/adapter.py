"""Self-critique: entropies of the likeliest tokens, the likeness of two answers, and its ROC AUC."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.top_tokens import truncated_entropy
from harness.statistics.detection import likeness, roc_auc
from tests.methods.support.golden import tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    entropy = {which: _entropy(case, which) for which in ("first", "second")}
    lengths = zip(case["len_first"].tolist(), case["len_second"].tolist(), strict=True)
    score = [
        likeness(_of(entropy["first"][row], first), _of(entropy["second"][row], second))
        for row, (first, second) in enumerate(lengths)
    ]
    both = len(set(case["member"].astype(bool)[np.isfinite(score)].tolist())) == 2
    out = {
        "out_entropy_first": entropy["first"],
        "out_entropy_second": entropy["second"],
        "out_score": score,
        "out_auc": roc_auc(score, case["member"]) if both else float("nan"),
    }
    return {name: np.asarray(value) for name, value in out.items()}


def _entropy(case: GoldenCase, which: str) -> np.ndarray:
    """Of the K likeliest tokens, in whatever order they are stored; a sampled one may come besides."""
    logp = tensor(case, f"topk_logprobs_{which}")
    k = min(int(case.hp["K"]), logp.shape[-1])
    return truncated_entropy(logp.topk(k).values).numpy()


def _of(entropy_T: np.ndarray, length: int) -> np.ndarray | None:
    """The tokens of a response; None where there is none, which is no empty one."""
    return None if length < 0 else entropy_T[:length]
