"""What is shown while samples are drawn, and what a leaderboard refuses to mix."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from harness.cli import evaluation_display as progress
from harness.evaluation.draw import Progress
from harness.records.record import Evaluation
from harness.report.analysis.scores import common_problems, score_sets
from harness.statistics import pass_at_k

HALF = Progress(
    problems=30, problems_done=12, samples=1920, samples_done=960, right=480, tokens=5000, drawn=500
)


def test_lines_now_and_then_without_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    with progress.EvaluationDisplay("aime24 avg@64") as display:
        display(HALF)
        assert capsys.readouterr().out == ""  # not before the first half minute
        monkeypatch.setattr(progress, "HEARTBEAT_S", 0.0)
        display(HALF)
    out = capsys.readouterr().out
    assert out.startswith("aime24 avg@64: 12/30 problems, 960 of 1920 samples, ") and out.count("\n") == 1
    assert "tokens/s, accuracy 0.500, " in out and out.rstrip().endswith(" left")


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from rich import progress as rich_progress

    seen: list[dict[str, Any]] = []
    update = rich_progress.Progress.update

    def spying(self: Any, task: Any, **values: Any) -> None:
        seen.append(values)
        update(self, task, **values)

    monkeypatch.setattr(rich_progress.Progress, "update", spying)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with progress.EvaluationDisplay("aime24 avg@64") as display:
        display(HALF)
    assert seen[-1]["completed"] == 960 and seen[-1]["total"] == 1920
    assert seen[-1]["said"].startswith("12/30 problems") and "accuracy 0.500" in seen[-1]["said"]


def group(**changes: Any) -> Any:
    entry = {"n": 8, "correct": [4, 0], "problem_ids": ["p", "q"], "profile": "standard", "profile_hash": "a",
             "pass": {"n": 8, "correct": [2, 2], "problem_ids": ["q", "p"]}}  # fmt: skip
    evaluation = msgspec.convert(entry | changes, Evaluation)
    return SimpleNamespace(
        records=[SimpleNamespace(run_id="r", evals={"aime24": evaluation})], sampling_differs=False
    )


def test_a_leaderboard_never_mixes_profiles() -> None:
    assert common_problems([group(), group()], "aime24") == ["p", "q"]
    with pytest.raises(ValueError, match=r"different profiles: standard \(a\), standard\+changes \(b\)"):
        common_problems([group(), group(profile="standard+changes", profile_hash="b")], "aime24")


def test_a_leaderboard_reads_pass_at_k_off_its_own_samples() -> None:
    scores = score_sets([group()], "aime24", ["p", "q"])[0]
    assert scores is not None and scores.n == 8
    assert scores.curve_SK[0, 0] == 0.25  # pass@1 of the first sampling
    assert scores.curve_SK[0, 3] == pytest.approx(float(pass_at_k(8, 2, 4)))  # pass@4 of the second
