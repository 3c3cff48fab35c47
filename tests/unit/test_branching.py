"""Branches go on from where a response is cut, stand in their group, and count; trees have values."""

from __future__ import annotations

import pytest
import torch

from harness.config.schema import RunConfig
from harness.stages.base import RolloutProgram, StepContext
from harness.stages.branching import (
    Branching,
    answered,
    depths,
    forest,
    node_values,
    prompts_at,
    refuse_token_plan,
    scores_of,
)
from harness.stages.defaults import PlainRollout
from harness.stages.requests import Generate, Program, Prompt, Score
from harness.stages.token_stats import ENTROPY, LOGP
from harness.util.errors import UserError
from tests.helpers.rollouts import rollouts
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.golden import make_batch
from tests.methods.support.programs import CTX, drive

MASK = torch.tensor([[1, 1, 1], [1, 1, 0]], dtype=torch.bool)


def two_rows(**fields: object) -> object:
    return make_batch(
        MASK,
        prompt_BP=torch.tensor([[0, 7, 8], [7, 8, 9]]),
        prompt_mask_BP=torch.tensor([[False, True, True], [True, True, True]]),
        response_BT=torch.tensor([[1, 2, 3], [4, 5, 0]]),
        group_B=torch.tensor([3, 5]),
        sample_B=torch.tensor([0, 2]),
        truncated_B=torch.tensor([True, False]),
        **fields,
    )


def test_a_prompt_holds_what_the_response_keeps_and_what_its_own_prompt_held() -> None:
    batch = two_rows(tags={"cut": torch.tensor([0.0, 2.0])})
    first, second = prompts_at(batch, [0, 1], [2, 1])
    assert first.prefix == (1, 2) and first.group == 3 and first.judged_prefix and first.stream == 1
    assert second.prefix == (8, 9, 4) and second.group == 5 and second.stream == 3
    assert prompts_at(batch, [0], [3])[0].prefix == (1, 2, 3), "a response that was cut off goes on"
    assert not prompts_at(batch, [1], [0], judged_prefix=False)[0].judged_prefix


@pytest.mark.parametrize(
    ("row", "cut", "words"), [(0, 4, "from 0 to 3"), (0, -1, "token -1"), (1, 2, "from 0 to 1")]
)
def test_a_cut_outside_the_response_is_refused(row: int, cut: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        prompts_at(two_rows(), [row], [cut])


def test_branches_are_numbered_behind_their_group_and_tagged() -> None:
    asked: list[Generate] = []

    class Both(Branching):
        def run(self, ctx: object) -> object:
            def twice(request: Generate) -> object:
                roots = self.rooted((yield request))
                asked.append(request)
                first = yield from self.branches(roots, [0, 4], [1, 0], 2, max_tokens=9)
                again = yield from self.branches(roots.rows([1, 0]), [0], [2], 1)
                return first if again.sample_B.tolist() == [2] else roots

            return (yield from answered(PlainRollout().run(CTX), twice))

    batch, requests = drive(Both().run(CTX), lambda problem, sample: True)
    assert len(asked) == 1 and [r.max_tokens for r in requests if isinstance(r, Generate)] == [None, 9, None]
    assert batch.group_B.tolist() == [0, 0, 1, 1] and batch.sample_B.tolist() == [3, 4, 3, 4]
    expected = {"parent": [0, 0, 1, 1], "level": [1] * 4, "cut": [1, 1, 0, 0], "extra": [1] * 4}
    assert {name: value.tolist() for name, value in batch.tags.items()} == expected


def test_scores_are_those_taken_while_sampling_or_asked_for() -> None:
    there = two_rows(old={"logp": torch.ones(2, 3)})
    with pytest.raises(StopIteration) as stop:
        next(scores_of(there, (LOGP,)))
    assert torch.equal(stop.value.value["logp"], torch.ones(2, 3))
    request = next(scores_of(there, (LOGP, ENTROPY)))
    assert isinstance(request, Score) and request.stats == (LOGP, ENTROPY)


def test_a_plan_over_the_budget_is_refused() -> None:
    run = RunConfig()
    refuse_token_plan(run, 10**9, "x")
    run.train.token_budget = 100
    refuse_token_plan(run, 100, "x")
    with pytest.raises(UserError, match="x may generate 101 tokens .* train.token_budget=100 .*; raise it"):
        refuse_token_plan(run, 101, "x")


def test_values_are_means_of_children() -> None:
    parent = torch.tensor([-1, 0, 0, 0, 3, 3, 3])
    leaf = torch.tensor([9.0, 1, 0, 9, 1, 1, 0])
    third = 2 / 3
    assert node_values(parent, leaf).tolist() == pytest.approx([5 / 9, 1, 0, third, 1, 1, 0])
    assert depths(parent).tolist() == [0, 1, 1, 1, 2, 2, 2]
    shuffled = torch.tensor([3, 3, -1, 2])  # children may stand before their parent
    assert node_values(shuffled, torch.tensor([1.0, 0, 9, 9])).tolist() == [1.0, 0.0, 0.5, 0.5]
    six = node_values(torch.tensor([-1] + [0] * 6), torch.ones(7))
    assert six.tolist() == [1.0] * 7, "equal children have exactly their value"
    with pytest.raises(ValueError, match="its own ancestor"):
        depths(torch.tensor([1, 0]))


def test_a_forest_has_a_root_for_each_group() -> None:
    batch = make_batch(
        torch.ones(5, 2), group_B=torch.tensor([4, 2, 4, 4, 2]), sample_B=torch.tensor([0, 0, 1, 2, 1]),
        tags={"parent": torch.tensor([-1.0, -1, 0, 1, -1])},
    )  # fmt: skip
    node, parent, roots = forest(batch)
    assert roots == 2 and node.tolist() == [2, 3, 4, 5, 6]
    assert parent.tolist() == [-1, -1, 1, 0, 2, 4, 0]
    assert batch.tag("level").tolist() == [0] * 5


def test_a_long_prefix_shortens_its_own_branches_alone() -> None:
    trainer = tiny_trainer("rollout.temperature=3")
    problem = trainer.benchmark.problems("train")[0]
    context, own = 128, len(trainer.policy.encode(problem.prompt))
    rooms = [3, context, 5, 3]
    prefixes = [(5,) * max(context - own - room, 0) for room in rooms]
    prompts = [Prompt(problem, i, prefix=prefix, stream=i) for i, prefix in enumerate(prefixes)]

    class Asks(RolloutProgram):
        def run(self, ctx: StepContext) -> Program:
            return (yield Generate(prompts, 2))

    trainer.stages = trainer.rollouts._stages = trainer.stages.with_(rollout=Asks())
    batch, asked = rollouts(trainer)
    assert [len(request.prompts) for request, _ in asked] == [2, 1, 1]
    assert batch.group_B.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert bool((batch.length_B <= torch.tensor([3, 3, 8, 8, 5, 5, 3, 3])).all())
    assert int(batch.length_B[2:4].max()) > 5, "the others have all of the limit"
    assert torch.equal(batch.rows([4, 5]).trimmed().response_BT, asked[2][1].response_BT)
