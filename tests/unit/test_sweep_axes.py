"""Models and training sets as a matrix: layers of settings, narrowing, one table and one choice per place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.sweep.local import LocalLauncher
from harness.sweep.plan import ledger, make_plan
from harness.sweep.spec import load_sweep
from harness.sweep.text import read_yaml
from harness.sweep.tune import trials, write_choice
from harness.sweep.tuned import refuse_stale, stale_choices
from harness.util.errors import UserError

Write = Callable[..., Path]
MODELS = {
    "org/small": None,
    "big": {
        "path": "org/big",
        "revision": "v1",
        "rollout.max_response_tokens": 48,
        "per_method": {"dapo": {"method.eps_high": 0.4}},
    },
}
SETS = {"micro": {"rollout": {"max_response_tokens": 16, "group_size": 4}}, "hard": {"benchmark": "micro"}}


def test_every_model_meets_every_training_set(sweep_file: Write, backend: Any) -> None:
    jobs = make_plan(load_sweep(sweep_file(models=MODELS, training_sets=SETS, seeds=[1])), backend)
    assert [(j.model, j.training_set, j.label) for j in jobs[:4]] == [
        ("org/small", "micro", "base"), ("org/small", "micro", "grpo"), ("org/small", "micro", "dapo"),
        ("org/small", "hard", "base"),
    ]  # fmt: skip
    assert len(jobs) == 2 * 2 * 3 and len({job.key for job in jobs}) == len(jobs)
    assert {job.config["model"]["path"] for job in jobs} == {"org/small", "org/big"}
    assert {job.config["data"]["benchmark"] for job in jobs} == {"micro"}


def test_settings_go_from_general_to_special(sweep_file: Write, backend: Any) -> None:
    path = sweep_file(
        models=MODELS, training_sets=SETS, seeds=[1],
        settings={"rollout.max_response_tokens": 8, "train.steps": 3, "model.revision": "main"},
        per_method={"dapo": {"method.eps_high": 0.3, "train.steps": 4}},
    )  # fmt: skip
    jobs = {(j.model, j.training_set, j.label): j.config for j in make_plan(load_sweep(path), backend)}
    tokens = {key: config["rollout"]["max_response_tokens"] for key, config in jobs.items()}
    assert tokens["org/small", "hard", "grpo"] == 8  # the sweep's
    assert tokens["big", "hard", "grpo"] == 48  # the model's
    assert tokens["big", "micro", "base"] == 16  # the training set's, also for the untrained model
    assert jobs["org/small", "micro", "dapo"]["method"]["eps_high"] == 0.3
    assert jobs["big", "micro", "dapo"]["method"]["eps_high"] == 0.4  # the method's at this place
    assert jobs["big", "micro", "base"]["train"]["steps"] == 3  # nothing of any method
    assert jobs["big", "micro", "dapo"]["train"]["steps"] == 4
    assert jobs["org/small", "hard", "dapo"]["model"]["revision"] == "main"


def test_the_command_line_narrows_the_matrix(sweep_file: Write) -> None:
    path = sweep_file(models=MODELS, training_sets=SETS)
    sweep = load_sweep(path, ["models=big", "training_sets=[hard]"])
    assert [setting.name for setting in sweep.grid] == ["big/hard"]
    assert sweep.models[0].settings["model.revision"] == "v1"
    with pytest.raises(UserError, match="unknown model 'bigg'; did you mean big"):
        load_sweep(path, ["models=[bigg]"])
    assert [m.name for m in load_sweep(sweep_file(), ["models=[a/b,c/d]"]).models] == ["a/b", "c/d"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": {"big": {"pth": "org/big"}}}, "unknown key in .*models: big: 'pth'; did you mean path"),
        ({"models": "org/big"}, "'models' must be a list of names, or a mapping"),
        ({"models": ["a/b", "a/b"]}, "models lists 'a/b' twice"),
        ({"models": {"big": {"per_method": {"steer": {}}}}}, "big: per_method names 'steer', which is not"),
        ({"models": {"big": {"gpu_hours": -1}}}, "models: big: gpu_hours: '-1' is not a number > 0"),
        ({"training_sets": {"x": 3}}, "'x' must be a mapping of settings"),
        ({"benchmarks": ["micro"]}, "unknown key"),
        ({"gpu_hours": "two"}, "gpu_hours: 'two' is not a number"),
        ({"slurm": {"partiton": "gpu"}}, "slurm: 'partiton'; did you mean partition"),
        ({"reproduces": {"paper": "x"}}, "reproduces: 'result' is missing"),
        ({"allow_stale_tuning": "maybe"}, "must be true or false"),
    ],
)
def test_refuses(sweep_file: Write, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_sweep(sweep_file(**changes))


def test_resources_may_be_set_on_the_command_line(sweep_file: Write) -> None:
    sweep = load_sweep(sweep_file(slurm={"gpus": 1}), ["slurm.partition=low", "local.workers=2"])
    assert sweep.slurm == {"gpus": 1, "partition": "low"} and sweep.local == {"workers": 2}


TUNING: dict[str, Any] = {
    "lrs": [1e-4, 2e-4],
    "seed": 101,
    "knobs": {"grpo": {"eps_high": [0.2, 0.28]}, "dapo": {"eps_high": [0.28, 0.4]}},
}


def _tune(path: Path, backend: Any, worker: list[str]) -> dict[str, Any]:
    sweep = load_sweep(path, ["workers=2"])
    found = trials(sweep, backend)
    LocalLauncher(sweep, ledger(sweep, "tuning"), worker).submit([trial.job for trial in found])
    return read_yaml(write_choice(sweep, found, backend))


def test_every_place_is_tuned_for_itself(sweep_file: Write, backend: Any, worker: list[str]) -> None:
    path = sweep_file(models=MODELS, training_sets=["micro"], tuning=TUNING, methods=["grpo", "dapo"])
    body = _tune(path, backend, worker)
    assert list(body["places"]) == ["org/small/micro", "big/micro"] and "choices" not in body
    assert all(len(setting["trials"]) == 8 for setting in body["places"].values())
    narrow = load_sweep(path, ["models=[big]", "methods=[grpo]"])
    again = read_yaml(write_choice(narrow, trials(narrow, backend), backend))
    assert again["places"].keys() == body["places"].keys(), "the other place's choice is kept"
    body["places"]["big/micro"]["choices"]["grpo"]["settings"]["train.lr"] = 7e-4
    import yaml

    path.with_name("small.tuned.yaml").write_text(yaml.safe_dump(body))
    jobs = [job for job in make_plan(load_sweep(path), backend) if job.label == "grpo"]
    assert {(job.model, job.config["train"]["lr"]) for job in jobs} == {("org/small", 2e-4), ("big", 7e-4)}


def test_a_place_may_be_tuned_in_another_ones_stead(
    sweep_file: Write, backend: Any, worker: list[str]
) -> None:
    path = sweep_file(models=MODELS, training_sets=SETS, tuning=TUNING | {"at": {"training_set": "micro"}})
    body = _tune(path, backend, worker)
    assert list(body["places"]) == ["org/small/micro", "big/micro"]
    body["places"]["big/micro"]["choices"]["grpo"]["settings"]["train.lr"] = 7e-4
    import yaml

    path.with_name("small.tuned.yaml").write_text(yaml.safe_dump(body))
    jobs = [job for job in make_plan(load_sweep(path), backend) if job.label == "grpo"]
    assert {(job.setting, job.config["train"]["lr"]) for job in jobs} == {
        ("org/small/micro", 2e-4), ("org/small/hard", 2e-4), ("big/micro", 7e-4), ("big/hard", 7e-4),
    }  # fmt: skip
    one = sweep_file(
        models=MODELS, training_sets=SETS, tuning=TUNING | {"at": {"model": "big", "training_set": "hard"}}
    )
    assert [setting.name for setting in load_sweep(one).tuning_grid] == ["big/hard"]
    with pytest.raises(UserError, match="at: 'bigg'; did you mean big"):
        load_sweep(sweep_file(models=MODELS, tuning=TUNING | {"at": {"model": "bigg"}}))
    with pytest.raises(UserError, match="do not narrow it away"):
        trials(load_sweep(path, ["training_sets=[hard]"]), backend)


def test_choices_of_older_code_are_named_and_refused(
    sweep_file: Write, backend: Any, worker: list[str]
) -> None:
    path = sweep_file(tuning=TUNING)
    _tune(path, backend, worker)
    sweep = load_sweep(path)
    jobs = make_plan(sweep, backend)
    assert stale_choices(jobs, backend) == []
    refuse_stale(sweep, jobs, backend)
    backend.method_hash = lambda method: "new" if method == "dapo" else "m"
    assert stale_choices(jobs, backend) == ["dapo"]
    with pytest.raises(UserError, match="older code of dapo; tune again: entrobench sweep tune .*small.yaml"):
        refuse_stale(sweep, jobs, backend)
    refuse_stale(load_sweep(path, ["allow_stale_tuning=true"]), jobs, backend)


@pytest.mark.parametrize("metric", ["pass@3", "pas@1", "pass@64", "accuracy"])
def test_a_metric_that_trials_will_not_have_is_refused_before_they_start(
    sweep_file: Write, backend: Any, metric: str
) -> None:
    with pytest.raises(UserError, match=f"metric in .*small.yaml: tuning: '{metric}'"):
        trials(load_sweep(sweep_file(tuning=TUNING | {"metric": [metric]})), backend)
