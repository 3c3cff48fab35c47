"""What the head reads behind a layer is what transformers' own hidden states give, whatever way rows go."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.model.fused import unfused
from harness.model.policy import Policy
from harness.rollout.sampled import sampled_with
from harness.stages.base import Stage
from harness.stages.token_stats import ENTROPY, LOGP, Entropy, LogProb, TokenStat
from harness.util.errors import UserError
from tests.helpers.tiny import make_batch, tiny_policy, tiny_trainer

INNER = (LogProb(layer=1), Entropy("inner", layer=0.4), LogProb(scale=2.0, layer=1))
PROMPTS = [[5, 6, 7, 8], [5, 6, 7, 8], [9, 10]]
RESPONSES = [[11, 12, 13], [14, 15, 16, 17, 18], [19]]


def plain(policy: Policy, number: int) -> dict[str, Tensor]:
    """Statistics of the responses, row by row, from the hidden states that transformers returns."""
    found: dict[str, list[Tensor]] = {stat.name: [] for stat in INNER}
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        ids = torch.tensor([prompt + response])
        hidden = policy.model(ids, output_hidden_states=True).hidden_states[number][0]
        logits = policy.model.lm_head(hidden)[len(prompt) - 1 : -1] / policy.temperature
        logp, target = logits.log_softmax(1), torch.tensor(response)[:, None]
        found["logp@layer1"].append(logp.gather(1, target)[:, 0])
        found["inner"].append(-(logp.exp() * logp).sum(1))
        found["logp@2@layer1"].append((2 * logits).log_softmax(1).gather(1, target)[:, 0])
    return {name: torch.cat(values) for name, values in found.items()}


@pytest.mark.parametrize("way", ["fused", "packed", "padded", "recomputed"])
def test_readout_equals_hidden_states(way: str) -> None:
    policy = tiny_policy(torch.float64, 0.8)
    batch = make_batch(policy, PROMPTS, RESPONSES)
    if way == "recomputed":
        policy.network.recompute()
    if way == "padded":
        policy.network.ways = type(policy.network.ways)()
    wanted = (LOGP, ENTROPY, *INNER)

    with unfused(policy.model) if way == "packed" else nullcontext():
        got, alone = policy.stats(batch, wanted), policy.stats(batch, (LOGP, ENTROPY))
    expected = plain(policy, 1)
    weights = dict(policy.model.named_parameters())

    def gradients(values: dict[str, Tensor]) -> dict[str, Any]:
        total = sum((values[stat.name] * (i + 1.0)).sum() for i, stat in enumerate(INNER))
        grads = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
        return dict(zip(weights, grads, strict=True))

    for stat in INNER:
        torch.testing.assert_close(got[stat.name][batch.mask_BT], expected[stat.name])
    ours, theirs = gradients(got), gradients(expected)
    for name, grad in theirs.items():
        assert (grad is None) == (ours[name] is None)
        assert (grad is None) == (name.startswith("model.layers.1") or name == "model.norm.weight")
        if grad is not None:
            torch.testing.assert_close(ours[name], grad)
    # the whole policy's own statistics are as without
    assert torch.equal(alone["logp"], got["logp"]) and torch.equal(alone["entropy"], got["entropy"])


def test_behind_the_last_layer_stands_the_whole_policy() -> None:
    policy = tiny_policy(torch.float64, 0.8)
    batch = make_batch(policy, PROMPTS, RESPONSES)
    got = policy.stats(batch, (LOGP, LogProb(layer=2), LogProb(layer=0.9)))
    assert torch.equal(got["logp"], got["logp@layer2"]) and torch.equal(got["logp"], got["logp@layer0.9"])


def test_a_layer_that_cannot_be_read_is_refused_by_name() -> None:
    network = tiny_policy().network
    with pytest.raises(UserError, match="layer 7 is asked for, and Qwen2ForCausalLM has 2; use 1 to 2"):
        network.check_layer(7)
    network.check_layer(1)
    network.model.config.hidden_size = 33
    with pytest.raises(UserError, match="takes 32 numbers, and its layers give 33"):
        network.check_layer(1)
    network.model.model.layers = torch.nn.Sequential()
    with pytest.raises(UserError, match="layers of Qwen2ForCausalLM were not found.*another model"):
        network.check_layer(1)


class Reads(Stage):
    """Wants a statistic of a layer before the update."""

    def __init__(self, *stats: TokenStat) -> None:
        self.old_stats = stats


def test_the_old_pass_of_a_layer_is_not_taken_from_the_sampler() -> None:
    """Sampling goes on giving the full policy's statistics, and the trainer passes again for the layer's."""
    trainer = tiny_trainer()
    trainer._declared = (*trainer._declared, Reads(LogProb(layer=1)))
    batch = trainer.rollouts.next(trainer.context())[0]
    assert "logp" in batch.old and "logp@layer1" not in batch.old
    assert not sampled_with(batch, trainer.old_stats(), 0) and not trainer.passes_itself
    after = trainer.old_pass(batch)
    direct = trainer.policy.scores(batch, (LogProb(layer=1),), 99)["logp@layer1"]
    torch.testing.assert_close(after.old["logp@layer1"], direct)
    torch.testing.assert_close(after.old["logp"], batch.old["logp"], rtol=0, atol=1e-4)
