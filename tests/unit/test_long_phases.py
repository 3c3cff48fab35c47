"""What a run says of itself while something takes long: the phase, how much of it is done, what is left."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cli import speaker
from harness.cli.evaluation_display import EvaluationDisplay
from harness.cli.speaker import Speaker
from harness.cli.states import state_table
from harness.evaluation.splits import evaluate_problems
from harness.rollout import sampler
from harness.run import execute as runs
from harness.run import status as status_module
from harness.run.state import state_of
from harness.run.status import Status
from harness.sweep.live import RunningRun, Snapshot, doing, sentence, table
from harness.util import progress
from harness.util.files import read_json
from tests.helpers.execution import configured, numbers_of
from tests.helpers.tiny import SMALL, LetterBenchmark, small_run, tiny_folder, tiny_policy


def _settings(runs_dir: Path, *more: str) -> list[str]:
    return ["method=grpo", f"model.path={tiny_folder()}", *SMALL, f"runs_dir={runs_dir}", *more]


def test_a_slow_sampler_is_seen_in_the_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = configured(_settings(tmp_path, "train.steps=1", "eval.splits=[test_id]"))
    folder, seen = runs.run_folder(run), list[dict[str, Any]]()
    drawing = sampler.draw

    def slow(*arguments: Any) -> Any:
        time.sleep(0.02)
        return drawing(*arguments)

    def look(body: dict[str, Any]) -> None:
        assert read_json(folder / "status.json") == body
        seen.append(body)

    monkeypatch.setattr(sampler, "draw", slow)
    monkeypatch.setattr(status_module, "TELL_S", 0.05)
    runs.execute(run, on_event=look)
    told = [body["phase"] for body in seen]
    names = list(dict.fromkeys(text.rpartition(" ")[0] if "/" in text else text for text in told))
    for name in ("load model", "probe", "frontier", "rollout", "evaluate test_id", "save checkpoint", "done"):
        assert name in names, names
    assert names.index("load model") < names.index("probe") < names.index("frontier") < names.index("rollout")
    counted = [body for body in seen if body["phase"].startswith("frontier ")]
    assert all(0 <= body["phase_done"] <= body["phase_total"] == 16 for body in counted)
    assert counted[0]["phase_unit"] == "responses"
    assert any(body.get("phase_eta_s") for body in counted)
    assert {body["phase"] for body in seen if "phase_total" not in body} >= {"load model", "train", "done"}
    assert "phase_done" not in read_json(folder / "status.json")


def test_a_fast_run_writes_no_more_than_at_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers and the files of a run do not hang on how often it speaks."""
    quiet, talking = tmp_path / "quiet", tmp_path / "talking"
    seen: list[str] = []
    run = configured(_settings(quiet))
    monkeypatch.setattr(status_module, "TELL_S", 1e9)
    runs.execute(run, on_event=lambda body: seen.append(body["phase"]))
    assert seen.count("save checkpoint") == 1, "once seen to be short, it is passed over"
    assert not [phase for phase in seen if "/" in phase]
    monkeypatch.setattr(status_module, "TELL_S", 0.0)
    other = configured(_settings(talking))
    runs.execute(other, on_event=lambda body: seen.append(body["phase"]))
    assert any(phase.startswith("update ") for phase in seen)
    assert numbers_of(runs.run_folder(other)) == numbers_of(runs.run_folder(run))


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "TELL_S", 0.0)
    own = Status(tmp_path, small_run(), None, writes=False)
    with progress.listening(own.hear), progress.phase("frontier", 4, "responses", announce=True):
        progress.settle(1)
    assert list(tmp_path.iterdir()) == []


def _heard() -> tuple[list[tuple[str, str, int]], Any]:
    heard: list[tuple[str, str, int]] = []
    return heard, lambda phase, event: heard.append((phase.name, event, phase.done))


def test_parts_shares_and_windows_add_up() -> None:
    heard, listen = _heard()
    with progress.listening(listen), progress.phase("frontier", 100, "responses"):
        progress.part(40)
        with progress.within(0.0, 0.5):
            progress.tell(10, 20)
        with progress.within(0.5, 1.0):
            progress.tell(10, 20)
        progress.settle(40)
        progress.reach(39)
        with progress.phase("", 5, "rows"):
            progress.settle(5)
        progress.reach(100)
    assert [done for _, event, done in heard if event == "tell"] == [10, 30, 40, 40, 5, 100]
    assert {name for name, *_ in heard} == {"frontier"}
    assert [event for _, event, _ in heard if event != "tell"] == ["begin", "end"]
    progress.tell(1, 2)  # nobody listens


def test_time_left_is_that_of_what_was_not_there_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now, left = [0.0], list[float | None]()
    monkeypatch.setattr("harness.util.progress.time.monotonic", lambda: now[0])
    listen = progress.listening(lambda phase, event: left.append(phase.left_s))
    with listen, progress.phase("frontier", 100, "responses"):
        progress.settle(60, found=True)
        now[0] = 10.0
        progress.part(40)
        progress.tell(0, 40, share=0.25)
    assert left[:2] == [None, None]
    assert left[2] == pytest.approx(30.0), "a quarter of the forty that were missing took ten seconds"


def test_blocks_that_are_there_are_counted_as_found(tmp_path: Path) -> None:
    benchmark, policy = LetterBenchmark(), tiny_policy()
    problems = benchmark.problems("validation")
    heard, listen = _heard()

    def measure(stop: Any = None) -> None:
        with progress.listening(listen), progress.phase("frontier", 16, "responses"):
            evaluate_problems(
                policy, benchmark, problems, tmp_path / "x.parquet", n=4, temperature=1.0, max_tokens=6,
                seed=1, batch_rows=8, on_progress=stop,
            )  # fmt: skip

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(stop)
    heard.clear()
    measure()
    assert [done for _, event, done in heard if event == "tell"][0] == 8
    assert max(done for *_, done in heard) == 16


@torch.no_grad()
def test_prompts_of_several_lengths_are_one_part() -> None:
    policy = tiny_policy()
    policy.network.ways = replace(policy.network.ways, pad=False)
    prompts = [policy.encode(text) for text in ("a", "the quick brown fox", "say a word")]
    assert len({len(prompt) for prompt in prompts}) == 3
    heard, listen = _heard()
    with progress.listening(listen), progress.phase("probe", 6, "responses"):
        progress.part(6)
        sampler.sample(policy, prompts, 2, keys=[(i,) for i in range(6)], max_tokens=5)
    counts = [done for _, event, done in heard if event == "tell"]
    assert counts == sorted(counts) and counts[-1] == 6


FRONTIER = {
    "state": "running", "phase": "frontier 512/3904", "phase_done": 512, "phase_total": 3904,
    "phase_unit": "responses", "phase_note": "judging", "phase_eta_s": 200.0, "step": 0, "steps": 300,
}  # fmt: skip


def test_displays_say_what_takes_long() -> None:
    from rich.console import Console

    state = state_of(FRONTIER, "running")
    said = "frontier 512/3904 responses (judging), 3 min 20 s left"
    assert doing(state) == said and sentence(state) == f"0/300, {said}"
    test = state_of(FRONTIER | {"phase": "evaluate test_id 3/9", "phase_note": ""}, "running")
    assert sentence(test).startswith("evaluate test_id 3/9 responses, 3 min")
    for phase in ("train", "start", "evaluate"):
        assert doing(state_of({"phase": phase, "steps": 3}, "running")) == ""
    assert doing(state_of(FRONTIER, "failed")) == ""
    console = Console(width=200, record=True, file=open("/dev/null", "w"))
    console.print(table("demo", Snapshot((RunningRun("grpo", 1, state),), 1, 0, 0, 0, None)))
    assert said in console.export_text()


def test_sweep_status_has_a_column_for_it(sweep_file: Any, backend: Any) -> None:
    from rich.console import Console

    from harness.sweep.plan import make_plan
    from harness.sweep.spec import load_sweep

    sweep = load_sweep(sweep_file())
    jobs = make_plan(sweep, backend)
    plain = [state_of({"phase": "train", "step": 1, "steps": 3}, "running") for _ in jobs]

    def shown(states: Any) -> str:
        console = Console(width=200, record=True, file=open("/dev/null", "w"))
        console.print(state_table(sweep, jobs, states, 200))
        return console.export_text()

    assert "doing" not in shown(plain)
    text = shown([state_of(FRONTIER, "running"), *plain[1:]])
    assert "doing" in text and "frontier 512/3904 responses" in text


def test_commands_without_a_display_say_what_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.listening(Speaker()), progress.phase("short", announce=True):
        pass
    monkeypatch.setattr(speaker, "QUIET_S", 0.01)
    with progress.listening(Speaker()), progress.phase("load model", announce=True):
        time.sleep(0.3)
    assert capsys.readouterr().err.splitlines() == ["entrobench: load model"]
    now = [0.0]
    monkeypatch.setattr(speaker, "QUIET_S", 1e6)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with progress.listening(Speaker()):
        with progress.phase("convert x.gguf", 200, "MiB", announce=True):
            for now[0], reached in ((10.0, 20), (40.0, 50), (50.0, 100)):
                progress.reach(reached)
        with progress.phase("short", 3, "things"):
            progress.settle(3)
    assert capsys.readouterr().err.splitlines() == [
        "entrobench: convert x.gguf 50/200 MiB, 2 min 00 s left",
    ]


def test_an_evaluation_speaks_before_its_first_sample(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with EvaluationDisplay("gsm8k avg@8"):
        progress.part(64)
        for now[0], ended in ((10.0, 1), (40.0, 3), (50.0, 4)):
            progress.tell(ended, 64)
    assert capsys.readouterr().out.splitlines() == [
        "gsm8k avg@8: no sample finished; 3 of 64 at work have ended"
    ]
