"""EMPO: rewards of both recipes, with threshold and by vote, the cluster entropy, the advantages."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.answers import answer_entropy, clustered
from harness.stages.defaults import group_normalised
from harness.stages.groups import rows_by_group
from methods.empo import consensus
from tests.methods.support.golden import answer_strings, tensor

KIND = {"entropy": "share", "voting": "voting"}


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, group = case.hp, tensor(case, "groups")
    answers = answer_strings(case, missing=-1)
    answered = torch.tensor([answer is not None for answer in answers])
    apart = clustered(answers, group)
    together = clustered(answers, group, missing="together")
    first = [rows[0] for rows in rows_by_group(group)]
    reward = consensus(apart, group, answered, KIND[hp["reward_type"]])
    out = {
        "out_rewards": reward,
        "out_rewards_trl": consensus(together, group, answered, "trl"),
        "out_rewards_threshold": consensus(apart, group, answered, "share", hp["threshold_max_frequency"]),
        "out_rewards_voting": consensus(apart, group, answered, "voting"),
        "out_entropy_trl": answer_entropy(together, group)[first],
        "out_advantages": group_normalised(reward, group, eps=hp["adv_epsilon"]),
    }
    return {k: np.asarray(v) for k, v in out.items()}
