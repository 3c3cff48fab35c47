"""The evaluations of real models: what is asked for, what is kept of a record, the page."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.evaluation.request import parse
from harness.util.files import read_json
from tests.helpers.tiny import tiny_policy
from tests.testbed import real_models, real_page
from tests.testbed.real_engines import parting
from tests.testbed.real_models import (
    ENGINES,
    LARGE,
    SMALL,
    TASKS,
    Task,
    keep,
    portable,
    records,
    wait_for_room,
)
from tests.testbed.real_page import PAGE, PUBLISHED, exact, page


def record(task: Task) -> dict[str, Any]:
    """As ``entrobench eval`` writes it, every second problem right."""
    n = 8 if task.kind == "sampled" else 1
    sets = {}
    for name in task.sets:
        count = 6
        correct = [n * (i % 2) for i in range(count)]
        body = {
            "n": n, "correct": correct, "problem_ids": [f"{name}-{i}" for i in range(count)],
            "samples": "x.parquet", "samples_sha256": "5a" * 32, "truncated": 0.25, "unparsed": 0.0,
            "mean_length": 300.0, "answers": [f"-{n}"] * count,
        }  # fmt: skip
        sets[name] = {
            "data": {"source": f"/somewhere/{name}.jsonl.gz", "digest": "d"},
            "draws": {"avg": body},
        }
    return {"model": {"label": task.model, "path": "/home/me/model"}, "benchmarks": sets}


def test_the_tasks_are_those_that_were_asked_for() -> None:
    problems: Counter[tuple[str, str, str]] = Counter()
    for task in TASKS:
        for name in task.sets:
            problems[task.model, task.kind, name] += Task(task.model, (name,), task.limit, task.kind).problems
    greedy = {"gsm8k": 100, "math500": 60, "amc23": 40, "aime24": 30, "aime25": 30}
    for model in (SMALL, LARGE):
        assert {name: problems[model, "greedy", name] for name in greedy} == greedy
    assert {name: problems[SMALL, "sampled", name] for name in greedy} == greedy
    assert (problems[LARGE, "sampled", "gsm8k"], problems[LARGE, "sampled", "amc23"]) == (30, 40)
    assert len({task.name for task in TASKS}) == len(TASKS)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_task_is_a_request(task: Task) -> None:
    request = parse(task.words())
    (draws,) = request.profile.draws
    sampled = task.kind == "sampled"
    assert (draws.temperature, draws.small, draws.top_p) == ((0.6, 8, 1.0) if sampled else (0.0, 1, 1.0))
    assert request.ks == ((1, 2, 4) if sampled else ()) and request.engine == "vllm"
    assert request.profile.limit_seed == (1 if task.limit else None)


def test_a_kept_record_names_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_models, "RECORDS", tmp_path / "evaluations.jsonl")
    keep(TASKS[3], record(TASKS[3]))
    keep(TASKS[0], record(TASKS[0]))
    keep(TASKS[3], record(TASKS[3]))
    text = (tmp_path / "evaluations.jsonl").read_text()
    assert "/somewhere" not in text and "/home" not in text and "gsm8k.jsonl.gz" in text
    assert list(records()) == [TASKS[0].name, TASKS[3].name]  # in the order of the tasks
    (entry,) = records()[TASKS[0].name]["benchmarks"].values()
    assert entry["draws"]["avg"]["samples_sha256"] == "5a" * 32


def test_the_page_has_every_figure_with_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    near = real_page.Published(LARGE, "math500", 40.0, "4-shot", "somebody")
    monkeypatch.setattr(real_page, "PUBLISHED", (*PUBLISHED, near))
    found = {task.name: portable(task, record(task)) for task in TASKS}
    text = page(found, {"tokens": 9, "problems": 40, "model": SMALL, "equal": 39,
                        "parted": [{"problem": "g-7", "at": 5, "gap": 2e-6}]})  # fmt: skip
    assert "| SmolLM2-135M-Instruct (Q4_1) | aime25 | 6 of 30 | 50.0 (11.8-88.2) | 25.0 |" in text
    assert "Not finished" not in text and "not run yet" not in text
    assert text.count("| aime25 |") == 3 and text.count("| amc23 |") == 4
    assert "39 of 40 are equal" in text and "| g-7 | 5 | 2.0e-06 |" in text
    for other in (*PUBLISHED, near):
        assert f"| {other.value:g} | {other.protocol} |" in text
    assert "| 50.0 (11.8-88.2) | **no** |" in text and "| 50.0 (11.8-88.2) | yes |" in text
    empty = page({}, None)
    assert empty.count("Not finished yet: ") == 3 and "Not compared yet" in empty


def test_the_page_in_the_documentation_is_that_of_the_records() -> None:
    assert PAGE.read_text() == page(records(), read_json(ENGINES) if ENGINES.exists() else None), (
        "python -m tests.testbed.real_models page"
    )


def test_exact_intervals() -> None:
    low, high = exact(0, 100)
    assert low == 0.0 and high == pytest.approx(1 - 0.025 ** (1 / 100))
    assert exact(50, 100) == pytest.approx((0.3983, 0.6017), abs=1e-4)


def test_where_two_responses_part() -> None:
    policy = tiny_policy()
    prompt = policy.encode("say a word")
    import torch

    logits = policy.model(torch.tensor([[*prompt, 7]])).logits[0, -1].float()
    found = parting(policy, prompt, [7, 8, 9], [7, 11, 9])
    assert found["at"] == 1 and found["gap"] == pytest.approx(float((logits[8] - logits[11]).abs().detach()))
    assert parting(policy, prompt, [7, 8], [7, 8, 9]) == {"at": 2, "gap": float("inf")}


def test_a_task_waits_for_memory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    free = iter([1.0, 2.0, 50.0])
    monkeypatch.setattr(real_models, "free_gib", lambda: next(free))
    slept: list[float] = []
    monkeypatch.setattr(real_models.time, "sleep", slept.append)
    wait_for_room(TASKS[0])
    assert len(slept) == 2 and capsys.readouterr().out.count("waits for") == 1
