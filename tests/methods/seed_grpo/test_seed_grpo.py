"""SEED-GRPO on numbers worked out by hand, and the direction of its damping."""

from __future__ import annotations

import math

import pytest
import torch

from harness.stages.answers import clustered
from harness.stages.defaults import group_normalised
from methods.seed_grpo import factor, semantic_entropy

GROUP = torch.zeros(4, dtype=torch.int64)
ALIKE = torch.full((4,), -0.5, dtype=torch.float64)
CLUSTER = clustered(["a", "a", "a", "b"], GROUP)


def test_the_papers_form_by_hand() -> None:
    entropy, largest = semantic_entropy(CLUSTER, GROUP, ALIKE, "linear")
    assert entropy.tolist() == pytest.approx([0.836988] * 4, abs=1e-6)
    assert (entropy / largest).tolist() == pytest.approx([0.603759] * 4, abs=1e-6)
    scale = factor(entropy, largest, 1.0, "linear")
    advantage = group_normalised(torch.tensor([1.0, 1.0, 1.0, 0.0]).double(), GROUP, scale="none")
    assert (advantage * scale).tolist() == pytest.approx([0.099060] * 3 + [-0.297180], abs=1e-6)


def test_the_codes_form_by_hand() -> None:
    entropy, largest = semantic_entropy(CLUSTER, GROUP, ALIKE)
    assert entropy.tolist() == pytest.approx([0.562335] * 4, abs=1e-6)
    assert factor(entropy, largest, 1.0).tolist() == pytest.approx([0.711420] * 4, abs=1e-6)
    assert factor(entropy, largest, 0.0417).tolist() == pytest.approx([0.983366] * 4, abs=1e-6)


@pytest.mark.parametrize("form", ["code", "linear", "exponential"])
def test_the_less_the_answers_agree_the_smaller_the_step(form: str) -> None:
    scales = []
    for answers in (["a"] * 4, ["a", "a", "a", "b"], ["a", "a", "b", "b"], ["a", "b", None, None]):
        entropy, largest = semantic_entropy(clustered(answers, GROUP), GROUP, ALIKE, form)
        scales.append(float(factor(entropy, largest, 0.5, form)[0]))
    assert scales[0] == 1.0 and scales[-1] < min(scales[1:-1])
    if form == "code":  # the paper's mean over clusters is larger for shares 3:1 than for 1:1
        assert scales == sorted(scales, reverse=True)


def test_the_forms_agree_to_first_order() -> None:
    entropy, largest = torch.tensor([1.1]).double(), torch.tensor([math.log(8)]).double()
    values = [float(factor(entropy, largest, 1e-4, form)) for form in ("code", "linear", "exponential")]
    assert max(values) - min(values) < 1e-8 and max(values) < 1 - 5e-5


def test_an_unlikely_answer_counts_less() -> None:
    far = torch.tensor([0.0, 0.0, 0.0, -2000.0], dtype=torch.float64)
    assert float(semantic_entropy(CLUSTER, GROUP, far)[0][0]) == pytest.approx(0.0, abs=1e-12)
    assert math.isfinite(float(semantic_entropy(CLUSTER, GROUP, far, "linear")[0][0]))
