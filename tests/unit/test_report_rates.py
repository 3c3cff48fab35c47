"""Robustness: a row over the whole grid of learning rates; holes, other seeds or budgets are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.records.trial import TRIALS, TrialRecord, read_trials, write_trials
from harness.report.analysis.robustness import Point, of_trials, surface
from harness.report.tables.robust_columns import range_text
from harness.sweep.spec import load_sweep
from harness.sweep.trial_records import collect_trials
from tests.unit.test_report import rows_of, table
from tests.unit.test_sweep_controls import BODY, _tune

GRID = (1e-5, 2e-5, 4e-5, 8e-5)
Write = Callable[..., Path]


def points(row: str, *scores: float, **known: Any) -> list[Point]:
    own = {"seeds": (9,), "budget": 100} | known
    return [Point(row, rate, score, **own) for rate, score in zip(GRID, scores, strict=False)]


def trial(method: str, rate: float, score: float, knob: int = 1, **known: Any) -> TrialRecord:
    body: dict[str, Any] = {
        "run_id": f"{method}-{rate:g}-{knob}", "method": method, "score": score, "chosen": False, "seed": 9,
        "settings": {"train.lr": rate, "method.x": knob}, "scores": {"pass@1": score}, "numerics_version": 1,
        "grid": [1e-5, 2e-5],
    }  # fmt: skip
    return TrialRecord(**body | known)


def test_best_mean_worst_and_the_unbroken_range_about_the_best() -> None:
    found = surface([*points("a", 0.30, 0.31, 0.40, 0.39), *points("b", 0.40, 0.20, 0.395, 0.1)], "pass@1")
    assert found is not None and found.grid == GRID
    a, b = found.rows["a"], found.rows["b"]
    assert (a.best, a.best_rate, a.worst, a.low, a.high) == (0.40, 4e-5, 0.30, 4e-5, 8e-5)
    assert a.mean == pytest.approx(0.35) and range_text(a) == "4e-5 to ≥ 8e-5"
    assert (b.low, b.high) == (1e-5, 1e-5), "a rate as good beyond a worse one is no safe range"
    assert range_text(b) == "≤ 1e-5 to 1e-5"
    assert a.numbers["robust_rates"] == 2.0


def test_rates_beyond_the_grid_count_for_the_best_alone() -> None:
    rows = [*points("a", 0.1, 0.2, 0.3, 0.5), *points("b", 0.1, 0.2, 0.3)]
    found = surface(rows, "pass@1", GRID[:3])
    assert found is not None and found.rates == GRID
    assert found.rows["a"].best == 0.5 and found.rows["a"].mean == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [*points("a", 0.1, 0.2, 0.3), *points("b", 0.1, 0.2)],
            "the grid of learning rates has a hole: b was not run at 4e-05",
        ),
        (
            [*points("a", 0.1, 0.2, 0.3), *points("b", 0.1, 0.2, 0.3)[::2]],
            "has a hole: b was not run at 2e-05",
        ),
        (
            [*points("a", 0.1, 0.2), *points("b", 0.1, 0.2, seeds=(9, 10))],
            "unequal seeds cannot stand in one table of learning rates: 9 in a at 1e-05; 9, 10 in b at 1e-05",
        ),
        (
            [*points("a", 0.1, 0.2), *points("b", 0.1, 0.2, budget=200)],
            "unequal token budgets cannot stand in one table of learning rates: 100 in a at 1e-05; 200 in b",
        ),
        ([*points("a", 0.1, 0.2), *points("a", 0.3)], "a has two scores at a rate of 1e-05"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(rows: list[Point], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        surface(rows, "pass@1")


def test_the_chosen_knob_is_held_and_other_numerics_are_left_out() -> None:
    own = [
        trial("a", 1e-5, 0.1), trial("a", 2e-5, 0.3, chosen=True),
        trial("a", 1e-5, 0.25, 2), trial("a", 2e-5, 0.2, 2),
        trial("a", 1e-5, 0.9, numerics_version=2, chosen=True), trial("old", 2e-5, 0.9, numerics_version=2),
    ]  # fmt: skip
    found = of_trials(own, 1)
    assert found is not None and found.rows["a"].scores == {1e-5: 0.1, 2e-5: 0.3}
    assert of_trials(own, 3) is None
    mixed = [*own, trial("b", 1e-5, 0.1, chosen=True, scores={"pass@8": 0.1})]
    with pytest.raises(ValueError, match="tuned on different scores: pass@1 of a; pass@8 of b"):
        of_trials(mixed, 1)


def test_trials_stand_beside_the_records_and_in_the_report(
    sweep_file: Write, backend: Any, worker: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = sweep_file(**BODY)
    _tune(path, backend, worker, monkeypatch)
    sweep = load_sweep(path)
    there, new = collect_trials(sweep)
    found = read_trials(sweep.results)
    assert there == new == len(found) > 0 and {t.seed for t in found} == {
        sweep.tuning.seed if sweep.tuning else 0
    }
    before = (sweep.results / TRIALS).read_bytes()
    assert collect_trials(sweep) == (there, 0) and (sweep.results / TRIALS).read_bytes() == before
    older = [TrialRecord(**{**_plain(t), "numerics_version": 0}) for t in found]
    write_trials(sweep.results, older)
    assert collect_trials(sweep) == (2 * there, there), "trials of a past version stay"


def _plain(found: TrialRecord) -> dict[str, Any]:
    return {key: getattr(found, key) for key in found.__struct_fields__}


def test_a_report_has_the_table_and_the_picture_and_refuses_holes(tmp_path: Path, capsys: Any) -> None:
    rows = [*rows_of("grpo", 0.0, activity=None), *rows_of("better", 0.1)]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["report", str(tmp_path)]) == 0
    assert not (tmp_path / "rates.png").exists()
    every = [trial(m, r, 0.4 + 1e3 * r, chosen=r == 2e-5) for m in ("grpo", "better") for r in (1e-5, 2e-5)]
    write_trials(tmp_path, every)
    assert main(["report", str(tmp_path)]) == 0
    text = (tmp_path / "leaderboard.md").read_text()
    assert "## Over all learning rates" in text and "one seed (9)" in text and "](rates.png)" in text
    found = table({"leaderboard.csv": (tmp_path / "leaderboard.csv").read_bytes()})["better"]
    assert (found["robust_best"], found["robust_worst"]) == ("0.42", "0.41")
    assert (tmp_path / "rates.png").stat().st_size > 5000
    write_trials(tmp_path, every[1:])
    capsys.readouterr()
    assert main(["report", str(tmp_path)]) == 2
    assert "has a hole: grpo was not run at 1e-05" in capsys.readouterr().err


def test_a_table_for_each_rate_gives_the_surface_of_all(tmp_path: Path, capsys: Any) -> None:
    def write(seeds: tuple[int, ...]) -> None:
        rows = []
        for rate, shift in ((2e-5, 0.0), (4e-5, 0.1)):
            for method in ("grpo", "better"):
                own = seeds if (method, rate) == ("better", 4e-5) else (1, 2, 3)
                for row in rows_of(method, shift, own, train={"lr": rate, "token_budget": 9}):
                    row |= {"run_id": f"{row['run_id']}-{rate:g}", "training_set": f"at-{rate:g}"}
                    rows.append(row)
        (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    write((1, 2, 3))
    assert main(["report", str(tmp_path)]) == 0
    text = (tmp_path / "leaderboard.md").read_text()
    assert "## Over all learning rates: pass@1" in text and "## Over all learning rates: pass@32" in text
    assert "| better |" in text and (tmp_path / "rates-pass@1.png").stat().st_size > 5000
    write((1, 2))
    capsys.readouterr()
    assert main(["report", str(tmp_path)]) == 2
    assert (
        "unequal seeds cannot stand in one table of learning rates: 1, 2 in better" in capsys.readouterr().err
    )
