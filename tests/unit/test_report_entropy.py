"""Entropy as a discipline: area, collapse, the law, and the k at which the untrained model overtakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.records.record import Record
from harness.registry import methods as registry
from harness.report.analysis.conditions import WORDS, card_word
from harness.report.analysis.entropy import discipline, overtaken_at
from harness.report.data.groups import Group
from harness.report.tables.build import build_report
from harness.statistics.law import fit_law, over_runs, predict_end
from harness.util.errors import UserError
from tests.helpers.records import small_record, typed
from tests.unit.test_report import make_record, rows_of

ROOT = Path(__file__).parents[2]

GOLDEN = Path(__file__).parent.parent / "golden" / "law"


def _group(*records: Record, role: str = "method") -> Group:
    return Group("m", role, records)


def _probed(*nats: float, tokens: tuple[int, ...] = (), **more: Any) -> Record:
    at = tokens or tuple(range(0, 100 * len(nats), 100))
    probe = [
        {"step": 10 * i, "generated_tokens": t, "entropy_nats": h}
        for i, (h, t) in enumerate(zip(nats, at, strict=True))
    ]
    return small_record(probe=probe, **more)


def test_the_minimal_check_of_the_law() -> None:
    fit = fit_law([0.0, np.log(2), np.log(3)], [0.50, 0.38, 0.26])
    assert fit is not None
    assert (fit.a, fit.b, fit.ceiling) == pytest.approx((0.12, 0.62, 0.50))
    assert fit.rmse == pytest.approx(0.0, abs=1e-12) and fit.r2 == pytest.approx(1.0)
    assert fit_law([0.0, np.log(2)], [0.5, 0.4]) is None, "two points fit anything"
    assert fit_law([0.3] * 5, [0.1, 0.2, 0.3, 0.4, 0.5]) is None, "nothing to fit against"


@pytest.mark.parametrize("case", sorted(GOLDEN.glob("*.npz")), ids=lambda path: path.stem)
def test_the_stored_vectors_of_the_law(case: Path) -> None:
    stored = np.load(case)
    fit = fit_law(stored["entropy"], stored["performance"])
    early = predict_end(stored["entropy"], stored["performance"])
    assert fit is not None and early is not None
    found = {"out_a": fit.a, "out_b": fit.b, "out_fit": fit.at(stored["entropy"]), "out_r2": fit.r2,
             "out_rmse": fit.rmse, "out_ceiling": fit.ceiling, "out_pred_final": early[0],
             "out_n_early": early[1]}  # fmt: skip
    for name, value in found.items():
        np.testing.assert_allclose(value, stored[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_golden_cases_are_there() -> None:
    assert len(list(GOLDEN.glob("*.npz"))) == 2


def test_intervals_over_runs_cover_the_true_coefficient() -> None:
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(400):
        own = []
        for _ in range(4):
            entropy = np.linspace(1.0, 0.3, 6)
            a = 0.2 + 0.02 * rng.standard_normal()
            fit = fit_law(entropy, 0.7 - a * np.exp(entropy) + 0.005 * rng.standard_normal(6))
            assert fit is not None
            own.append(fit.a)
        found = over_runs(own)
        assert found.low is not None and found.high is not None
        hits.append(found.low <= 0.2 <= found.high)
    assert 0.92 <= np.mean(hits) <= 0.98
    assert over_runs([0.1, 0.2]).low is None, "two runs are no interval"


def test_area_is_the_mean_over_generated_tokens() -> None:
    found = discipline(_group(_probed(1.0, 0.5, 0.5, tokens=(0, 100, 400))), None, None, None)
    assert found.area == pytest.approx((0.75 * 100 + 0.5 * 300) / 400)
    assert (found.start, found.end) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("nats", "step"),
    [((1.0, 0.5, 0.1, 0.05), 20), ((1.0, 0.1, 0.5, 0.1), 30), ((1.0, 0.1, 0.5), None), ((1.0, 0.2), None)],
)
def test_collapse_is_where_it_stays_below_a_fifth(nats: tuple[float, ...], step: int | None) -> None:
    found = discipline(_group(_probed(*nats)), None, None, None)
    assert found.collapse_step == step and found.collapsed == (0 if step is None else 1)


def test_the_share_of_collapsed_seeds_and_late_entropies() -> None:
    trace = {"entropy_correct": [0.9, 0.8, 0.4, None], "entropy_wrong": [0.9, 0.8, 0.6, 0.5]}
    group = _group(_probed(1.0, 0.1, trace=trace), _probed(1.0, 0.9, trace=trace))
    found = discipline(group, None, None, None)
    assert found.collapsed == 0.5 and found.collapse_step == 10
    assert found.wrong == 0.5 and found.right is None, "the last window has no right rollout"


def test_the_k_at_which_the_untrained_model_overtakes() -> None:
    base = np.array([[0.2, 0.4, 0.6, 0.8]])
    assert overtaken_at(np.array([[0.5, 0.55, 0.58, 0.6]]), base) == 3
    assert overtaken_at(np.array([[0.5, 0.6, 0.7, 0.9]]), base) is None
    assert overtaken_at(np.array([[0.1, 0.6, 0.7, 0.9]]), base) is None, "it was never ahead"
    assert overtaken_at(None, base) is None


def _with_law(method: str, seed: int, noise: float, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    frontier = []
    for step, entropy in enumerate(np.linspace(1.0, 0.2, 6)):
        share = 0.8 - 0.2 * np.exp(entropy) + noise * rng.standard_normal()
        correct = np.clip(np.round(64 * (share + np.linspace(-0.1, 0.1, 40))), 0, 64).astype(int)
        frontier.append({"step": 10 * step, "n": 64, "correct": correct.tolist(), "entropy_nats": entropy})
    return make_record(method, seed, 0.0, frontier=frontier, **changes)


def test_the_law_stands_in_the_report_and_says_where_it_does_not_apply() -> None:
    rows = [_with_law("grpo", seed, 0.003) for seed in (1, 2, 3)]
    rows += [_with_law("held", s, 0.003, method_hash="m2", target_tracking_error=0.1) for s in (1, 2, 3)]
    rows += [_with_law("other", s, 0.003, method_hash="m3") for s in (1, 2)]
    rows += [
        _with_law("coins", s, 0.0, role="control", train={"random_reward": True}) for s in (1, 2, 3)
    ] + rows_of("base", -0.2, [0], role="base", activity=None)
    report = build_report(typed(rows), title="t", subtitle="", expected_seeds=None, reference="grpo")
    law = report.discipline["method/grpo"].law
    assert law is not None and law.applies and law.r2 > 0.99 and law.rmse < 0.02
    assert law.a.low is not None and law.a.high is not None and law.a.low < 0.2 < law.a.high
    assert [len(own) for own in law.points] == [6, 6, 6]
    told = {key: found.law.why_not for key, found in report.discipline.items() if found.law}
    assert told == {
        "method/grpo": "", "method/held": "aims at a target", "method/other": "not tested by the paper",
        "control/coins": "trained on coin flips",
    }  # fmt: skip
    other = report.discipline["method/other"].law
    assert other is not None and other.a.low is None, "two seeds give no interval"
    line = next(line for line in report.tables[0].lines if line.group.method == "grpo")
    assert line.numbers["law_a"] == law.a.value and line.numbers["entropy_area"] is not None


@pytest.mark.parametrize(
    ("method", "changes", "verdict"),
    [
        ("reinforce-family@rloo", {}, "yes"),
        ("reinforce-family@plain", {}, "not tested by the paper"),
        ("drgrpo", {}, "not tested by the paper"),
        ("cispo", {"activity": 0.005}, "yes"),
        ("clip-cov", {"activity": 0.007}, "no: controls entropy"),
        ("entropy-discriminator-clip@b", {"activity": 0.0}, "yes"),
        ("kl-penalty@loss", {}, "no: KL penalty"),
        ("drgrpo", {"hyperparameters": {"kl_coef": 0.01}}, "no: KL penalty"),
        ("cispo", {"settings": {"rollout": {"lag": 2}}}, "no: off-policy"),
        ("grpo+loss=clip-cov", {}, "no: controls entropy"),
        ("grpo+loss=gspo", {}, "not tested by the paper"),
        ("nobody-has-it", {}, "not tested by the paper"),
    ],
)
def test_the_law_is_marked_where_entropy_is_controlled_and_not_where_only_the_update_differs(
    method: str, changes: dict[str, Any], verdict: str
) -> None:
    rows = [_with_law("grpo", seed, 0.003) for seed in (1, 2, 3)]
    rows += [_with_law(method, s, 0.003, **({"method_hash": "m2"} | changes)) for s in (1, 2, 3)]
    report = build_report(typed(rows), title="t", subtitle="", expected_seeds=None, reference="grpo")
    law = report.discipline[f"method/{method}"].law
    assert law is not None and law.verdict == verdict and law.applies == (verdict == "yes")


def test_a_card_says_of_the_law_only_what_is_known(tmp_path: Path) -> None:
    cards = [entry.card_path for entry in registry.entries().values()]
    words = {card_word(card, "") for card in cards}
    assert words == {"", *WORDS} and card_word(ROOT / "methods" / "reinforce_family.md", "rloo") == "tested"
    (tmp_path / "x.md").write_text("---\ntitle: X\nentropy_law: holds entropy\n---\nbody\n")
    with pytest.raises(UserError, match="x.md: entropy_law 'holds entropy' is not one of tested"):
        card_word(tmp_path / "x.md", "")
    assert card_word(tmp_path / "none.md", "") == ""
