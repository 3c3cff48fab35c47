"""How long a run says that it still takes: the arithmetic, and a run by a clock of the test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.run import execute as runs
from harness.run import measures, phases, remaining
from harness.run import status as status_module
from harness.run.remaining import LATEST, Pace, last_step, work_left
from harness.train.trainer import Trainer
from harness.util.progress import Phase
from tests.helpers.execution import configured
from tests.helpers.tiny import SMALL, LetterBenchmark, small_run, tiny_folder


class FakeTime:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    monotonic = time


def test_the_pace_is_that_of_the_latest_pieces() -> None:
    pace = Pace()
    assert pace.seconds("step", 5) == 0.0
    for i in range(LATEST + 3):
        pace.add("step", 100.0 if i < 3 else 2.0)
    pace.add("step", 7.0, 0)  # nothing was done
    assert pace.seconds("step", 5) == 10.0


def test_what_was_not_seen_draws_like_what_was() -> None:
    pace = Pace()
    pace.add("rollout", 8.0, 4)
    assert [pace.seconds(kind, 3) for kind in ("probe", "frontier", "evaluate")] == [6.0] * 3
    pace.add("frontier", 4.0, 4)
    assert [pace.seconds(kind, 3) for kind in ("probe", "frontier", "evaluate")] == [3.0] * 3
    assert pace.seconds("save", 1) == 0.0
    assert pace.left_s({"frontier": 1, "evaluate": 2, "save": 5}) == 3.0


def test_a_piece_is_measured_and_one_that_was_left_is_not() -> None:
    clock = FakeTime()
    pace = Pace(clock.time)
    with pace.timed("frontier") as took:
        clock.now += 6
        took(3)
    with pytest.raises(KeyError), pace.timed("frontier"):
        clock.now += 100
        raise KeyError
    assert pace.seconds("frontier", 5) == 10.0


@pytest.mark.parametrize(
    ("budget", "step", "tokens", "last"),
    [("null", 3, 100, 20), ("1000", 0, 0, 20), ("1000", 5, 500, 10), ("1000", 3, 501, 6), ("1000", 2, 10, 20),
     ("1000", 4, 1200, 4)],
)  # fmt: skip
def test_a_budget_of_tokens_ends_a_run_at_its_pace(budget: str, step: int, tokens: int, last: int) -> None:
    run = small_run("train.steps=20", f"train.token_budget={budget}")
    assert last_step(run, step, tokens) == last


def test_what_is_due_is_counted_with_the_last_step() -> None:
    run = small_run(
        "train.steps=20", "probe.every=6", "eval.frontier_every=10", "train.checkpoint_every=7",
        "probe.prompts=2", "probe.samples=3", "rollout.max_response_tokens=8",
    )  # fmt: skip
    asked: dict[str, Any] = {"frontier_responses": 5, "evaluation_tokens": 77}
    left = work_left(run, 10, 0, **asked)
    assert left == {"step": 10, "probe": 3 * 2 * 3 * 8, "frontier": 5 * 8, "save": 2, "evaluate": 77}
    done = work_left(run, 20, 0, **asked)
    assert done == {"step": 0, "probe": 0, "frontier": 0, "save": 0, "evaluate": 77}


def test_time_goes_on_while_a_phase_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeTime()
    monkeypatch.setattr(status_module, "time", clock)
    report = status_module.Status(tmp_path, small_run(), None)
    evaluation = Phase("evaluate test_id", 100, "responses", False, lambda *_: None)
    for passed, said in ((0.0, None), (30.0, 70.0), (80.0, 0.0)):
        if passed == 0:
            report.hear(evaluation, "tell")
            assert "eta_s" not in status_module.status(tmp_path)
            report.write(state="running", phase="train", eta_s=100.0)
        else:
            clock.now += passed
            report.hear(evaluation, "tell")
            assert status_module.status(tmp_path)["eta_s"] == said


class Sized(LetterBenchmark):
    def size(self, split: str) -> int:
        return len(self.problems(split))


@pytest.mark.parametrize(("evaluation_s", "budget"), [(1500.0, "null"), (60.0, "null"), (400.0, "1500")])
def test_after_ten_steps_the_time_left_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluation_s: float, budget: str
) -> None:
    """Steps of 5 to 8 s, frontier points of 100 s, and an evaluation of up to two thirds of the run.

    Elapsed time over the share of the steps would be wrong by more than a factor of two there.
    """
    clock, told = FakeTime(), dict[int, tuple[float, float]]()
    # one frontier point is 4 problems x 4 samples; an evaluation as many times that as it takes longer
    samples = round(4 * evaluation_s / 100)
    run = configured(
        ["method=grpo", f"model.path={tiny_folder()}", *SMALL, f"runs_dir={tmp_path}", "train.steps=30",
         "probe.every=4", "eval.frontier_every=10", f"eval.n={samples}", "eval.splits=[test_id]",
         "train.epochs=1", "train.minibatches=1", f"train.token_budget={budget}",
         "eval.frontier_problems=all"]
    )  # fmt: skip
    from harness.registry import benchmarks

    monkeypatch.setitem(benchmarks._instances, "letters", Sized())
    real_step = Trainer.step

    def slow(seconds: float, work: Any) -> Any:
        def timed(*arguments: Any) -> Any:
            clock.now += seconds
            return work(*arguments)

        return timed

    def timed_step(self: Trainer) -> Any:
        clock.now += 5 + 0.1 * self.counters.step
        return real_step(self)

    monkeypatch.setattr(Trainer, "step", timed_step)
    monkeypatch.setattr(measures, "probe", slow(9.0, measures.probe))
    monkeypatch.setattr(measures, "frontier", slow(100.0, measures.frontier))
    monkeypatch.setattr(measures, "evaluate", slow(evaluation_s, lambda *_: {}))
    monkeypatch.setattr(phases, "run_result", lambda *_, **__: None)
    for module in (remaining, status_module):
        monkeypatch.setattr(module, "time", clock)

    def look(body: dict[str, Any]) -> None:
        if body["phase"] == "train" and "eta_s" in body and body["step"]:
            told.setdefault(body["step"], (clock.now, body["eta_s"]))

    runs.execute(run, on_event=look)
    last = max(told)
    assert last >= 12
    for step in (2, 10, last - 1, last):
        now, eta_s = told[step]
        assert eta_s == pytest.approx(clock.now - now, rel=0.3), step
    if evaluation_s > 1000:
        elapsed = told[10][0] - 1000.0
        assert elapsed * (last - 10) / 10 < (clock.now - told[10][0]) / 2
