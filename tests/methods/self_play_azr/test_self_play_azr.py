"""Rewards of both roles by hand, tasks of both dialects, the buffer, and a proposer that learns the form."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import torch

from harness.grading.programs.runner import Ask, Ran
from harness.problems.problem import Problem
from harness.stages import tasks as tasks_module
from harness.stages.tasks import (
    DIALECTS,
    FUNCTION,
    INPUT,
    OUTPUT,
    TASK_KINDS,
    Task,
    TaskBuffer,
    check_answers,
    check_proposals,
)
from methods.self_play_azr import (
    learnability,
    proposer_reward,
    role_advantages,
    solver_reward,
    update_sparsity,
)
from tests.methods.support.registered import make
from tests.methods.test_goes_on import micro_trainer

CHARACTERS, TEXT = DIALECTS["characters"], DIALECTS["text"]


@pytest.mark.parametrize(
    ("variant", "wanted"),
    [("one_minus", [0, 0.75, 0.5, 0]), ("inverse", [1, 0.75, 0.5, 0]), ("half", [0, 0.5, 1, 0])],
)
def test_learnability_by_hand(variant: str, wanted: list[float]) -> None:
    assert learnability(torch.tensor([0.0, 0.25, 0.5, 1.0]), variant).tolist() == wanted


def test_penalties_by_hand() -> None:
    acc, valid = torch.tensor([0.25, 0.25, 0.25]), torch.tensor([True, False, False])
    assert proposer_reward(acc, valid, torch.tensor([True, True, False])).tolist() == [0.75, -0.5, -1]
    assert solver_reward(torch.tensor([1.0, 0, 1]), torch.tensor([True, True, False])).tolist() == [
        1,
        -0.5,
        -1,
    ]


def test_each_role_is_whitened_by_itself() -> None:
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 0]])
    reward, role = torch.tensor([1.0, 0, 5, 7]), torch.tensor([0, 0, 4, 4])
    made = role_advantages(reward, role, mask)
    assert made[0].tolist() == pytest.approx([0.5, 0.5, 0.5]) and float(made[1, 0]) == pytest.approx(-1.5)
    assert made[2, :2].tolist() == pytest.approx([-0.866025] * 2) == [-v for v in made[3, :2].tolist()]
    assert torch.equal(made[:2], role_advantages(reward[:2], role[:2], mask[:2]))


def test_sparsity_depends_on_the_type() -> None:
    before = torch.ones(4, dtype=torch.float64)
    after = before + torch.tensor([0, 1e-12, 1e-4, 1.0], dtype=torch.float64)
    assert [update_sparsity(before, after, t) for t in (torch.float64, torch.float32, torch.bfloat16)] == [
        0.25, 0.5, 0.75
    ]  # fmt: skip


# --- tasks ------------------------------------------------------------------------------------------------


def proposals(dialect: Any, kind: str, *texts: str, program: str = "D+1") -> list[Any]:
    problem = Problem("p", "", meta={"kind": kind, "program": program})
    verdicts = check_proposals(dialect, [problem] * len(texts), texts)
    return [v.canonical and json.loads(v.canonical) or v.status for v in verdicts]


def answers(dialect: Any, kind: str, task: Task, *texts: str) -> list[str]:
    problem = Problem("p", "", json.dumps(task.plain()), {"kind": kind})
    return [v.status for v in check_answers(dialect, [problem] * len(texts), texts)]


def test_proposals_of_characters() -> None:
    texts = ("D*3-1,5", "12+5,7", "*2,4", "9,18,36", "D/0,3", "12+5", "", "D*99999*99999*999999999,99999")
    assert proposals(CHARACTERS, OUTPUT, *texts) == [
        ["D*3-1", ["5"], ["14"]], ["D+12+5", ["7"], ["24"]], ["D*2", ["4"], ["8"]],
        "wrong", "wrong", "unparsed", "unparsed", "wrong",
    ]  # fmt: skip
    made = proposals(CHARACTERS, FUNCTION, "3,5,3", "3", "3,x")
    assert made == [["D+1", ["3", "5"], ["4", "6"]], "unparsed", "unparsed"]


def test_proposals_in_text() -> None:
    good = " f(s) = reverse(s) + 'x'\nInput: 'ab'\n"
    assert proposals(TEXT, INPUT, good, "f(s) = open(s)\nInput: '/etc/passwd'", "no program") == [
        ["f(s) = reverse(s) + 'x'", ["'ab'"], ["'bax'"]], "wrong", "unparsed"
    ]  # fmt: skip
    made = proposals(TEXT, FUNCTION, "1; 2; [3]\nmore", program="f(x) = [x]")
    assert made == [["f(x) = [x]", ["1", "2", "[3]"], ["[1]", "[2]", "[[3]]"]]]


def test_answers_are_judged_by_what_they_do() -> None:
    task = Task("D*D", ("3",), ("9",))
    assert answers(CHARACTERS, OUTPUT, task, "9", "9,1", "8", "+") == ["right", "right", "wrong", "unparsed"]
    assert answers(CHARACTERS, INPUT, task, "3", "-3", "4", "") == ["right", "right", "wrong", "unparsed"]
    pairs = Task("D*2", ("1", "2", "5"), ("2", "4", "10"))
    assert answers(CHARACTERS, FUNCTION, pairs, "D*2", "D", "1", "D+") == [
        "right",
        "wrong",
        "wrong",
        "unparsed",
    ]
    assert answers(CHARACTERS, FUNCTION, pairs, "D+D")[0] == "right"
    text = Task("f(s) = reverse(s)", ("'ab'",), ("'ba'",))
    assert answers(TEXT, OUTPUT, text, " 'b' + 'a'\n", "'ab'", "ba ba") == ["right", "wrong", "unparsed"]


def test_who_looks_for_a_program_does_not_see_the_pairs_that_test_it() -> None:
    task = Task("D*2", ("1", "2", "5"), ("2", "4", "10"))
    assert CHARACTERS.solve(FUNCTION, task) == "~1>2="
    assert "f(2)" not in TEXT.solve(FUNCTION, task) and "f(1) gives 2" in TEXT.solve(FUNCTION, task)


def test_a_program_that_runs_out_of_time_is_one_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late:
        def run_all(self, asks: list[Ask]) -> list[Ran]:
            return [Ran("timeout") for _ in asks]

    monkeypatch.setattr(tasks_module, "_runner", Late)
    task = Task("D*D", ("3",), ("9",))
    assert answers(CHARACTERS, OUTPUT, task, "9", "", "8") == ["timeout", "unparsed", "timeout"]
    assert proposals(CHARACTERS, OUTPUT, "D*2,4") == ["wrong"]


def test_a_buffer_keeps_the_newest_and_nothing_twice() -> None:
    buffer = TaskBuffer(CHARACTERS, 3)
    made = [Task(f"D+{i}", ("1",), (str(1 + i),)) for i in range(2, 6)]
    assert [buffer.add(INPUT, task) for task in (*made, made[-1])] == [True] * 4 + [False]
    assert buffer.tasks[INPUT] == made[1:] and len(buffer.tasks[OUTPUT]) == 2
    assert buffer.add(INPUT, made[0])  # it was forgotten
    other = TaskBuffer(CHARACTERS, 3)
    other.load_state_dict(json.loads(json.dumps(buffer.state_dict())))
    assert other.state_dict() == buffer.state_dict() and not other.add(INPUT, made[0])


# --- runs -------------------------------------------------------------------------------------------------


def test_a_step_has_six_batches_and_counts_all_it_draws_and_judges() -> None:
    trainer = micro_trainer("self-play-azr", {}, {})
    kept: list[Any] = []
    run = trainer.rollouts.run_program
    trainer.rollouts.run_program = lambda ctx: kept.append(run(ctx)) or kept[-1]  # type: ignore[method-assign,func-returns-value]
    trainer.step()
    batch, counters = kept[0], trainer.counters
    assert batch.tags["role_task"].tolist() == [float(r) for r in range(6) for _ in range(4)]
    assert len(set(batch.group_B.tolist())) == 24
    valid = int(batch.correct_B[:12].sum())
    assert counters.verifier_calls == 24 + 4 * valid
    assert counters.generated_tokens >= int(batch.mask_BT.sum()) + 4 * valid
    assert {p.meta["kind"] for p in batch.problems} == set(TASK_KINDS)


def test_a_proposer_learns_to_write_tasks() -> None:
    settings = {
        "rollout.prompts_per_step": 12, "rollout.group_size": 2, "rollout.max_response_tokens": 12,
        "train.steps": 40, "train.lr": 4e-4,
    }  # fmt: skip
    trainer = micro_trainer("self-play-azr", {}, settings)
    right = [trainer.step()["azr/propose_right"] for _ in range(7)]
    assert sum(right[-2:]) > sum(right[:2]) + 0.4
    sizes = len(trainer.stages.components["tasks"].state_dict()[OUTPUT])
    assert sizes > len(CHARACTERS.seeds[OUTPUT])


def test_a_frozen_proposer_proposes_and_does_not_train() -> None:
    trainer = micro_trainer("self-play-azr", {"train_propose": False}, {})
    metrics = trainer.step()
    assert metrics["trained_rows"] == 12 and metrics["rollouts"] == 24
    stages = make("self-play-azr", {"train_propose": False})
    assert [k for k, v in pairwise(["selection", ""]) if stages.selection != v]
