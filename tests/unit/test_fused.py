"""Layers with gradients by hand: the model's own numbers, half of what it keeps, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.model import fused
from harness.model.agreement import check_agreement
from harness.model.attention import layout_of
from harness.model.fused import WEIGHTS, Parts, parts_of
from harness.model.policy import Policy
from harness.stages.token_stats import ENTROPY, LOGP
from tests.helpers.live_bytes import kept_for_backward
from tests.helpers.tiny import make_batch, tiny_policy

SIZES = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "eos_token_id": 1,
    "initializer_range": 0.3,
}  # fmt: skip
FUSED = {
    "Llama": {}, "Llama, biases": {"attention_bias": True}, "Llama, head size": {"head_dim": 12},
    "Qwen2": {}, "Qwen3": {"head_dim": 16}, "Mistral": {"sliding_window": None},
}  # fmt: skip
#: Built otherwise, each in one place: what stands between its parts, a norm, a bias, an activation.
OTHERS = {
    "Llama, MLP biases": {"mlp_bias": True}, "Granite": {"residual_multiplier": 0.5}, "Olmo2": {},
    "Gemma": {"head_dim": 8}, "Llama, GELU": {"hidden_act": "gelu"}, "Phi3": {"pad_token_id": 0},
    "Mistral": {"sliding_window": 4},
}  # fmt: skip


def policy_of(kind: str, changes: dict[str, Any]) -> Policy:
    import transformers

    name = kind.split(",")[0]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SIZES | changes)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with torch.no_grad():  # norms whose weights are all 1 and biases of 0 would hide that they are left out
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.rand_like(parameter) * 0.5)
    policy = Policy(model, tiny_policy().tokenizer)
    check_agreement(policy, kind)
    return policy


def values(policy: Policy) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Statistics of rollouts, and the gradients of all weights."""
    rows = [[5, 6, 7], [5, 6, 7], [8, 9, 10, 11]]
    batch = make_batch(policy, rows, [[12, 13, 14], [15], [16, 17, 18, 19, 20]])
    policy.model.zero_grad()
    stats = policy.stats(batch, (LOGP, ENTROPY))
    (stats["logp"].sum() + 0.3 * stats["entropy"].square().sum()).backward()
    return stats, {name: w.grad.clone() for name, w in policy.model.named_parameters()}


@pytest.mark.parametrize("kind", sorted(FUSED))
def test_numbers_and_gradients_are_the_model_s_own(kind: str) -> None:
    policy = policy_of(kind, FUSED[kind])
    assert policy.network.ways.fuse
    ours, our_grads = values(policy)
    fused.unfuse(policy.model)
    own, own_grads = values(policy)
    for name in own:
        torch.testing.assert_close(ours[name], own[name], rtol=1e-4, atol=1e-5)
    for name, grad in own_grads.items():
        assert float((our_grads[name] - grad).norm() / grad.norm().clamp(min=1e-9)) < 1e-4, name


@pytest.mark.parametrize("kind", sorted(OTHERS))
def test_layers_that_are_built_otherwise_stay_the_model_s(kind: str) -> None:
    assert not policy_of(kind, OTHERS[kind]).network.ways.fuse


def test_the_gradient_is_that_of_the_layer() -> None:
    """In double precision, against finite differences, with every weight that a layer may have."""
    torch.manual_seed(0)
    layout = layout_of([2, 1], [[2, 0], [1]])
    length, hidden, heads, groups, size, inner = len(layout.prompt_L), 6, 4, 2, 4, 5
    shapes: dict[str, tuple[int, ...]] = {
        "q_proj": (heads * size, hidden), "k_proj": (groups * size, hidden),
        "v_proj": (groups * size, hidden), "o_proj": (hidden, heads * size), "gate_proj": (inner, hidden),
        "up_proj": (inner, hidden),
        "down_proj": (hidden, inner), "q_norm": (size,), "k_norm": (size,), "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }  # fmt: skip
    weights = []
    for name in WEIGHTS:
        shape = shapes[name.split(".")[-2]]
        shape = shape[:1] if name.endswith("bias") else shape
        weights.append(torch.randn(shape, dtype=torch.float64).requires_grad_())
    x = torch.randn(length, hidden, dtype=torch.float64).requires_grad_()
    angle = torch.rand(length, 1, size // 2, dtype=torch.float64).repeat(1, 1, 2)
    parts = Parts(heads, groups, 0.4, (1e-5, 1e-6, 1e-6))
    assert torch.autograd.gradcheck(
        lambda x, *w: fused._Layer.apply(x, angle.cos(), angle.sin(), layout, parts, fused.MADE, *w),
        (x, *weights),
    )


def test_it_keeps_little_more_than_half() -> None:
    policy = policy_of("Qwen2", {})
    batch = make_batch(policy, [[5] * 20] * 4, [[7] * 20] * 4)
    kept = []
    for _ in range(2):
        with kept_for_backward(policy.model) as found:
            policy.stats(batch, (LOGP, ENTROPY))
        kept.append(sum(found.values()))
        if len(kept) == 1:
            fused.unfuse(policy.model)
    assert kept[0] < 0.65 * kept[1]


def test_a_copy_has_layers_of_its_own() -> None:
    policy = policy_of("Qwen2", {})
    before, _ = values(policy)
    copied = policy.frozen_copy()
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.zero_()
    batch = make_batch(copied, [[5, 6, 7]], [[12, 13, 14]])
    torch.testing.assert_close(copied.stats(batch, (LOGP,))["logp"][0], before["logp"][0, :3].detach())


def test_a_layer_that_somebody_listens_to_stays_the_model_s() -> None:
    layer = tiny_policy().model.model.layers[0]
    assert parts_of(layer) is not None
    handle = layer.self_attn.o_proj.register_forward_hook(lambda *_: None)
    try:
        assert parts_of(layer) is None
    finally:
        handle.remove()


def test_what_stands_around_the_layers_is_left_out_only_where_nobody_listens() -> None:
    """A decoder's own pass is made where it has a hook, and gives the same numbers and gradients."""
    policy, passes = policy_of("Llama", {}), list[int]()
    decoder = policy.model.model
    ours, our_grads = values(policy)
    handle = decoder.register_forward_pre_hook(lambda *_: passes.append(1))
    own, own_grads = values(policy)
    assert passes == [1]
    handle.remove()
    values(policy)
    assert passes == [1] and "packed_pass" in vars(policy.model)
    for name in own:
        torch.testing.assert_close(ours[name], own[name], rtol=1e-5, atol=1e-6)
    for name, grad in own_grads.items():
        torch.testing.assert_close(our_grads[name], grad, rtol=1e-4, atol=1e-6)


def test_angles_by_position_are_the_model_s_own() -> None:
    """Also at positions that the first table does not reach."""
    from harness.model.around import Angles

    decoder = policy_of("Llama", {"max_position_embeddings": 512}).model.model
    angles, like = Angles(), torch.zeros(1, 1, 8)
    for position in (torch.tensor([[0, 5, 127]]), torch.tensor([[3, 128, 300, 2]])):
        for ours, own in zip(
            angles.at(decoder, position, like), decoder.rotary_emb(like, position), strict=True
        ):
            assert torch.equal(ours, own)
