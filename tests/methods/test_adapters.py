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
