"""Tuning: equal trials for all, the stated rule, the choice written whole and used afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.plan import tuning_notes
from harness.sweep.local import LocalLauncher
from harness.sweep.plan import ledger, make_plan
from harness.sweep.sections import Tuning
from harness.sweep.spec import load_sweep
from harness.sweep.text import read_yaml
from harness.sweep.tune import Trial, choose, next_rate, score, trials, untried, write_choice
from harness.util.errors import UserError
from tests.helpers.records import small_record

Write = Callable[..., Path]
TUNING = {
    "lrs": [1e-4, 3e-4, 2e-4],
    "seed": 101,
    "knobs": {"grpo": {"eps_high": [0.2, 0.28]}, "dapo": {"eps_high": [0.28, 0.4]}},
}


def _trial(lr: float, knob: int) -> Trial:
    return Trial("m", lr, knob, {}, None)  # type: ignore[arg-type]


def test_every_method_gets_the_same_trials(sweep_file: Write, backend: Any) -> None:
    found = trials(load_sweep(sweep_file(tuning=TUNING)), backend)
    assert [trial.method for trial in found] == ["grpo"] * 6 + ["dapo"] * 6
    assert {trial.job.seed for trial in found} == {101}
    assert not any(trial.job.evaluate for trial in found)
    assert len({trial.job.run_id for trial in found}) == 12
    assert found[3].settings == {"train.lr": 3e-4, "method.eps_high": 0.28}


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"grpo": {"eps_high": [0.2, 0.3]}}, "knobs lack dapo"),
        ({"grpo": {"eps_high": [0.2]}, "dapo": {"eps_high": [0.2, 0.3]}}, "equally many"),
        ({"grpo": {"eps_hi": [0.2]}, "dapo": {"eps_high": [0.2]}}, "no hyper-parameter 'eps_hi'"),
    ],
)
def test_unequal_tuning_is_refused(sweep_file: Write, backend: Any, knobs: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        trials(load_sweep(sweep_file(tuning=TUNING | {"knobs": knobs})), backend)


def test_a_sweep_without_tuning_says_so(sweep_file: Write, backend: Any) -> None:
    with pytest.raises(UserError, match="no 'tuning' section"):
        trials(load_sweep(sweep_file()), backend)


@given(
    st.lists(
        st.tuples(st.sampled_from([1e-4, 2e-4, 3e-4]), st.integers(0, 1), st.sampled_from([0.1, 0.2, 0.3])),
        min_size=1, unique_by=lambda row: row[:2],
    )
)  # fmt: skip
def test_rule_best_score_then_smaller_rate_then_earlier_knob(rows: list[tuple[float, int, float]]) -> None:
    scored = [(_trial(lr, knob), value) for lr, knob, value in rows]
    winner = choose(scored)
    best = max(value for _, value in scored)
    tied = sorted((trial.lr, trial.knob) for trial, value in scored if value == best)
    assert (winner.lr, winner.knob) == tied[0]
    assert choose(scored[::-1]) == winner


def test_score_is_the_mean_and_names_what_is_missing() -> None:
    record = small_record(validation={"pass@1": 0.2, "pass@8": 0.6})
    assert score(record, ["pass@1", "pass@8"]) == pytest.approx(0.4)
    with pytest.raises(UserError, match="no pass@16; it has pass@1, pass@8"):
        score(record, ["pass@16"])


def test_the_choice_is_written_and_used(sweep_file: Write, backend: Any, worker: list[str]) -> None:
    path = sweep_file(tuning=TUNING)
    sweep = load_sweep(path, ["workers=2"])
    found = trials(sweep, backend)
    LocalLauncher(sweep, ledger(sweep, "tuning"), worker).submit([trial.job for trial in found])
    written = write_choice(sweep, found, backend)
    assert written == path.with_name("small.tuned.yaml")
    body = read_yaml(written)
    # The fake score grows with the learning rate; the knobs tie, so the earlier one wins.
    assert body["choices"]["grpo"]["settings"] == {"train.lr": 3e-4, "method.eps_high": 0.2}
    assert len(body["trials"]) == 12 and sum(row["chosen"] for row in body["trials"]) == 2
    assert "smaller learning rate" in body["rule"]
    assert written.read_text() == write_choice(sweep, found, backend).read_text()

    jobs = [job for job in make_plan(sweep, backend) if job.role == "method"]
    assert {job.config["train"]["lr"] for job in jobs} == {3e-4}
    assert all(job.choice and job.choice["settings"]["train.lr"] == 3e-4 for job in jobs)
    with pytest.raises(UserError, match="seed that small.tuned.yaml was tuned with"):
        make_plan(load_sweep(sweep_file(seeds=[101])), backend)


@pytest.mark.parametrize(
    ("scores", "extend", "rate"),
    [
        ({1e-4: 0.1, 2e-4: 0.3, 4e-4: 0.2}, 2, None),
        ({1e-4: 0.1, 2e-4: 0.2, 4e-4: 0.3}, 2, 8e-4),
        ({1e-4: 0.1, 2e-4: 0.2, 4e-4: 0.3}, 0, None),
        ({1e-4: 0.1, 2e-4: 0.2, 4e-4: 0.3, 8e-4: 0.4}, 2, 1.6e-3),
        ({1e-4: 0.1, 2e-4: 0.2, 4e-4: 0.3, 8e-4: 0.4, 1.6e-3: 0.5}, 2, None),
        ({1e-4: 0.3, 2e-4: 0.2, 4e-4: 0.1}, 1, 5e-5),
        ({5e-5: 0.4, 1e-4: 0.3, 2e-4: 0.2, 4e-4: 0.1}, 1, None),
        # a tie goes to the smaller rate, which may be the edge
        ({1e-4: 0.3, 2e-4: 0.3, 4e-4: 0.1}, 1, 5e-5),
        ({1e-4: 0.1, 2e-4: 0.2, 4e-4: None}, 2, None),
    ],
)
def test_a_grid_grows_while_the_best_rate_lies_on_its_edge(
    scores: dict[float, float | None], extend: int, rate: float | None
) -> None:
    tuning = Tuning(lrs=(1e-4, 2e-4, 4e-4), knobs={}, seed=1, extend=extend)
    assert next_rate(tuning, [(_trial(lr, 0), value) for lr, value in scores.items()]) == rate


def test_tuning_tries_the_grown_grid_and_says_where_it_ends(
    sweep_file: Write, backend: Any, worker: list[str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    import harness.cli.sweeps as command

    monkeypatch.setattr(command, "Runs", lambda: backend)
    monkeypatch.setattr(command, "open_launcher", lambda sweep, book: LocalLauncher(sweep, book, worker))
    small = TUNING | {"lrs": [1e-4, 2e-4], "knobs": {"grpo": {"eps_high": [0.2, 0.28]}}}
    path = sweep_file(tuning=small | {"extend": 2}, methods=["grpo"])
    assert command.tune(load_sweep(path)) == 0
    # the fake score grows with the rate: twice over the upper edge, and the winner is still on it
    body = read_yaml(path.with_name("small.tuned.yaml"))
    assert sorted({row["settings"]["train.lr"] for row in body["trials"]}) == [1e-4, 2e-4, 4e-4, 8e-4]
    chosen = body["choices"]["grpo"]
    assert chosen["settings"]["train.lr"] == 8e-4 and chosen["lr_at_grid_edge"]
    assert capsys.readouterr().out.count("2 more, where the best rate lies on the grid's edge") == 2

    # the file has it all, also where the runs are gone; a grid that may not grow has fewer trials
    sweep = load_sweep(path)
    assert untried(sweep, trials(sweep, backend)) == [] and len(trials(sweep, backend)) == 8
    narrow = load_sweep(sweep_file(tuning=small, methods=["grpo"]))
    assert len(untried(narrow, trials(narrow, backend))) == 4


def test_methods_without_knobs_may_take_the_rate_of_one_that_is_tuned(
    sweep_file: Write, backend: Any, worker: list[str]
) -> None:
    tuning = TUNING | {"knobs": {"grpo": {"eps_high": [0.2, 0.28]}}, "lr_from": "grpo"}
    path = sweep_file(tuning=tuning, settings={"train.steps": 3, "train.lr": 5e-5, "eval.n": 4})
    sweep = load_sweep(path, ["workers=2"])
    found = trials(sweep, backend)
    assert [trial.method for trial in found] == ["grpo"] * 6
    assert {j.config["train"]["lr"] for j in make_plan(sweep, backend) if j.role == "method"} == {5e-5}
    assert tuning_notes(sweep, make_plan(sweep, backend))[-1].endswith("(6 trials)")
    LocalLauncher(sweep, ledger(sweep, "tuning"), worker).submit([trial.job for trial in found])
    write_choice(sweep, found, backend)

    jobs = [job for job in make_plan(sweep, backend) if job.role == "method"]
    assert {job.config["train"]["lr"] for job in jobs} == {3e-4}
    # the other one has the rate alone, no knob, and does not count as tuned
    assert {job.label for job in jobs if job.choice is None} == {"dapo"}
    assert tuning_notes(sweep, jobs) == [
        "untuned (not ranked): dapo; without knobs a method runs at the rate of grpo"
    ]


def test_a_rate_is_taken_from_a_tuned_method_only(sweep_file: Write) -> None:
    with pytest.raises(UserError, match="lr_from names steer, which has no knobs; give it a line"):
        load_sweep(sweep_file(tuning=TUNING | {"lr_from": "steer"}))


def test_choices_of_another_sweep(sweep_file: Write, backend: Any) -> None:
    path = sweep_file(tuned_from="other.tuned.yaml", methods=["grpo"])
    with pytest.raises(UserError, match="tune that sweep first"):
        make_plan(load_sweep(path), backend)
    path.with_name("other.tuned.yaml").write_text("seed: 9\nchoices: {grpo: {settings: {train.lr: 7e-4}}}\n")
    jobs = make_plan(load_sweep(path), backend)
    assert [job.config["train"]["lr"] for job in jobs if job.role == "method"] == [7e-4, 7e-4]
