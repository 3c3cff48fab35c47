"""What a plan says of the cost, and where each figure comes from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.plan import show_plan
from harness.sweep.budget import costs, tokens_of
from harness.sweep.plan import ledger, make_plan, states
from harness.sweep.spec import load_sweep

Write = Callable[..., Path]


def _finish(job: Any, seconds: float) -> None:
    (job.folder / "eval").mkdir(parents=True)
    for split in job.splits:
        (job.folder / "eval" / f"{split}.parquet").touch()
    (job.folder / "result.json").write_text("{}")
    status = {"state": "done", "step": 3, "steps": 3, "elapsed_s": seconds}
    (job.folder / "status.json").write_text(json.dumps(status))


def _shown(path: Path, backend: Any, capsys: pytest.CaptureFixture[str], **more: Any) -> list[str]:
    sweep = load_sweep(path)
    jobs = make_plan(sweep, backend)
    show_plan(sweep, jobs, states(jobs, ledger(sweep)), backend, **more)
    return capsys.readouterr().out.splitlines()


def test_tokens_are_the_budget_or_the_most_there_can_be(sweep_file: Write, backend: Any) -> None:
    rollout = {"prompts_per_step": 4, "group_size": 2, "max_response_tokens": 10}
    path = sweep_file(settings={"train": {"steps": 3}, "rollout": rollout})
    jobs = make_plan(load_sweep(path), backend)
    assert tokens_of(jobs[0]) == (0, True)  # the untrained model
    assert tokens_of(jobs[1]) == (240, False)
    budgeted = make_plan(load_sweep(path, ["train.token_budget=100"]), backend)
    assert tokens_of(budgeted[1]) == (100, True)


def test_hours_are_measured_expected_stated_or_unknown(sweep_file: Write, backend: Any) -> None:
    path = sweep_file(slurm={"gpus": 2, "nodes": 2}, seeds=[1, 2], gpu_hours=9)
    sweep = load_sweep(path)
    jobs = make_plan(sweep, backend)
    found = costs(sweep, jobs, states(jobs, ledger(sweep)))
    assert [(cost.hours, cost.source) for cost in found] == [(None, "unknown"), *[(9.0, "stated")] * 4]
    _finish(jobs[1], 1800)
    found = costs(sweep, jobs, states(jobs, ledger(sweep)))
    assert [(cost.hours, cost.source) for cost in found] == [
        (None, "unknown"), (2.0, "measured"), *[(2.0, "like finished runs")] * 3,
    ]  # fmt: skip


def test_a_model_has_its_own_estimate(sweep_file: Write, backend: Any) -> None:
    models = {"a/b": None, "c/d": {"gpu_hours": 5}}
    sweep = load_sweep(sweep_file(models=models, gpu_hours=1, methods=["grpo"], base_temperatures=[]))
    jobs = make_plan(sweep, backend)
    found = costs(sweep, jobs, states(jobs, ledger(sweep)))
    assert [(job.model, cost.hours) for job, cost in zip(jobs, found, strict=True)] == [
        ("a/b", 1.0), ("a/b", 1.0), ("c/d", 5.0), ("c/d", 5.0),
    ]  # fmt: skip


def test_the_plan_shows_rows_totals_and_what_is_missing(
    sweep_file: Write, backend: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    knobs = {"grpo": {"eps_high": [0.2, 0.3]}, "dapo": {"eps_high": [0.2, 0.3]}}
    path = sweep_file(
        models=["org/a", "org/b"], slurm={"gpus": 1}, gpu_hours=2, settings={"train.token_budget": 1000},
        tuning={"lrs": [1e-4], "seed": 9, "knobs": knobs},
        reproduces={"paper": "A paper", "result": "table 1", "reported": "42", "differs": ["the data"]},
    )  # fmt: skip
    jobs = make_plan(load_sweep(path), backend)
    _finish(jobs[1], 3600)
    lines = _shown(path, backend, capsys)
    text = "\n".join(lines)
    for part in (
        "org/a/default:", "org/b/default:",
        "10 runs: 1 done, 9 missing",
        "budget: 8 k generated tokens in training, 1 k of them in finished runs",
        "GPU-hours: 12 (1 measured in finished runs, 3 expected from finished runs, "
        "8 by the file's own estimate, not measured); unknown for 2 runs",
        "untuned (not ranked): dapo, grpo",
        f"tune them first: entrobench sweep tune {path} (8 trials)",
        "reproduces: A paper", "  differs: the data",
    ):  # fmt: skip
        assert part in text, part
    row = next(line for line in lines if line.startswith("grpo"))
    assert row.split()[:9] == ["grpo", "method", "no", "1", "2", "1", "of", "2", "1"]
    assert "missing" in row and "1 measured" in row


def test_every_run_is_listed_with_its_id(
    sweep_file: Write, backend: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep_file()
    jobs = make_plan(load_sweep(path), backend)
    lines = _shown(path, backend, capsys, every=True)
    assert [line.split()[-1] for line in lines[2 : 2 + len(jobs)]] == [job.run_id for job in jobs]


def test_settings_on_the_command_line_are_named_as_the_reason(
    sweep_file: Write, backend: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    knobs = {"grpo": {"eps_high": [0.2, 0.3]}, "dapo": {"eps_high": [0.2, 0.3]}}
    path = sweep_file(tuning={"lrs": [1e-4], "seed": 9, "knobs": knobs})
    sweep = load_sweep(path, ["train.lr=1e-3"])
    jobs = make_plan(sweep, backend)
    show_plan(sweep, jobs, states(jobs, ledger(sweep)), backend)
    out = capsys.readouterr().out
    assert "untuned (not ranked): dapo, grpo; train.lr=1e-3 stands above what tuning chose" in out
    assert "tune them first" not in out
