"""D3S: both selections of rows, the tokens that go with them, and the schedule."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.defaults import group_normalised
from methods.d3s import best_tokens, scheduled, token_scores, widest, widest_in_groups
from tests.methods.support.golden import tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, group = case.hp, tensor(case, "mask"), tensor(case, "groups")
    advantage = group_normalised(tensor(case, "rewards"), group, eps=hp["std_eps"], ddof=hp["ddof"])
    score = token_scores(advantage, tensor(case, "entropy"), mask)
    own = widest_in_groups(advantage, group, hp["keep_per_group"])
    all_ = widest(advantage, hp["keep_batch"])
    n_first, n_last, k_first, k_last = tensor(case, "sched_params").tolist()
    progress = tensor(case, "sched_progress").tolist()
    out = {
        "out_advantages": advantage,
        "out_sample_mask": own,
        "out_group_variance": torch.stack(
            [advantage[own & (group == g)].var(correction=0) for g in torch.unique(group)]
        ),
        "out_scores": score,
        "out_token_mask": best_tokens(score, mask * own[:, None], hp["token_fraction"]).double(),
        "out_sample_mask_batch": all_,
        "out_token_mask_batch": best_tokens(score, mask * all_[:, None], hp["token_fraction"]).double(),
        "out_batch_variance": advantage[all_].var(correction=0),
        "out_sched": [[scheduled(n_first, n_last, p), scheduled(k_first, k_last, p)] for p in progress],
    }
    return {k: np.asarray(v) for k, v in out.items()}
