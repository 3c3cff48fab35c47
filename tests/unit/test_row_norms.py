"""Gradient norms of rows from one pass against a pass a row."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.model.agreement import check_agreement
from harness.model.fused import is_fused, unfused
from harness.model.policy import Policy
from harness.stages.batch import Batch
from harness.train import row_norms
from harness.train.row_norms import Layers, alone, row_grad_norms, together
from harness.train.spans import groups_of
from tests.helpers.tiny import make_batch, tiny_policy

SIZES: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128,
    "pad_token_id": 5, "eos_token_id": 1,
}  # fmt: skip


def policy_of(family: str, dtype: torch.dtype = torch.float64, **more: Any) -> Policy:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **{**SIZES, **more})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases are 0 and norms 1 at first
            parameter.add_(0.1 * torch.randn_like(parameter))
    policy = Policy(model.to(dtype), tiny_policy().tokenizer, 0.8)
    check_agreement(policy.at_temperature(1.0), family)
    return policy


def rows_of(policy: Policy) -> Batch:
    """Unequal rows, two with one prompt, one response of one token; token 5 is padding's and a token, too."""
    draw = random.Random(1)

    def text(length: int) -> list[int]:
        return [draw.randrange(3, 20) for _ in range(length)]

    prompts = [text(n) for n in (3, 7, 7, 5, 3, 9)]
    prompts[2] = prompts[1]
    return make_batch(policy, prompts, [text(n) for n in (4, 9, 1, 12, 4, 30)])


def one_by_one(policy: Policy, batch: Batch) -> Tensor:
    return torch.stack([alone(policy, batch.rows([i])) for i in range(len(batch))])


KNOWN = {
    "llama": {}, "llama with biases": {"attention_bias": True, "mlp_bias": True}, "qwen2": {}, "qwen3": {},
    "olmo2": {}, "phi3": {}, "granite": {"logits_scaling": 2.0},
}  # fmt: skip


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", KNOWN)
@pytest.mark.parametrize("layers_of_ours", [True, False])
def test_one_pass_gives_the_norms_of_a_pass_a_row(family: str, tied: bool, layers_of_ours: bool) -> None:
    policy = policy_of(family.split()[0], tie_word_embeddings=tied, **KNOWN[family])
    ours = any(map(is_fused, policy.model.model.layers))
    if layers_of_ours:
        assert ours == (family not in ("llama with biases", "olmo2", "phi3"))
        check_one_pass(policy, tied)
    elif ours:  # the model's own layers, whose norms are in fp32 whatever the type, show all to hooks
        with unfused(policy.model):
            check_one_pass(policy, tied)


def check_one_pass(policy: Policy, tied: bool) -> None:
    batch, layers = rows_of(policy), Layers.of(policy)
    assert layers is not None and (layers.embedding.weight is layers.head.weight) == tied
    want = one_by_one(policy, batch)
    before = dict(policy.model.named_parameters())
    torch.testing.assert_close(together(policy, layers, batch), want, rtol=1e-9, atol=0)
    after = dict(policy.model.named_parameters())
    assert all(after[name] is p and p.grad is None for name, p in before.items())
    for micro_rows, micro_tokens in ((None, None), (2, 30), (1, 1)):
        got = row_grad_norms(policy, batch, micro_rows, micro_tokens)
        torch.testing.assert_close(got, want, rtol=1e-9, atol=0)


def test_in_single_precision_they_differ_by_rounding() -> None:
    policy = policy_of("qwen3", torch.float32, tie_word_embeddings=True)
    batch = rows_of(policy)
    assert all(map(is_fused, policy.model.model.layers))
    got = row_grad_norms(policy, batch)
    assert all(map(is_fused, policy.model.model.layers)), "its layers are to be as they were"
    want = torch.stack([alone(policy, batch.rows([i])) for i in range(len(batch))])
    torch.testing.assert_close(got, want, rtol=1e-5, atol=0)


@pytest.mark.parametrize("frozen", ["embed_tokens", "lm_head", "norm", "q_proj.weight", "q_proj.bias"])
def test_a_frozen_weight_has_no_part(frozen: str) -> None:
    policy = policy_of("qwen2", tie_word_embeddings=False)
    full = row_grad_norms(policy, rows_of(policy))
    for name, parameter in policy.model.named_parameters():
        parameter.requires_grad_(frozen not in name)
    batch = rows_of(policy)
    want, got = one_by_one(policy, batch), row_grad_norms(policy, batch)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=0)
    assert bool((got < full).all())


@pytest.mark.parametrize("family", ["gpt2", "gemma", "mixtral"])
def test_weights_of_other_kinds_take_a_pass_a_row(family: str) -> None:
    more = {} if family == "gpt2" else {"tie_word_embeddings": True}
    policy = policy_of(family, torch.float32, **more)
    assert Layers.of(policy) is None
    batch = rows_of(policy)
    assert row_grad_norms(policy, batch).tolist() == one_by_one(policy, batch).tolist()


def test_recomputed_activations_take_a_pass_a_row() -> None:
    policy = policy_of("llama")
    assert Layers.of(policy) is not None
    policy.network.recompute()
    assert Layers.of(policy) is None


def test_a_layer_that_is_used_twice_takes_a_pass_a_row() -> None:
    policy = policy_of("llama")
    mlp = policy.model.model.layers[0].mlp
    mlp.up_proj = mlp.gate_proj
    batch = rows_of(policy)
    assert Layers.of(policy) is not None
    assert row_grad_norms(policy, batch).tolist() == one_by_one(policy, batch).tolist()
    with unfused(policy.model):
        assert row_grad_norms(policy, batch).tolist() == one_by_one(policy, batch).tolist()
    assert all(p.requires_grad for p in policy.model.parameters())


def test_a_row_too_long_for_a_tile_takes_a_pass_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of("llama", tie_word_embeddings=True)
    batch, taken = rows_of(policy), list[int]()
    want = one_by_one(policy, batch)

    def counted(policy: Policy, layers: Layers, rows: Batch) -> Tensor:
        taken.append(len(rows))
        return together(policy, layers, rows)

    monkeypatch.setattr(row_norms, "_cells", lambda policy: (60, 13 * 60))
    monkeypatch.setattr(row_norms, "together", counted)
    torch.testing.assert_close(row_grad_norms(policy, batch), want, rtol=1e-9, atol=0)
    assert sum(taken) == 5  # 13 positions in a tile, and one response has 30 tokens


def test_rows_without_a_token_have_norm_0() -> None:
    policy = policy_of("llama")
    batch = make_batch(policy, [[5, 6], [5, 6, 7]], [[8, 9], [10]])
    empty = batch.with_(mask_BT=batch.mask_BT & torch.tensor([[True], [False]]))
    for rows in ([0, 1], [1]):
        found = row_grad_norms(policy, empty.rows(rows))
        assert [value > 0 for value in found.tolist()] == [row == 0 for row in rows]


def test_rows_of_about_one_length_are_together() -> None:
    assert groups_of([4, 5, 5, 8, 9, 30]) == [slice(0, 3), slice(3, 5), slice(5, 6)]
