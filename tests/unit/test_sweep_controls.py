"""Controls follow from what tuning chose; best temperatures are chosen on validation, beside the choices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import sweeps as verbs
from harness.sweep.controls import BASE_AT_BEST, left_out, next_lower
from harness.sweep.jobs import Job
from harness.sweep.local import LocalLauncher
from harness.sweep.plan import make_plan
from harness.sweep.spec import load_sweep
from harness.sweep.temperatures import samplings
from harness.sweep.text import read_yaml
from harness.sweep.tune import trials, untried
from harness.util.errors import UserError

Write = Callable[..., Path]
BODY: dict[str, Any] = {
    "methods": ["grpo"],
    "base_temperatures": [1.0, "tuned"],
    "settings": {"train": {"steps": 3}, "eval.n": 4, "eval.frontier_n": 16},
    "controls": {
        "lower": {"train.lr": "next-lower"},
        "early": {"eval.weights": "best"},
        "best": {"eval.temperature": "tuned"},
        "random": {"train.random_reward": True},
    },
    "tuning": {
        "lrs": [1e-4, 3e-4], "seed": 101, "knobs": {"grpo": {"eps_high": [0.2, 0.28]}},
        "temperatures": [0.6, 0.8, 1.0],
    },
}  # fmt: skip


def _differences(job: Job, plain: Job) -> dict[str, Any]:
    return {
        f"{section}.{key}": value
        for section in ("train", "eval", "rollout", "method")
        for key, value in job.config[section].items()
        if plain.config[section][key] != value
    }


def _tune(path: Path, backend: Any, worker: list[str], monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """``sweep tune`` with fake workers; which jobs each submission started."""
    started: list[list[str]] = []

    class Launcher(LocalLauncher):
        def submit(self, jobs: Any) -> Any:
            started.append([job.label for job in jobs])
            return super().submit(jobs)

    monkeypatch.setattr(verbs, "Runs", lambda: backend)
    monkeypatch.setattr(verbs, "open_launcher", lambda sweep, book: Launcher(sweep, book, worker))
    assert verbs.tune(load_sweep(path)) == 0
    return started


@pytest.mark.parametrize(("lr", "expected"), [(3e-4, 1e-4), (2e-4, 1e-4), (1e-4, 1e-4 / 3), (5e-4, 3e-4)])
def test_the_next_lower_rate(lr: float, expected: float) -> None:
    assert next_lower([3e-4, 1e-4], lr) == pytest.approx(expected, rel=1e-5)


def test_the_next_lower_rate_of_a_grown_grid() -> None:
    assert [next_lower([1e-4, 2e-4, 4e-4], lr) for lr in (1.6e-3, 8e-4, 5e-5)] == [8e-4, 4e-4, 2.5e-5]


def test_a_grid_of_one_rate_is_halved() -> None:
    assert next_lower([2e-4], 2e-4) == pytest.approx(1e-4)


def test_each_control_changes_one_thing_of_the_tuned_run(
    sweep_file: Write, backend: Any, worker: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sweep_file(**BODY)
    before = make_plan(load_sweep(path), backend)
    assert left_out(load_sweep(path), [job.label for job in before]) == ["best", BASE_AT_BEST]
    assert {job.label for job in before} == {"base", "grpo", "lower", "early", "random"}

    started = _tune(path, backend, worker, monkeypatch)
    assert [len(labels) for labels in started] == [4, 6], "the winner is there and is not trained again"
    # the fake score grows with the rate; at temperature 0.8 the most are right
    after = make_plan(load_sweep(path), backend)
    plain = {(job.label, job.seed): job for job in after}
    assert plain["grpo", 1].config["train"]["lr"] == 3e-4
    for seed in (1, 2):
        for label, changes in {
            "lower": {"train.lr": 1e-4}, "early": {"eval.weights": "best"},
            "best": {"eval.temperature": 0.8}, "random": {"train.random_reward": True},
        }.items():  # fmt: skip
            job = plain[label, seed]
            assert _differences(job, plain["grpo", seed]) == changes == job.changes
            assert job.role == "control" and job.choice == plain["grpo", seed].choice
    assert plain[BASE_AT_BEST, 1].changes == {"eval.temperature": 0.8}
    assert plain["base", 1].changes is None
    assert _differences(plain[BASE_AT_BEST, 1], plain["base", 1]) == {"eval.temperature": 0.8}


def test_tuning_again_tries_only_what_the_file_lacks(
    sweep_file: Write, backend: Any, worker: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without = BODY | {"controls": {}, "base_temperatures": [1.0]}
    path = sweep_file(**without)
    assert [len(labels) for labels in _tune(path, backend, worker, monkeypatch)] == [4]
    tuned = path.with_name("small.tuned.yaml")
    choices, rows = (read_yaml(tuned)[key] for key in ("choices", "trials"))

    # elsewhere: the runs of the tuning are gone, so the winner alone is trained again
    (tmp_path / "runs").rename(tmp_path / "gone")
    sweep_file(**BODY)
    started = _tune(path, backend, worker, monkeypatch)
    assert [len(labels) for labels in started] == [1, 6]
    body = read_yaml(tuned)
    assert body["choices"] == choices and body["trials"] == rows
    for name in ("base", "grpo"):
        found = body["temperatures"][name]
        assert found["temperature"] == 0.8 and not found["at_grid_edge"]
        assert [row["temperature"] for row in found["trials"]] == [0.6, 0.8, 1.0]
        assert all(
            set(row) == {"temperature", "pass@1", "pass@8", "score", "run_id"} for row in found["trials"]
        )
    assert body["temperatures"]["grpo"]["settings"] == choices["grpo"]["settings"]

    written = tuned.read_bytes()
    assert _tune(path, backend, worker, monkeypatch) == [] and tuned.read_bytes() == written
    sweep = load_sweep(path)
    assert untried(sweep, trials(sweep, backend)) == [] and samplings(sweep, backend) == []

    # another grid of temperatures leaves the choices; another grid of rates starts over
    sweep_file(**BODY | {"tuning": BODY["tuning"] | {"temperatures": [0.8, 1.2]}})
    assert {s.temperature for s in samplings(load_sweep(path), backend)} == {0.8, 1.2}
    sweep_file(**BODY | {"tuning": BODY["tuning"] | {"lrs": [1e-4, 2e-4]}})
    sweep = load_sweep(path)
    assert len(untried(sweep, trials(sweep, backend))) == 4


def test_a_temperature_of_another_choice_is_not_used(sweep_file: Write, backend: Any) -> None:
    path = sweep_file(**BODY)
    tuned = path.with_name("small.tuned.yaml")
    head = "seed: 101\nchoices: {grpo: {settings: {train.lr: 3e-4}}}\n"
    tuned.write_text(head + "temperatures: {grpo: {temperature: 0.7, settings: {train.lr: 1e-4}}}\n")
    assert "best" not in {job.label for job in make_plan(load_sweep(path), backend)}
    tuned.write_text(head + "temperatures: {grpo: {temperature: 0.7, settings: {train.lr: 3e-4}}}\n")
    jobs = {job.label: job for job in make_plan(load_sweep(path), backend)}
    assert jobs["best"].config["eval"]["temperature"] == 0.7


def test_a_profile_samples_at_the_best_temperature_too(sweep_file: Write, backend: Any) -> None:
    settings = BODY["settings"] | {"eval.benchmarks": ["gsm8k"], "eval.profile_settings": ["max_tokens:512"]}
    path = sweep_file(**BODY | {"settings": settings})
    chosen = "{temperature: 0.8, settings: {}}"
    path.with_name("small.tuned.yaml").write_text(
        "seed: 101\nchoices: {grpo: {settings: {}}}\n"
        f"temperatures: {{grpo: {chosen}, base: {chosen}}}\n"
    )
    jobs = {job.label: job for job in make_plan(load_sweep(path), backend)}
    for label in ("best", BASE_AT_BEST):
        assert jobs[label].config["eval"]["profile_settings"] == ["max_tokens:512", "avg.temperature:0.8"]
    sampled = samplings(load_sweep(path), backend)
    assert all(not s.job.config["eval"]["benchmarks"] and s.job.splits == ("validation",) for s in sampled)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tuning": BODY["tuning"] | {"temperatures": []}}, "say which to try: tuning: temperatures"),
        ({"tuning": None, "base_temperatures": [1.0]}, "needs tuning: lrs"),
        ({"base_temperatures": ["best"]}, "base_temperatures: 'best' is not a number > 0"),
        ({"controls": {BASE_AT_BEST: {}}}, "has the name of another row"),
    ],
)
def test_words_without_a_meaning_are_refused(sweep_file: Write, changes: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_sweep(sweep_file(**BODY | changes))
