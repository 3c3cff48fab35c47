"""The command line: fast help, one-line errors with exit code 2, nothing started by a mistake."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.cli.parser import SUMMARIES
from tests.helpers.scripts import run_code, run_python

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["sweep", "sumbit", "x.yaml"], "unknown sweep command 'sumbit'; did you mean submit?"),
        (["methods", "shwo", "grpo"], "did you mean show?"),
        (["methods", "show", "grpoo"], "unknown method 'grpoo'; did you mean grpo"),
        (["methods", "show", "bapo"], "did you mean bapo@"),
        (["train", "method=steeer"], "unknown method 'steeer'; did you mean steer"),
        (["train", "method=steer", "method.w_mn=1"], "no hyper-parameter 'w_mn'; did you mean w_min"),
        (["train", "trian.steps=3"], "unknown setting 'trian.steps'; did you mean train"),
        (["train", "steps=3"], "unknown setting 'steps'; did you mean train.steps or sft.steps?"),
        (["train", "train.step=3"], "did you mean train.steps"),
        (["train", "data.benchmark=micor"], "unknown benchmark 'micor'; did you mean micro"),
        (["train", "eval.splits=[test_di]"], "unknown split of micro 'test_di'; did you mean test_id"),
        (["train", "model.path=mirco"], "unknown model 'mirco'; did you mean micro"),
        (["train", "method.eps_low=2"], "method.eps_low=2.0 is out of range"),
        (["train", "train.steps=many"], "train.steps"),
        (["train", "train.minibatches=1000"], "exceeds the 128 rollouts of a step; lower it"),
        (["train", "method"], "is not an override"),
        (["train", "method=nowhere/mine.py"], "no method file nowhere/mine.py"),
        (["eval", "nowhere"], "not a run folder"),
        (["sweep", "plan", "nowhere.yaml"], "no file nowhere.yaml"),
        (["report", "nowhere.yaml"], "no file nowhere.yaml"),
        (["sweep", "plan"], "the following arguments are required: file"),
        (["train", "--fast"], "unrecognized arguments: --fast"),
        (["check", "golden", "nowhere"], "no folder nowhere"),
        (["new-method", "My Idea"], "not a method name"),
        (["new-method", "grpo"], "the name 'grpo' is taken"),
    ],
)
def test_mistakes_are_one_line_and_start_nothing(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("entrobench: ") and err.count("\n") == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_with_a_mistake_starts_nothing(sweep_file: Write, tmp_path: Path, capsys: Any) -> None:
    path = str(sweep_file(methods=["grpo", "dapo"]))
    for options in (["train.stepz=1"], ["method.w_min=1"], ["launcher=slurmm"], ["workers=0"], ["wokers=1"]):
        assert main(["sweep", "submit", path, *options]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def _run(code: str) -> subprocess.CompletedProcess[str]:
    done = run_code(code)
    done.check_returncode()
    return done


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from harness.cli import main
for words in ([], ["--version"]):
    assert main(words) == 0
try:
    main(["sweep", "submit", "--help"])
except SystemExit as stop:
    assert stop.code == 0
heavy = {"torch", "transformers", "pandas", "numpy", "hydra", "rich", "yaml", "datasets"} & set(sys.modules)
assert not heavy, heavy
"""
    out = _run(code).stdout
    assert all(command in out for command in SUMMARIES)
    assert "_worker" not in out.replace("==SUPPRESS==", "_worker")


def test_help_answers_in_less_than_a_third_of_a_second() -> None:
    def once() -> float:  # its own processor time, so that a busy machine does not fail the test
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run_python("-m", "entrobench", "--help").check_returncode()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(once() for _ in range(5)) < 0.3


def test_methods_lists_every_entry_without_torch() -> None:
    from harness.registry.methods import entries

    code = """
from harness.cli import main
from harness.util.lazy import is_loaded
main(["methods"])
assert not is_loaded("torch")
"""
    out = _run(code).stdout
    assert all(name in out for name in entries())


def test_a_card_shows_hyperparameters_with_defaults_and_ranges(capsys: Any) -> None:
    assert main(["methods", "show", "steer"]) == 0
    out = capsys.readouterr().out
    for part in (
        "| method.w_min | 0.7 | > 0 |",
        "exponential \\| linear",
        "## Deviations",
        "## Formula",
        "Reported",
    ):
        assert part in out


def test_every_card_can_be_shown(capsys: Any) -> None:
    from harness.registry.methods import entries

    for name in entries():
        assert main(["methods", "show", name]) == 0
        assert f"(`{name}`)" in capsys.readouterr().out


def test_plan_prints_every_run_and_creates_none(sweep_file: Write, capsys: Any, tmp_path: Path) -> None:
    assert main(["sweep", "plan", str(sweep_file())]) == 0
    out = capsys.readouterr().out
    assert "5 runs: 5 missing" in out and "untuned (not ranked): dapo, grpo" in out
    assert not list((tmp_path / "runs").glob("[!.]*"))


def test_interruption_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def stop(*_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.cli._dispatch", stop)
    assert main(["train"]) == 130
    assert "goes on from the last checkpoints" in capsys.readouterr().err


def test_doctor(capsys: Any) -> None:
    assert main(["doctor"]) == 0
    assert "torch" in capsys.readouterr().out
