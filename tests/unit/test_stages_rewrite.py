"""Prompts written anew: a hint behind the question, other turns, rows that take a group's place."""

from __future__ import annotations

import pytest
import torch

from benchmarks.micro.testbed import Micro
from benchmarks.words.problems import Words
from harness.problems.problem import Problem
from harness.stages.batch import Batch
from harness.stages.requests import Generate, Prompt
from harness.stages.rewrite import (
    answer_of,
    behind_question,
    check_chatml,
    question_of,
    replaced_groups,
    solution_of,
    turns,
    with_prompt,
)
from harness.util.errors import UserError
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.golden import make_batch

WORDED = Problem("w", "Q: why? Example why? A:", "so", {"question": "why?"}, "because so")


def test_questions_and_what_stands_behind_them() -> None:
    assert question_of(WORDED) == "why?" and question_of(Problem("m", "S9/2=")) == "S9/2="
    assert behind_question(WORDED, " Hint") == "Q: why? Example why? Hint A:"
    assert (solution_of(WORDED), answer_of(WORDED)) == ("because so", "so")
    other = with_prompt(WORDED, "new", grader="x")
    assert (other.id, other.prompt, other.meta["grader"], other.solution) == ("w", "new", "x", "because so")
    with pytest.raises(ValueError, match="does not hold its question"):
        behind_question(with_prompt(WORDED, "lost"), "")
    assert turns("be", "ask", "<t>") == (
        "<|im_start|>system\nbe<|im_end|>\n<|im_start|>user\nask<|im_end|>\n<|im_start|>assistant\n<t>"
    )
    check_chatml(lambda text: [1], "x", "y")
    with pytest.raises(UserError, match="x writes prompts with the token .*; y"):
        check_chatml(lambda text: [1, 2], "x", "y")


@pytest.mark.parametrize("problems", [Micro(), Words()], ids=lambda p: p.name)
def test_drawn_sets_know_a_solution(problems: Micro | Words) -> None:
    for problem in problems.problems("validation"):
        assert (
            problems.verify(problem, problem.solution).correct
            and problem.solution not in problem.meta.values()
        )


def test_rows_take_the_place_of_their_group() -> None:
    old = make_batch(torch.ones(6, 2)).with_(group_B=torch.tensor([2, 2, 0, 0, 1, 1]))
    old = old.with_tags(row=torch.arange(6))
    new = make_batch(torch.ones(3, 4)).with_(group_B=torch.tensor([1, 2, 1]))
    new = new.with_tags(row=torch.tensor([10, 11, 12]))
    made = replaced_groups(old, new)
    assert made.group_B.tolist() == [2, 0, 0, 1, 1] and made.tags["row"].tolist() == [11, 2, 3, 10, 12]
    assert made.mask_BT.sum(1).tolist() == [4, 2, 2, 4, 4]
    assert replaced_groups(old, new.rows([])) is old
    assert replaced_groups(new, new.rows([0, 1])).group_B.tolist() == [1, 2]


def test_a_solution_survives_a_checkpoint() -> None:
    batch = make_batch(torch.ones(1, 2)).with_(problems=(WORDED,))
    assert Batch.from_plain(batch.plain()).problems == (WORDED,)
    older = batch.plain()
    older["problems"] = [values[:4] for values in older["problems"]]
    assert Batch.from_plain(older).problems[0].solution == ""


def test_a_rewritten_prompt_leaves_less_room_and_may_leave_none() -> None:
    trainer = tiny_trainer()
    ctx = trainer.context()
    (problem,) = trainer.stages.prompts.draw(1)
    assert ctx.context == 128
    long = with_prompt(problem, problem.prompt + "a " * 116)
    length = len(trainer.policy.encode(long.prompt))
    assert 120 < length < 128
    batch = trainer.rollouts.generate(Generate([Prompt(long, 0, rewritten=True)], 4), ctx)
    assert int(batch.length_B.max()) == 128 - length
    with pytest.raises(UserError, match="fills the model's context of 128"):
        trainer.rollouts.generate(
            Generate([Prompt(with_prompt(problem, "a " * 200), 0, rewritten=True)], 1), ctx
        )
