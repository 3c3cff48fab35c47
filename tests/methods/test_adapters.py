"""Adapters read cases that differ in form from the stored ones: other groups, bundles, masks and options."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.registry.golden import GoldenCase, cases, check_case, load_adapter
from tests.methods.support.cases import FOLDER

#: Slugs whose outputs depend on the order of all rows, not only of those of a group: buffers and draws; and
#: one whose controller's traces are by chance as long as its batch.
ORDERED = {"aepo", "clip_cov", "entrocraft", "repo_r"}
MIXABLE = sorted({c.slug for c in cases(FOLDER) if "groups" in c} - ORDERED)


def stored(slug: str, number: int = 1) -> GoldenCase:
    return next(c for c in cases(FOLDER / slug) if c.name == f"case{number}")


def changed(case: GoldenCase, hp: dict[str, Any], **arrays: Any) -> GoldenCase:
    """``case`` with other hyper-parameters and inputs; its outputs are no longer right."""
    meta = {**case.meta, "hyperparameters": {**case.hp, **hp}}
    return replace(case, meta=meta, arrays={**case.arrays, **{k: np.asarray(v) for k, v in arrays.items()}})


def replayed(case: GoldenCase) -> dict[str, np.ndarray]:
    adapter = load_adapter(FOLDER / case.slug)
    assert adapter is not None
    return dict(adapter.outputs(case))


def mixed(case: GoldenCase) -> GoldenCase:
    """The first rows of all groups, then the second ones …: rows of a group stay in their order."""
    met: dict[int, int] = {}
    place = []
    for row, group in enumerate(case["groups"].tolist()):
        met[group] = met.get(group, 0) + 1
        place.append((met[group], row))
    order = [row for _, row in sorted(place)]
    arrays = {k: v[order] if v.ndim and len(v) == len(order) else v for k, v in case.arrays.items()}
    return replace(case, arrays=arrays)


@pytest.mark.parametrize("slug", MIXABLE)
def test_rows_of_groups_may_be_mixed(slug: str) -> None:
    for case in cases(FOLDER / slug):
        rows = check_case(mixed(case), load_adapter(FOLDER / slug))
        assert [row.line() for row in rows if row.status not in ("ok", "not covered")] == []


def test_bundles_are_the_stored_ones_whatever_the_groups_are_called() -> None:
    case = stored("riskpo")
    other = changed(case, {}, groups=3 * case["groups"] + 1)
    bad = [row.line() for row in check_case(other, load_adapter(FOLDER / "riskpo")) if row.status != "ok"]
    assert bad == []


def test_bundles_of_different_numbers_of_papers() -> None:
    case = stored("riskpo")
    keep = np.arange(len(case["groups"])) < len(case["groups"]) - 1
    short = {k: v[keep] for k, v in case.arrays.items() if v.ndim and len(v) == len(keep)}
    made = replayed(changed(case, {}, **short))
    n = np.flatnonzero(keep)[-4:]
    assert np.allclose(made["out_advantages"][:8], case["out_advantages"][:8], rtol=1e-9)
    assert np.isfinite(made["out_advantages"][n]).all() and made["out_bundle_scores"].shape == (2, 4)


@pytest.mark.parametrize("slug", ["riskpo", "bnpo", "a_grae"])
def test_a_mean_over_rows_has_exact_lengths(slug: str) -> None:
    """verl of that time divides by the length itself; 1e-8 beside it would show at the case's tolerance."""
    case = changed(stored(slug), {"loss_agg_mode": "seq-mean-token-mean"})
    grad, mask = replayed(case)["out_grad_logp"], case["mask"]
    summed = replayed(changed(case, {"loss_agg_mode": "seq-mean-token-sum"}))["out_grad_logp"]
    assert np.allclose(grad, summed / mask.sum(1, keepdims=True), rtol=1e-12, atol=0)


def test_canon_divides_by_the_budget_only_where_it_sums_over_tokens() -> None:
    case = stored("canon")
    mean = replayed(changed(case, {"loss_agg_mode": "token-mean"}))["out_advantages"]
    assert np.allclose(mean, case.hp["max_length"] * case["out_advantages"], rtol=1e-12)


def test_canon_s_offset_is_exact_and_no_schedule_has_it_or_alpha() -> None:
    """0.1 in single precision would be off by 1.5e-9."""
    case = stored("canon")
    plain, other = replayed(case), replayed(changed(case, {"beta": 0.1}))
    offset = (other["out_advantages"] - plain["out_advantages"])[case["mask"] > 0]
    assert np.allclose(np.abs(offset), 0.1 * case.hp["_lambda"] / case.hp["max_length"], rtol=1e-12, atol=0)
    scaled = replayed(changed(case, {"beta": 0.1, "alpha": 0.5}))
    assert np.array_equal(scaled["out_advantages_anneal"], plain["out_advantages_anneal"])


def test_a_grae_clips_at_two_bounds_where_a_case_has_two() -> None:
    case = stored("a_grae")
    one, two = (replayed(changed(case, {"clip_ratio_high": high})) for high in (0.2, 0.28))
    assert one["out_loss"] == replayed(case)["out_loss"] != two["out_loss"]


def test_so_many_rollouts_of_each_prompt_train_however_many_voted() -> None:
    case = stored("ttrl")
    made = replayed(changed(case, {}, answers=case["answers"][:13], groups=np.repeat([4, 1], [7, 6])))
    assert case.hp["n_samples"] == 4
    assert made["out_mask"].tolist() == [True] * 4 + [False] * 3 + [True] * 4 + [False] * 2


def test_groups_of_other_sizes_lose_one_rollout_each() -> None:
    case = stored("mc_grpo", 2)
    made = replayed(changed(case, {}, groups=np.repeat([0, 1, 2], [3, 7, 5])))
    assert [int((~made["out_mask"][rows]).sum()) for rows in (slice(3), slice(3, 10), slice(10, 15))] == [
        1,
        1,
        1,
    ]


def test_a_response_without_the_mark_is_all_thinking() -> None:
    case = stored("pear")
    made = replayed(changed(case, {}, think_end=np.full(len(case["think_end"]), -1)))
    own = (case["entropy"] * case["mask"]).sum(1) / case["mask"].sum(1)
    assert np.allclose(made["out_h_think"], own) and not made["out_h_answer"].any()


def test_an_option_that_is_off() -> None:
    case = stored("dppo")
    off, high = (replayed(changed(case, {"ratio_cap": cap})) for cap in (None, 1e9))
    assert all(np.array_equal(off[name], high[name]) for name in off)
    case = stored("ce_gppo", 2)
    off, high = (replayed(changed(case, {"clip_ratio_c": cap})) for cap in (None, 1e9))
    assert all(np.array_equal(off[name], high[name]) for name in off) and off["out_dual_clipfrac"] == 0


def test_rewards_of_neither_kind_and_masks_with_holes_in_drpo() -> None:
    """Both leave a response out of the positive and the negative part, or do not."""
    case = stored("drpo")
    reward, mask = case["rewards"].copy(), case["mask"].copy()
    reward[0] = 0.5
    made = replayed(changed(case, {"beta": 0.0}, rewards=reward))
    assert not made["out_grad_logp"][0].any() and made["out_weights"][0] == 0
    row = int(np.flatnonzero((made["out_weights"] > 0) & (mask.sum(1) > 2))[0])
    mask[row, 0] = 0
    holed = replayed(changed(case, {"beta": 0.0}, mask=mask))["out_grad_logp"][row]
    assert not holed[0] and holed[1:][mask[row, 1:] > 0].all()


def test_the_upper_tail_is_asked_for_beside_no_mixture() -> None:
    case = stored("riskpo")
    both = changed(case, {"risk_seeking_upper_tail": True, "upper_weight": 0.3})
    assert [
        row.line() for row in check_case(both, load_adapter(FOLDER / "riskpo")) if row.status != "ok"
    ] == []
    upper = replayed(changed(both, {"use_mixing_risk_measure": False}))["out_advantages"]
    assert not np.allclose(upper, case["out_advantages"])


def test_padding_is_no_candidate_of_cure_whatever_is_special() -> None:
    case = stored("cure")
    assert (case["tokens"] == case.hp["pad_token_id"]).any()
    made = replayed(changed(case, {"special_ids": [1]}))
    assert all(np.array_equal(made[n], v) for n, v in case.arrays.items() if n.startswith("out_branch"))


def test_entropies_of_fewer_tokens_than_are_stored_in_tool_light() -> None:
    case = stored("tool_light")
    best = -np.sort(-case["top_logprobs"], axis=-1)
    few = replayed(changed(case, {"top_logprobs_K": 3}))
    cut = replayed(changed(case, {"top_logprobs_K": 3}, top_logprobs=best[..., :3]))
    lacking = np.where(np.arange(best.shape[-1]) < 3, best, -np.inf)
    none = replayed(changed(case, {}, top_logprobs=lacking))
    assert not np.allclose(few["out_prefix_entropy"], case["out_prefix_entropy"])
    for name, value in cut.items():
        assert np.allclose(few[name], value, rtol=1e-12) and np.allclose(none[name], value, rtol=1e-12)


def test_igpo_scores_gains_and_outcomes_apart_where_asked() -> None:
    case = stored("igpo", 2)
    apart = replace(case, meta={**case.meta, "variant": "paper_separate"})
    turns, z = case["out_turn_rewards"], np.zeros_like(case["out_turn_rewards"])
    for group in np.unique(case["groups"]):
        rows = case["groups"] == group
        for columns in (slice(0, -1), slice(-1, None)):
            own = turns[rows, columns]
            z[rows, columns] = (own - own.mean()) / (own.std() + case.hp["eps_paper_variant"])
    assert case.hp["gamma_paper_variant"] == 1
    made = replayed(apart)
    assert np.allclose(made["out_paper_turn_advantages"], z[:, ::-1].cumsum(1)[:, ::-1], rtol=1e-9)
    assert np.array_equal(made["out_advantages"], replayed(case)["out_advantages"])


def without_tokens(case: GoldenCase, row: int) -> dict[str, np.ndarray]:
    """The case's mask and advantages where one response is empty."""
    mask = case["mask"].copy()
    mask[row] = 0
    return {"mask": mask, "advantages": case["advantages"] * mask}


def test_the_mean_kl_of_verl_s_controller_counts_empty_responses() -> None:
    case = stored("kl_penalty")
    made = replayed(changed(case, {}, **without_tokens(case, 3)))["out_current_kl_k1"]
    k1 = (case["old_logp"] - case["ref_logp"]) * case["mask"]
    means = k1.sum(1) / (case["mask"].sum(1) + case.hp["length_eps"])
    assert np.isclose(made, (means.sum() - means[3]) / len(means), rtol=1e-12)


def test_m2po_s_release_takes_a_row_s_sign_from_its_first_column() -> None:
    case = stored("m2po")
    mask = case["mask"].copy()
    mask[:, 0] = 0
    before = replayed(changed(case, {}, mask=mask))
    blind = replayed(changed(case, {}, mask=mask, advantages=case["advantages"] * mask))
    assert before["out_clip_high_released"] < 99999 == blind["out_clip_high_released"]
    assert np.array_equal(blind["out_mask"], before["out_mask"])


def test_ratios_of_m2po_s_release_and_of_areal_are_not_limited() -> None:
    case = stored("m2po")
    row, logp = int(np.flatnonzero(case["advantages"][:, 0] < 0)[0]), case["logp"].copy()
    d = 25.0
    logp[row, 0] = case["old_logp"][row, 0] + d
    made = replayed(changed(case, {}, logp=logp, prox_logp=case["old_logp"]))
    wanted = -case["advantages"][row, 0] * np.exp(d) / case["mask"].sum()
    for name in ("out_grad_logp_released", "out_grad_logp_areal"):
        assert np.isclose(made[name][row, 0], wanted, rtol=1e-9)
    assert made["out_grad_logp"][row, 0] < wanted / 100


def test_as_many_draws_as_rollouts_in_passk() -> None:
    case = stored("passk")
    whole = replayed(changed(case, {"k": 4}))
    assert np.isnan(whole.pop("out_rewards_pkpo_loo")).all()
    assert all(np.isfinite(value).all() for value in whole.values())
    one = replayed(changed(case, {"k": 1}))
    assert np.allclose(one["out_rewards_pkpo_raw"], case["scores"] / 4)
    right = case["rewards"].reshape(4, 4)
    wanted = right - (right.sum(1, keepdims=True) - right) / 3
    assert np.allclose(one["out_advantages_pkpo_binary"], wanted.reshape(-1, 1) * case["mask"])


def test_entropic_adds_what_the_case_says_to_its_counts() -> None:
    case = stored("entropic", 2)
    made = replayed(changed(case, {"mean_eps": 0.5}))
    lengths = case["mask"].sum(1)
    rows = (case["entropy"] * case["mask"]).sum(1) / (lengths + 0.5)
    assert np.isclose(made["out_entropy"], rows.sum() / (len(rows) + 0.5), rtol=1e-12)
