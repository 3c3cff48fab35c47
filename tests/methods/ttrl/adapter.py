"""TTRL: label of each prompt, rewards, kept rollouts and the advantages among them."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.answers import elected
from harness.stages.downsample import advantage_of, first_of_group
from harness.stages.groups import rows_by_group
from methods.ttrl import agreement
from tests.methods.support.golden import answer_strings, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, group = case.hp, tensor(case, "groups")
    answers = answer_strings(case, missing=-1)
    labels = elected(answers, group)
    reward = agreement(answers, answers, labels).double()
    keep = torch.zeros(len(group), dtype=torch.bool)
    for rows in rows_by_group(group):  # a number of each prompt's rollouts, however many voted
        keep[rows] = first_of_group(group[rows], hp["n_samples"] / len(rows))
    first = [labels[rows[0]] for rows in rows_by_group(group)]
    out = {
        "out_labels": [-1 if row is None or answers[row] is None else int(answers[row]) for row in first],
        "out_rewards": reward,
        "out_mask": keep,
        "out_advantages": advantage_of(reward, group, keep, eps=hp["adv_epsilon"]),
    }
    return {k: np.asarray(v) for k, v in out.items()}
