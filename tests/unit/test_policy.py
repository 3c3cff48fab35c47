"""A policy's statistics on a batch: padding, prompts, temperature, shared prompts, gradients, loading."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.model.agreement import check_agreement
from harness.model.exchange import take_over
from harness.model.own import Ways
from harness.model.packing import pack, packed_tokens
from harness.model.policy import Policy, load_policy
from harness.stages.batch import Batch
from harness.stages.token_stats import ENTROPY, LOGP, PROMPT_LOGP, LogProb
from harness.util.errors import UserError
from tests.helpers.tiny import build_model, make_batch, tiny_folder, tiny_policy

PROMPTS = [[5, 6, 7, 8], [9, 10], [9, 10], [9, 10], [11, 12, 13], [11, 12, 13]]
RESPONSES = [[20, 21, 22], [23], [24, 25, 26, 27, 1], [24, 25], [28, 1], [29, 30, 31]]
STATS = (LOGP, ENTROPY, PROMPT_LOGP, LogProb(scale=2.0))


def plain(policy: Policy, prompt: list[int], response: list[int], temperature: float) -> dict[str, Tensor]:
    """One row by the model's own forward pass, without padding."""
    ids = torch.tensor([prompt + response])
    logp = (policy.model(ids).logits[0] / temperature).log_softmax(1)
    picked = logp[:-1].gather(1, ids[0, 1:, None])[:, 0]
    entropy = -(logp.exp() * logp).sum(1)
    cut = len(prompt) - 1
    return {"prompt_logp": picked[:cut], "logp": picked[cut:], "entropy": entropy[cut:-1]}


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_statistics_equal_an_unpadded_forward_pass(temperature: float) -> None:
    policy = tiny_policy(torch.float64, temperature)
    batch = make_batch(policy, PROMPTS, RESPONSES, extra_P=3, extra_T=2)
    got = policy.stats(batch, STATS)
    for i, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        want = plain(policy, prompt, response, temperature)
        for name in ("logp", "entropy"):
            torch.testing.assert_close(got[name][i][batch.mask_BT[i]], want[name], rtol=1e-9, atol=1e-9)
            assert (got[name][i][~batch.mask_BT[i]] == 0).all()
        inside = batch.prompt_mask_BP[i].nonzero().flatten()
        torch.testing.assert_close(got["prompt_logp"][i][inside[1:]], want["prompt_logp"])
        assert got["prompt_logp"][i, : inside[1]].abs().sum() == 0


def gradient(policy: Policy, batch: Batch) -> list[Tensor]:
    out = policy.stats(batch, STATS)
    total = sum((v * (1 + torch.arange(len(batch))[:, None])).sum() for v in out.values())
    return [g for g in torch.autograd.grad(total, list(policy.model.parameters())) if g is not None]


@pytest.mark.parametrize(("extra_P", "extra_T"), [(11, 0), (0, 7), (60, 40)])
def test_padding_changes_neither_values_nor_gradients(extra_P: int, extra_T: int) -> None:
    policy = tiny_policy(torch.float64)
    tight = make_batch(policy, PROMPTS, RESPONSES)
    wide = make_batch(policy, PROMPTS, RESPONSES, extra_P=extra_P, extra_T=extra_T)
    a, b = policy.stats(tight, STATS), policy.stats(wide, STATS)
    width = tight.mask_BT.shape[1]
    for name in ("logp", "entropy", "logp@2"):
        torch.testing.assert_close(b[name][:, :width], a[name], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(b["prompt_logp"][:, extra_P:], a["prompt_logp"], rtol=1e-9, atol=1e-9)
    for x, y in zip(gradient(policy, tight), gradient(policy, wide), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-8, atol=1e-10)


def test_heavy_left_padding_gives_finite_gradients() -> None:
    policy = tiny_policy()
    batch = make_batch(policy, [[5], [6, 7]], [[20], [21, 22]], extra_P=90)
    assert all(bool(g.isfinite().all()) for g in gradient(policy, batch))


def unpacked(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Policy, "packs", False)


def architectures() -> dict[str, Any]:
    """Tiny models of families that place positions, norms and attention differently."""
    import transformers as hf

    shape = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    wide = shape | {"intermediate_size": 48, "max_position_embeddings": 64, "num_key_value_heads": 2}
    return {
        "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**wide)),
        "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**wide, head_dim=8)),
        "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**wide)),
        "olmo2": lambda: hf.Olmo2ForCausalLM(hf.Olmo2Config(**wide)),
        "gpt2": lambda: hf.GPT2LMHeadModel(
            hf.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64)
        ),
        "neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**shape, intermediate_size=48)),
    }


@pytest.mark.parametrize("family", sorted(architectures()))
def test_packing_changes_neither_values_nor_gradients(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    policy = Policy(architectures()[family]().double().eval(), tiny_policy().tokenizer)
    assert take_over(policy.model)
    policy.network.ways = Ways(pack=True)
    batch = make_batch(policy, PROMPTS, RESPONSES, extra_P=2, extra_T=1)
    packed, packed_grad = policy.stats(batch, STATS), gradient(policy, batch)
    unpacked(policy, monkeypatch)
    apart, apart_grad = policy.stats(batch, STATS), gradient(policy, batch)
    for name in packed:
        torch.testing.assert_close(packed[name], apart[name], rtol=1e-6, atol=1e-6)
    for x, y in zip(packed_grad, apart_grad, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)  # their norms work in fp32


def test_a_packed_pass_holds_each_prompt_once() -> None:
    policy = tiny_policy(torch.float64)
    batch = make_batch(policy, PROMPTS, RESPONSES, extra_P=2)
    packed = pack(batch)
    prompts = 4 + 2 + 3
    responses = sum(len(r) - 1 for r in RESPONSES)  # nothing follows the last token
    assert packed.ids_1L.shape == (1, prompts + responses) and packed_tokens(batch) == prompts + responses
    assert packed.position_1L.max() == 5  # [9, 10] and the first four tokens of its longest response


def test_rollouts_of_any_length_share_their_prompt() -> None:
    policy = tiny_policy(torch.float64)
    long = [[20 + (i + j) % 9 for j in range(50 - 6 * i)] for i in range(8)]
    batch = make_batch(policy, [[5, 6]] * 8, long)
    assert pack(batch).ids_1L.shape == (1, 2 + sum(len(response) - 1 for response in long))
    got = policy.stats(batch, [LOGP])["logp"]
    for i, response in enumerate(long):
        want = plain(policy, [5, 6], response, 1.0)["logp"]
        torch.testing.assert_close(got[i, : len(response)], want)


def test_prompts_that_differ_only_in_padding_are_told_apart() -> None:
    policy = tiny_policy(torch.float64)
    pad = policy.pad_id
    prompts = [[pad, 9], [9], [pad, 9], [9]]
    batch = make_batch(policy, prompts, [[20, 21]] * 4, extra_P=1)
    got = policy.stats(batch, [LOGP])["logp"]
    for i in (0, 1):
        torch.testing.assert_close(got[i], plain(policy, prompts[i], [20, 21], 1.0)["logp"])
    assert not torch.allclose(got[0], got[1])


def test_models_that_look_back_a_window_only_are_not_packed() -> None:
    policy = tiny_policy()
    model = build_model(policy.tokenizer, use_sliding_window=True, sliding_window=4, max_window_layers=0)
    windowed = Policy(model, policy.tokenizer)
    check_agreement(windowed, "windowed")
    assert policy.packs and not windowed.packs
    batch = make_batch(windowed, PROMPTS, RESPONSES, extra_P=3)
    got = windowed.stats(batch, [LOGP])["logp"]
    for i, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        want = plain(windowed, prompt, response, 1.0)["logp"]
        torch.testing.assert_close(got[i][batch.mask_BT[i]], want, rtol=1e-4, atol=1e-5)


def test_reference_copy_stays() -> None:
    policy = tiny_policy()
    reference = policy.frozen_copy()
    batch = make_batch(policy, PROMPTS, RESPONSES)
    before = reference.stats(batch, [LOGP])["logp"]
    assert not before.requires_grad
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.01)
    assert torch.equal(reference.stats(batch, [LOGP])["logp"], before)
    assert not torch.equal(policy.stats(batch, [LOGP])["logp"], before)


def test_save_and_load(tmp_path: Path) -> None:
    policy = tiny_policy()
    policy.save(tmp_path)
    again = load_policy(tmp_path)
    batch = make_batch(policy, PROMPTS, RESPONSES)
    assert torch.equal(policy.stats(batch, [LOGP])["logp"], again.stats(batch, [LOGP])["logp"])
    text = again.tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert again.encode(text)[0] == again.tokenizer.convert_tokens_to_ids("<|user|>")
    modes = {file.name: file.stat().st_mode for file in tmp_path.iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]  # whoever may read one may read the other


def test_what_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load model"):
        load_policy(tmp_path)
    shutil.copytree(tiny_folder(), tmp_path / "no-end")
    config = tmp_path / "no-end" / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token": None}))
    with pytest.raises(UserError, match="has no end token"):
        load_policy(tmp_path / "no-end")
