"""VADE's figures by hand, what is drawn, what counts, and that the state is all there is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.problems.problem import Problem
from harness.util.errors import UserError
from methods.vade import InformativePrompts, counted, information
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.golden import make_batch
from tests.methods.support.programs import CTX

PROBLEMS = [Problem(f"p{i}", "?") for i in range(30)]


def bound(n: int = 30, seed: int = 3, **options: Any) -> InformativePrompts:
    source = InformativePrompts(
        **{"decay_drawn": 0.2, "decay_others": 0.999, "failure_power": 2.0, **options}
    )
    source.bind(PROBLEMS[:n], seed)
    return source


def judged(source: InformativePrompts, ids: list[str], correct: list[float], **tags: Any) -> None:
    mask = torch.ones(len(ids), 1)
    batch = make_batch(mask, correct_B=torch.tensor(correct), problems=tuple(Problem(i, "?") for i in ids))
    source.after_rollout(batch.with_tags(**tags), CTX)


def test_the_worked_example_of_the_figure() -> None:
    right, wrong = torch.tensor([0.1, 9.0]), torch.tensor([8.4, 0.2])
    drawn = torch.tensor([True, False])
    assert counted(right, drawn, torch.tensor([1.0, 5]), 0.2, 0.999).tolist() == pytest.approx([1.02, 8.991])
    assert counted(wrong, drawn, torch.tensor([7.0, 3]), 0.2, 0.999).tolist() == pytest.approx([8.68, 0.1998])
    assert float(information(torch.tensor(0.32))) == pytest.approx(0.147968)
    grid = torch.linspace(0, 1, 3001, dtype=torch.float64)
    assert float(information(grid).max()) == pytest.approx(4 / 27)
    assert float(grid[information(grid).argmax()]) == pytest.approx(1 / 3)


def test_verdicts_count_and_the_prior_is_not_stored() -> None:
    source = bound()
    judged(source, ["p2"] * 4 + ["p7"] * 4, [1, 0, 0, 0, 1, 1, 1, 1])
    mask = torch.tensor([1.0, 1, 1, 1, 0, 1])
    judged(source, ["p7"] * 4 + ["p2", "elsewhere"], [0, 0, 0, 1, 1, 1], judged=mask)
    assert source.right_N[[2, 7, 0]].tolist() == pytest.approx([0.999, 0.2 * 4 + 1, 0])
    assert source.wrong_N[[2, 7, 0]].tolist() == pytest.approx([0.999 * 3, 3, 0])
    assert int((source.right_N + source.wrong_N > 0).sum()) == 2


def test_easy_and_hopeless_problems_are_left_alone() -> None:
    """Ten problems that are always right, ten never, ten a third of the time: the last ones are drawn."""
    source = bound()
    ids = [p.id for p in PROBLEMS for _ in range(9)]
    for _ in range(4):
        source.begin_step(CTX)
        judged(source, ids, [1.0] * 90 + [0.0] * 90 + [1.0, 0, 0] * 30)
    chosen = []
    for _ in range(50):
        source.begin_step(CTX)
        chosen += [int(p.id[1:]) for p in source.draw(5)]
    share = sum(i >= 20 for i in chosen) / len(chosen)
    assert share > 0.8
    exact = bound(sampled=False)
    exact.right_N, exact.wrong_N = source.right_N, source.wrong_N
    assert [int(p.id[1:]) for p in exact.draw(10)] == list(range(20, 30))  # equal ones in their order


def test_draws_hang_on_seed_and_number_alone() -> None:
    first, second, other = bound(), bound(), bound(seed=4)
    drawn = [[p.id for p in first.draw(6)] for _ in range(3)]
    assert drawn == [[p.id for p in second.draw(6)] for _ in range(3)]
    assert drawn[0] != [p.id for p in other.draw(6)]
    assert len({i for ids in drawn for i in ids}) == 18  # a second draw of a step takes other problems
    first.begin_step(CTX)
    assert len(first.draw(30)) == 30


def test_what_cannot_be_drawn_or_counted_is_refused() -> None:
    with pytest.raises(UserError, match=r"draws 31 different problems.* 30 left .*lower rollout"):
        bound().draw(31)
    with pytest.raises(UserError, match="share an id; take a split without copies"):
        InformativePrompts(0.2, 0.999, 2.0).bind([PROBLEMS[0]] * 2, 0)
    with pytest.raises(ValueError, match="training split is empty"):
        InformativePrompts(0.2, 0.999, 2.0).bind([], 0)
    state = bound().state_dict()
    with pytest.raises(UserError, match="counts verdicts of 30 problems, and the training split has 20"):
        bound(20).load_state_dict(state)


def test_a_run_counts_what_it_saw() -> None:
    trainer = tiny_trainer(method="vade")
    metrics = trainer.step()
    source = trainer.stages.prompts
    assert isinstance(source, InformativePrompts)
    assert float((source.right_N + source.wrong_N).sum()) == 16
    assert metrics["vade/seen"] == pytest.approx(4 / 24)
    assert float(source.right_N.sum()) == pytest.approx(16 * metrics["accuracy"])
