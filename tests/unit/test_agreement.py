"""What is found out about a model at loading: what follows its head, how it may be batched, at what cost."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.model import agreement, exchange
from harness.model.head import HeadCurve
from harness.model.own import Ways
from harness.model.policy import Policy, load_policy
from harness.rollout.sampler import sample
from harness.stages.token_stats import ENTROPY, LOGP, LogProb
from harness.util.errors import UserError
from tests.families.build import WINDOW, save
from tests.helpers.tiny import build_model, build_tokenizer, make_batch, tiny_folder, tiny_policy

PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 12], [9, 10, 14]]
ROWS = [[20, 21, 22, 23, 24, 25, 26, 27, 28], [29, 30, 31, 32]]


@pytest.fixture(scope="module")
def gemma2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("gemma2", tmp_path_factory.mktemp("gemma2"))


@pytest.fixture(scope="module")
def gemma3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("gemma3", tmp_path_factory.mktemp("gemma3"))


def saved(folder: Path, **changes: Any) -> Path:
    tokenizer = build_tokenizer()
    build_model(tokenizer, **changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def own(policy: Policy, prompt: list[int], row: list[int]) -> Tensor:
    """Log-probs of a response by the model's own code."""
    logits = policy.model(input_ids=torch.tensor([prompt + row])).logits[0].float()
    logp = logits.log_softmax(1)[len(prompt) - 1 : -1]
    return logp.gather(1, torch.tensor(row)[:, None])[:, 0]


@pytest.mark.parametrize(
    ("family", "key", "curve"),
    [
        ("gemma2", "final_logit_softcapping", lambda v: HeadCurve(1.0, v)),
        ("granite", "logits_scaling", lambda v: HeadCurve(1 / v)),
        ("cohere2", "logit_scale", lambda v: HeadCurve(v)),
        ("hyperclovax", "logits_scaling", lambda v: HeadCurve(v)),
    ],
)
def test_what_follows_the_head_is_measured(
    family: str, key: str, curve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.families import build

    monkeypatch.setitem(build._SMALL, key, 0.37)
    policy = load_policy(save(family, tmp_path))
    assert policy.network.curve == curve(0.37)
    assert policy.frozen_copy().network.curve == policy.network.curve


def test_what_is_neither_a_scale_nor_a_cap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny_policy()
    forward = policy.model.forward

    def squared(*args: Any, **given: Any) -> Any:
        output = forward(*args, **given)
        output.logits = output.logits + 0.01 * output.logits**2
        return output

    monkeypatch.setattr(policy.model, "forward", squared)
    with pytest.raises(UserError, match="neither a scale nor a soft cap"):
        agreement.check_agreement(policy, "bent")


def test_a_model_that_looks_ahead_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny_policy()
    norm = policy.model.model.norm
    forward = norm.forward
    monkeypatch.setattr(norm, "forward", lambda hidden: forward(hidden + 0.1 * hidden.mean(1, keepdim=True)))
    with pytest.raises(UserError, match="reads from left to right"):
        agreement.check_agreement(policy, "bidirectional")


def test_packed_rows_that_come_out_wrong_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a family whose code does not hand on what its attention is called with."""
    policy = tiny_policy()
    backbone = policy.model.model
    forward = backbone.forward

    def deaf(*args: Any, layout: Any = None, **given: Any) -> Any:
        return forward(*args, **given)

    monkeypatch.setattr(backbone, "forward", deaf)
    agreement.check_agreement(policy, "deaf")
    assert policy.network.ways == Ways(pack=False) and not policy.packs
    assert policy.model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rounding_is_no_difference(dtype: str, gemma2: Path) -> None:
    for folder in (tiny_folder(), gemma2):
        assert load_policy(folder, dtype=dtype).network.ways.cache
    assert load_policy(tiny_folder(), dtype=dtype).packs


def test_the_check_is_cheap_and_leaves_nothing_behind(gemma3: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most twice the tokens of its text, no random numbers, no window changed, no copy of the weights."""
    for folder in (tiny_folder(), gemma3):
        policy = load_policy(folder)
        sent: list[int] = []
        embedding = policy.model.get_input_embeddings()
        handle = embedding.register_forward_hook(
            lambda _, given, __, sent=sent: sent.append(given[0].numel())
        )
        before, state = {k: v.clone() for k, v in policy.model.state_dict().items()}, torch.get_rng_state()
        window = policy.model.config.get_text_config().sliding_window
        monkeypatch.setattr(torch.Tensor, "__deepcopy__", lambda *_: pytest.fail("weights were copied"))
        agreement.check_agreement(policy, "again")
        monkeypatch.undo()
        handle.remove()
        assert sum(sent) <= 2 * max(sent) and max(sent) == agreement.TEXT_TOKENS
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(v, before[k]) for k, v in policy.model.state_dict().items())
        assert policy.model.config.get_text_config().sliding_window == window
        assert all(parameter.grad is None for parameter in policy.model.parameters())


def test_a_window_that_packed_rows_ignore_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The window is longer than the whole text of the check, which shrinks it meanwhile."""
    folder = saved(tmp_path, use_sliding_window=True, sliding_window=120, max_window_layers=0)
    # as where a family keeps its window under a name that nobody looks for
    monkeypatch.setattr(exchange, "NOT_PACKED", ())
    assert load_policy(folder).network.ways == Ways(pack=False)
    monkeypatch.setattr(agreement, "_short_windows", lambda model: nullcontext())
    assert load_policy(folder).network.ways.pack


def test_a_rollout_longer_than_the_window_has_the_same_log_probs_in_sampling_and_training(
    gemma3: Path,
) -> None:
    policy = load_policy(gemma3)
    assert not policy.packs and policy.model.config.get_text_config().sliding_window == WINDOW
    keys = [("window", i) for i in range(6)]
    drawn = sample(policy, PROMPTS, 3, keys=keys, max_tokens=3 * WINDOW)
    rows = [tokens[mask].tolist() for tokens, mask in zip(drawn.tokens_NT, drawn.mask_NT, strict=True)]
    assert max(map(len, rows)) > WINDOW
    prompts = [prompt for prompt in PROMPTS for _ in range(3)]
    with torch.no_grad():
        old = policy.stats(make_batch(policy, prompts, rows), (LOGP,))["logp"]
        for i, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
            torch.testing.assert_close(drawn.logp_NT[i, : len(row)], old[i, : len(row)], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(old[i, : len(row)], own(policy, prompt, row), rtol=1e-4, atol=1e-4)


def test_gradients_under_a_soft_cap_are_those_of_the_models_own_logits(gemma2: Path) -> None:
    policy = load_policy(gemma2, temperature=0.7)
    assert policy.network.curve.cap is not None
    batch = make_batch(policy, PROMPTS, ROWS)
    parameters = list(policy.model.parameters())
    got = policy.stats(batch, (LOGP, ENTROPY, LogProb(scale=2.0)))
    ours = torch.autograd.grad(sum(v.sum() for v in got.values()), parameters)  # type: ignore[arg-type]
    total = torch.zeros(())
    for prompt, row in zip(PROMPTS, ROWS, strict=True):
        z = policy.model(input_ids=torch.tensor([prompt + row])).logits[0, len(prompt) - 1 : -1] / 0.7
        for scale in (1.0, 2.0):
            total = total + (z * scale).log_softmax(1).gather(1, torch.tensor(row)[:, None]).sum()
        total = total - (z.softmax(1) * z.log_softmax(1)).sum()
    for a, b in zip(ours, torch.autograd.grad(total, parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


def test_log_probs_stay_the_models_own_while_it_trains(gemma2: Path) -> None:
    policy = load_policy(gemma2)
    batch = make_batch(policy, PROMPTS, ROWS)
    optimiser = torch.optim.AdamW(policy.network.trainable(), lr=1e-2)
    first = policy.stats(batch, (LOGP,))["logp"].detach()
    for _ in range(3):
        optimiser.zero_grad()
        (-policy.stats(batch, (LOGP,))["logp"].sum()).backward()
        optimiser.step()
    with torch.no_grad():
        after = policy.stats(batch, (LOGP,))["logp"]
        assert float(after.sum()) > float(first.sum()) + 1
        for i, (prompt, row) in enumerate(zip(PROMPTS, ROWS, strict=True)):
            torch.testing.assert_close(after[i, : len(row)], own(policy, prompt, row), rtol=1e-4, atol=1e-4)
