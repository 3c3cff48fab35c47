"""A policy's statistics on a batch: padding, prompts, temperature, shared prompts, gradients, loading."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.batch import Batch
from harness.errors import UserError
from harness.policy import Policy, load_policy
from harness.tokenstats import ENTROPY, LOGP, PROMPT_LOGP, ScaledLogProb
from tests.helpers.tiny import build_model, make_batch, tiny_folder, tiny_policy

PROMPTS = [[5, 6, 7, 8], [9, 10], [9, 10], [9, 10], [11, 12, 13], [11, 12, 13]]
RESPONSES = [[20, 21, 22], [23], [24, 25, 26, 27, 1], [24, 25], [28, 1], [29, 30, 31]]
STATS = (LOGP, ENTROPY, PROMPT_LOGP, ScaledLogProb(scale=2.0))


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


def test_rows_that_share_a_prompt_share_its_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny_policy(torch.float64)
    batch = make_batch(policy, PROMPTS, RESPONSES, extra_P=2)
    shapes: list[tuple[int, ...]] = []
    policy.model.model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    shared, shared_grad = policy.stats(batch, STATS), gradient(policy, batch)
    assert shapes[0] == (3, 6)  # three prompts for six rows
    shapes.clear()
    monkeypatch.setattr(Policy, "_can_share_prompts", False)
    apart, apart_grad = policy.stats(batch, STATS), gradient(policy, batch)
    assert shapes[0] == (6, 10)
    for name in shared:
        torch.testing.assert_close(shared[name], apart[name], rtol=1e-9, atol=1e-9)
    for x, y in zip(shared_grad, apart_grad, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-8, atol=1e-10)


def test_prompts_that_differ_only_in_padding_are_told_apart() -> None:
    policy = tiny_policy(torch.float64)
    pad = policy.pad_id
    prompts = [[pad, 9], [9], [pad, 9], [9]]
    batch = make_batch(policy, prompts, [[20, 21]] * 4, extra_P=1)
    got = policy.stats(batch, [LOGP])["logp"]
    for i in (0, 1):
        torch.testing.assert_close(got[i], plain(policy, prompts[i], [20, 21], 1.0)["logp"])
    assert not torch.allclose(got[0], got[1])


def test_prompts_are_not_shared_where_a_layer_looks_back_a_window_only() -> None:
    policy = tiny_policy()
    assert policy._can_share_prompts
    model = build_model(policy.tokenizer, use_sliding_window=True, sliding_window=4, max_window_layers=0)
    assert not Policy(model, policy.tokenizer)._can_share_prompts


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


def test_what_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load model"):
        load_policy(tmp_path)
    shutil.copytree(tiny_folder(), tmp_path / "no-end")
    config = tmp_path / "no-end" / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token": None}))
    with pytest.raises(UserError, match="has no end token"):
        load_policy(tmp_path / "no-end")
