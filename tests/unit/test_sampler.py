"""The built-in sampler: distribution, log-probs, keyed draws, stopping, padding, cost."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency

from harness.model.decoding import left_padded
from harness.model.head import tiled_head
from harness.model.policy import Policy
from harness.model.shared_prompts import SharedPrompts
from harness.rollout.sampler import draw, sample, uniforms
from harness.stages.token_stats import ENTROPY, LOGP
from harness.stages.top_tokens import TopEntropy
from harness.util.errors import UserError
from tests.helpers.tiny import build_model, make_batch, tiny_policy


class ThreeLetters:
    """Stands in for a tokenizer: ids 0 (padding), 1 (end) and a few others."""

    pad_token_id, eos_token_id = 0, 1

    def __len__(self) -> int:
        return 5


@cache
def small_vocabulary() -> Policy:
    """A model of five tokens, small enough to count whole sequences."""
    tokenizer: Any = ThreeLetters()
    return Policy(build_model(tokenizer, seed=2, scale=0.5), tokenizer)


def keys(rows: int, name: object = "test") -> list[tuple[object, ...]]:
    return [(name, i) for i in range(rows)]


def chi_square_p(own: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> float:
    """p-value of equal distributions of whole sequences; rare ones are pooled."""
    outcomes = sorted(set(own) | set(other))
    counts = np.array([[sum(s == o for s in side) for o in outcomes] for side in (own, other)])
    common = counts.sum(0) >= 20
    table = np.column_stack([counts[:, common], counts[:, ~common].sum(1)])
    return float(chi2_contingency(table[:, table.sum(0) > 0]).pvalue)


def test_a_temperature_for_each_token() -> None:
    """A constant rule draws what a temperature draws; a rule sees raw logits and acts on each row alone."""
    policy, prompts = small_vocabulary(), [[2, 3, 4], [3]]
    seen: list[torch.Tensor] = []

    def constant(logits_NV: torch.Tensor) -> torch.Tensor:
        seen.append(logits_NV.clone())
        return torch.full((len(logits_NV),), 0.7)

    def cold_or_hot(logits_NV: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.arange(len(logits_NV)) < 20, 1e-3, 50.0)

    def drawn(count: int = 3, **more: Any) -> Any:
        return sample(policy, prompts, 20, keys=keys(40), max_tokens=count, **more)

    plain, ruled = drawn(temperature=0.7), drawn(temperature=9.0, token_temperature=constant)
    assert torch.equal(plain.tokens_NT, ruled.tokens_NT) and torch.equal(plain.logp_NT, ruled.logp_NT)
    assert seen[0].shape == (40, 5)
    own = policy.head(policy.model.base_model(torch.tensor([prompts[0]]))[0][:, -1])
    torch.testing.assert_close(seen[0][0], own[0])
    first = drawn(1, token_temperature=cold_or_hot).tokens_NT[:, 0]
    assert set(first[:20].tolist()) == {int(own.argmax())} and len(set(first[20:].tolist())) > 2


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.5, 0.95)])
def test_same_distribution_as_generate(temperature: float, top_p: float) -> None:
    policy, prompt, rows, length = small_vocabulary(), [2, 3, 4], 3000, 3
    out = sample(
        policy, [prompt], rows, keys=keys(rows), temperature=temperature, top_p=top_p, max_tokens=length
    )
    own = [tuple(ids[m].tolist()) for ids, m in zip(out.tokens_NT, out.mask_NT, strict=True)]
    torch.manual_seed(11)
    generated = policy.model.generate(
        torch.tensor([prompt]).repeat(rows, 1), attention_mask=torch.ones(rows, 3, dtype=torch.long),
        do_sample=True, temperature=temperature, top_p=top_p, top_k=0, max_new_tokens=length,
        pad_token_id=0, eos_token_id=1,
    )[:, 3:].tolist()  # fmt: skip
    other = [tuple(row[: row.index(1) + 1] if 1 in row else row) for row in generated]
    assert chi_square_p(own, other) > 0.01
    assert len(set(own)) >= 6


def test_chi_square_would_notice_another_temperature() -> None:
    policy, rows = small_vocabulary(), 3000
    sides = [
        [tuple(ids[m].tolist()) for ids, m in zip(o.tokens_NT, o.mask_NT, strict=True)]
        for t in (1.0, 0.8)
        for o in [sample(policy, [[2, 3]], rows, keys=keys(rows, t), temperature=t, max_tokens=3)]
    ]
    assert chi_square_p(*sides) < 1e-3


PROMPTS = ([5, 6, 7, 8, 9], [10, 11], [12, 13, 14])


@pytest.mark.parametrize("loss_temperature", [1.0, 0.8])
def test_log_probs_equal_those_of_a_forward_pass(loss_temperature: float) -> None:
    policy = tiny_policy(temperature=loss_temperature)
    out = sample(policy, PROMPTS, 4, keys=keys(12), temperature=1.2, max_tokens=16)
    responses = [ids[m].tolist() for ids, m in zip(out.tokens_NT, out.mask_NT, strict=True)]
    batch = make_batch(policy, [p for p in PROMPTS for _ in range(4)], responses)
    with torch.no_grad():
        logp = policy.stats(batch, [LOGP])["logp"]
    torch.testing.assert_close(out.logp_NT, logp, atol=1e-4, rtol=0)
    assert bool((out.logp_NT[~out.mask_NT] == 0).all())


def responses_by_key(
    policy: Policy, prompts: list[list[int]], n: int, own_keys: list[tuple[object, ...]], **options: Any
) -> dict[tuple[object, ...], list[int]]:
    out = sample(policy, prompts, n, keys=own_keys, max_tokens=12, **options)
    rows = [ids[m].tolist() for ids, m in zip(out.tokens_NT, out.mask_NT, strict=True)]
    return dict(zip(own_keys, rows, strict=True))


def test_draws_depend_on_the_key_only() -> None:
    policy = tiny_policy()
    whole = responses_by_key(
        policy, [list(p) for p in PROMPTS], 6, [(p, i) for p in range(3) for i in range(6)]
    )
    assert len({tuple(r) for r in whole.values()}) == 18
    turned = responses_by_key(
        policy, [list(p) for p in PROMPTS[::-1]], 6, [(p, i) for p in (2, 1, 0) for i in range(6)]
    )
    assert turned == whole
    for p, prompt in enumerate(PROMPTS):  # alone, one sample at a time, and a part of the group
        for i in (0, 5):
            assert responses_by_key(policy, [list(prompt)], 1, [(p, i)])[p, i] == whole[p, i]
        some = responses_by_key(policy, [list(prompt)], 3, [(p, i) for i in (4, 1, 2)])
        assert all(whole[k] == r for k, r in some.items())


def test_a_prompt_padded_by_a_longer_neighbour_draws_the_same() -> None:
    policy = tiny_policy()
    alone = responses_by_key(policy, [[5, 6]], 2, [(0, 0), (0, 1)])
    beside = responses_by_key(policy, [list(range(5, 65)), [5, 6]], 2, [(9, 0), (9, 1), (0, 0), (0, 1)])
    assert {k: beside[k] for k in alone} == alone


def test_greedy_limit_follows_the_model() -> None:
    policy = tiny_policy()
    out = sample(policy, [list(PROMPTS[0])], 2, keys=keys(2), temperature=1e-4, max_tokens=6)
    ids = list(PROMPTS[0])
    for _ in range(int(out.mask_NT[0].sum())):
        ids.append(int(policy.model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert out.tokens_NT[0][out.mask_NT[0]].tolist() == ids[5:]


def test_end_token_truncation_and_limit() -> None:
    policy = small_vocabulary()
    out = sample(policy, [[2], [3, 4]], 200, keys=keys(400), max_tokens=5)
    for ids, mask, truncated in zip(out.tokens_NT, out.mask_NT, out.truncated_N, strict=True):
        row = ids[mask].tolist()
        assert mask.tolist() == [True] * len(row) + [False] * (len(mask) - len(row))
        assert 1 not in row[:-1]
        assert bool(truncated) == (row[-1] != 1)
        assert len(row) == 5 or row[-1] == 1
        assert (ids[~mask] == policy.pad_id).all()
    assert 0 < int(out.truncated_N.sum()) < 400


def test_width_is_that_of_the_longest_response() -> None:
    policy = small_vocabulary()
    out = sample(policy, [[2]], 1, keys=[("short", 3)], max_tokens=60)
    assert out.mask_NT.all()
    assert out.tokens_NT.shape == (1, int(out.mask_NT.sum()))


def test_one_token_responses() -> None:
    out = sample(small_vocabulary(), [[2], [3]], 3, keys=keys(6), max_tokens=1)
    assert out.tokens_NT.shape == (6, 1)
    assert torch.equal(out.truncated_N, out.tokens_NT[:, 0] != 1)


def test_several_end_tokens() -> None:
    policy = tiny_policy()
    policy.model.generation_config.eos_token_id = [1, 40, 41]
    assert policy.eos_ids == (1, 40, 41)
    out = sample(policy, [list(PROMPTS[0])], 60, keys=keys(60), max_tokens=12)
    for ids, mask in zip(out.tokens_NT, out.mask_NT, strict=True):
        assert not {1, 40, 41} & set(ids[mask].tolist()[:-1])


def test_nucleus_leaves_out_the_tail() -> None:
    policy = small_vocabulary()
    out = sample(policy, [[2]], 500, keys=keys(500), top_p=0.5, max_tokens=1)
    probability = policy.model(torch.tensor([[2]])).logits[0, -1].softmax(0)
    order = probability.argsort(descending=True).tolist()
    size = int((probability[order].cumsum(0) < 0.5).sum()) + 1
    assert set(out.tokens_NT.flatten().tolist()) == set(order[:size])


def test_draw_skips_tokens_of_probability_zero() -> None:
    probs = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]).repeat(4, 1)
    uniform = torch.tensor([0.0, 0.4999999, 0.5, 0.9999999999], dtype=torch.float64)
    assert draw(probs, uniform).tolist() == [1, 1, 3, 3]


def test_uniform_numbers_do_not_depend_on_length_or_neighbours() -> None:
    long = uniforms([("a", 1), ("b", 2)], 8)
    assert np.array_equal(uniforms([("b", 2)], 3)[0], long[1, :3])
    assert not np.array_equal(long[0], long[1])


def test_too_long_for_the_context() -> None:
    policy = tiny_policy()
    with pytest.raises(UserError, match="exceeds the model's context of 128; lower the token limit"):
        sample(policy, [[5] * 100], 1, keys=keys(1), max_tokens=29)
    assert sample(policy, [[5] * 100], 1, keys=keys(1), max_tokens=28).tokens_NT.shape[1] <= 28


def test_a_groups_prompt_is_prefilled_once() -> None:
    policy = tiny_policy()
    shapes: list[tuple[int, int]] = []
    hook = policy.model.model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    sample(policy, PROMPTS, 8, keys=keys(24), max_tokens=6)
    hook.remove()
    assert shapes[0] == (1, sum(map(len, PROMPTS)))
    assert shapes[1] == (1, 24) and all(tokens <= 24 for _, tokens in shapes[1:])
    assert len(shapes) <= 6


def test_finished_rows_are_dropped() -> None:
    policy = small_vocabulary()
    rows: list[int] = []
    hook = policy.model.model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    out = sample(policy, [[2]], 100, keys=keys(100), max_tokens=20)
    hook.remove()
    lengths = out.mask_NT.sum(1)
    for step, decoded in enumerate(rows[1:], start=1):
        assert decoded * 0.8 <= int((lengths > step).sum()) <= decoded


def test_left_padded() -> None:
    ids, mask = left_padded([[5, 6, 7], [8]], 0)
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert mask.tolist() == [[True, True, True], [False, False, True]]


def in_flight(policy: Policy, prompts: list[list[int]], n: int, at_once: int | None) -> tuple[Any, list[int]]:
    """What is drawn, and the tokens of each pass: of prompts, or one of every row that is under way."""
    passes: list[int] = []
    hook = policy.model.model.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    own = keys(len(prompts) * n)
    out = sample(
        policy, prompts, n, keys=own, max_tokens=12, at_once=at_once, stats=(ENTROPY, TopEntropy(k=3))
    )
    hook.remove()
    return out, passes


def test_rows_begin_as_others_end_and_draw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[int] = []
    join = SharedPrompts.join

    def spying(self: SharedPrompts, other: SharedPrompts) -> None:
        joined.append(len(self.logits()))
        join(self, other)

    monkeypatch.setattr(SharedPrompts, "join", spying)
    policy = tiny_policy()
    policy.model.generation_config.eos_token_id = [1, *range(30, 60)]
    prompts = [[5 + i, *range(10, 12 + i % 5)] for i in range(16)]
    whole, _ = in_flight(policy, prompts, 4, None)
    own, passes = in_flight(policy, prompts, 4, 16)
    assert len(set(whole.mask_NT.sum(1).tolist())) > 4, "rows must end at different times"
    assert torch.equal(own.tokens_NT, whole.tokens_NT) and torch.equal(own.mask_NT, whole.mask_NT)
    assert torch.equal(own.truncated_N, whole.truncated_N)
    torch.testing.assert_close(own.logp_NT, whole.logp_NT, atol=1e-5, rtol=0)
    for name, value in whole.stats.items():
        torch.testing.assert_close(own.stats[name], value, atol=1e-5, rtol=0)
    lengths = [len(p) for p in prompts]
    first = sum(lengths[:4])
    assert passes[0] == first and max(passes[1:]) <= max(16, first)
    assert len(joined) >= 3 and min(joined) > 0, "no row began while others were under way"


@pytest.mark.parametrize(
    "ways", [{"share": False}, {"share": False, "pad": False}, {"share": True, "pad": False}]
)
def test_fewer_rows_at_once_by_any_way_draw_the_same(ways: dict[str, bool]) -> None:
    policy = tiny_policy()
    prompts = [[5, 6, 7], [8, 9], [10, 11, 12], [13, 14], [15, 16], [5]]
    whole = sample(policy, prompts, 3, keys=keys(18), max_tokens=10)
    policy.network.ways = replace(policy.network.ways, **ways)
    few = sample(policy, prompts, 3, keys=keys(18), max_tokens=10, at_once=6)
    assert torch.equal(few.tokens_NT, whole.tokens_NT) and torch.equal(few.truncated_N, whole.truncated_N)
    torch.testing.assert_close(few.logp_NT, whole.logp_NT, atol=1e-5, rtol=0)


def test_a_prompts_rows_stay_together_where_they_are_more_than_the_limit() -> None:
    policy = tiny_policy()
    out, passes = in_flight(policy, [[5, 6], [7, 8]], 6, 4)
    assert passes[:2] == [2, 6] and len(out.tokens_NT) == 12


def test_products_in_tiles_are_the_heads_own() -> None:
    torch.manual_seed(3)
    head = torch.nn.Linear(24, 2500, bias=False)
    tiled = tiled_head(head)
    assert tiled is not None
    for rows in (9, 4, 12):
        hidden = torch.randn(rows, 24)
        with torch.no_grad():
            torch.testing.assert_close(tiled(hidden), head(hidden), atol=1e-5, rtol=1e-5)
            head.weight.mul_(2)  # as an update does
            torch.testing.assert_close(tiled(hidden), head(hidden), atol=1e-5, rtol=1e-5)
    assert tiled_head(torch.nn.Linear(24, 2500)) is None and tiled_head(head.bfloat16()) is None
