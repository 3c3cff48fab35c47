"""Prompt augmentation: format rewards of every template, rewards, and the draws of templates."""

from __future__ import annotations

import random

import numpy as np

from harness.registry.golden import GoldenCase
from methods.prompt_augmentation import PAPERS, drawn, format_reward


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    names = case.hp["templates"]
    form = np.array(
        [[format_reward(text, PAPERS[n].marks) for n in names] for text in case.meta["completions"]]
    )
    draws = drawn(random.Random(case.hp["python_random_seed"]), names, len(case["out_template_draw"]))
    return {
        "out_format_reward": form,
        "out_reward": case["accuracy"][:, None] + form,
        "out_template_draw": np.array([names.index(name) for name in draws]),
    }
