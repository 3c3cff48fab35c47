"""What progress looks like on a terminal and in a log."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest

from harness.run.state import state_of
from harness.sweep.live import PlainDisplay, RunningRun, Snapshot, finished_line, table, totals
from harness.util.progress import duration

STATUS = {
    "step": 12,
    "steps": 60,
    "phase": "train",
    "reward": 0.25,
    "entropy": 1.5,
    "probe_entropy": 0.8,
    "eta_s": 75,
}


def _snapshot(**changes: Any) -> Snapshot:
    row = RunningRun("steer", 2, state_of(STATUS, "running"))
    values: dict[str, Any] = {
        "rows": (row,),
        "total": 10,
        "done": 3,
        "failed": 0,
        "waiting": 6,
        "eta_s": 400.0,
    }
    return Snapshot(**(values | changes))


def test_the_live_table_names_method_seed_step_reward_entropy_and_time() -> None:
    from rich.console import Console

    console = Console(file=StringIO(), width=120)
    console.print(table("demo", _snapshot()))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in (
        "demo: 3 of 10 done",
        "about 6 min 40 s left",
        "steer",
        "12/60",
        "0.250",
        "1.500",
        "0.800",
        "1 min 15 s",
    ):
        assert part in text


def test_plain_lines_beat_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay("demo")
    display.update(_snapshot())
    display.update(_snapshot(done=4))
    assert capsys.readouterr().out.splitlines() == [
        "demo: 3 of 10 done, 1 running, 6 waiting, about 6 min 40 s left",
        "  steer seed 2: 12/60, reward 0.250, entropy 1.500, probe entropy 0.800, 1 min 15 s left",
    ]


def test_totals_name_failures_and_hide_an_unknown_time() -> None:
    assert totals(_snapshot(failed=2, eta_s=None, waiting=0)) == "3 of 10 done, 1 running, 2 failed"


def test_a_token_budget_counts_for_the_bar() -> None:
    assert state_of(STATUS | {"token_budget": 100, "generated_tokens": 80}, "running").fraction == 0.8
    assert state_of(STATUS, "running").fraction == pytest.approx(0.2)
    assert state_of(STATUS, "done").fraction == 1.0


def test_words() -> None:
    assert [duration(s) for s in (None, 9.6, 61, 3900)] == ["–", "10 s", "1 min 01 s", "1 h 05 min"]
    assert finished_line("dapo seed 1", ("ValueError: x",), 3) == "dapo seed 1: FAILED: ValueError: x"
    assert finished_line("base", None, 3) == "base: done in 3 s"
