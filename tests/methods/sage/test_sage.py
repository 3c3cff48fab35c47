"""SAGE's rules by hand, hints read from text, and groups of the micro testbed that are sampled again."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from benchmarks.micro.testbed import BASE_DIR, Micro
from harness.model.policy import load_policy
from harness.problems.problem import Problem, Verdict
from harness.run.compose import compose
from harness.stages.batch import Batch
from harness.stages.requests import Draw, Generate, Verify
from harness.stages.token_stats import LOGP
from harness.train.trainer import Trainer
from harness.util.errors import UserError
from methods.sage import HintMemory, RememberedHints, RisingHints, next_level, opening, read_hints
from tests.methods.support.programs import CTX, drive

HINTS = {"level_1": "think", "level_2": "divide by 'two'", "level_3": "30, then 12"}


def test_the_light_rule_by_hand() -> None:
    rule = [(1, 0.1), (2, 0.36), (3, 0.0), (0, 1.0), (1, 0.2), (2, None)]
    assert [next_level(level, accuracy, 0.1, 0.35) for level, accuracy in rule] == [2, 1, 3, 0, 1, 0]
    paper = [next_level(level, accuracy, 0.1, 0.35, rule="paper") for level, accuracy in rule]
    assert paper == [2, 2, 3, 0, 2, 0]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(HINTS),
        f"Sure!\n```json\n{json.dumps(HINTS, indent=2)}\n```",
        """{level_1: 'think', level_2: "divide by 'two'", level_3: '30, then 12',}""",
    ],
)
def test_hints_are_read(text: str) -> None:
    assert read_hints(text) == tuple(HINTS.values())


def test_hints_that_lack_a_level_are_none() -> None:
    assert read_hints('{"level_1": "a", "level_2": "b"}') is None
    assert read_hints('{"level_1": "a", "level_2": "b", "level_3": " "}') is None
    assert read_hints("level_1 level_2 level_3") is None


def test_a_solution_is_opened_and_never_told() -> None:
    assert [opening(range(8), level) for level in (1, 2, 3)] == [(0, 1), (0, 1, 2, 3), (0, 1, 2, 3, 4, 5)]
    assert opening([7], 3) == () and opening([7, 8], 3) == (7,) and opening([], 1) == ()


class Engine:
    """A fake engine and judge: who is right is told by (problem id, level of the prompt)."""

    def __init__(self, right: Any, hints: str) -> None:
        self.right, self.hints, self.requests = right, hints, []

    def drive(self, program: Any) -> Batch:
        answer: Any = None
        while True:
            try:
                request = program.send(answer)
            except StopIteration as stop:
                return stop.value
            self.requests.append(request)
            if isinstance(request, Draw):
                answer = [problem(str(i)) for i in range(request.n)]
            elif isinstance(request, Generate):
                answer = self.rollouts(request)
            else:
                assert isinstance(request, Verify)
                answer = drive_verdicts(request.batch, self.right)

    def rollouts(self, request: Generate) -> Batch:
        made, _ = drive(asked(request), lambda p, s: False)
        return made.with_(verdicts=None, texts=(self.hints,) * len(made) if request.n == 1 else made.texts)


def asked(request: Generate) -> Any:
    return (yield request)


def drive_verdicts(batch: Batch, right: Any) -> Batch:
    told = [p.prompt.count("Hint: ") and list(HINTS.values()).index(p.prompt.split("Hint: ")[1][:-3]) + 1
            for p in batch.problems]  # fmt: skip
    rows = zip(batch.problems, batch.sample_B.tolist(), told, strict=True)
    good = [right(p.id, level) and sample == 0 for p, sample, level in rows]
    return batch.with_(verdicts=tuple(Verdict("right" if g else "wrong") for g in good))


def problem(key: str, question: str = "how many?") -> Problem:
    return Problem(key, f"Q: {question} A:", "42", {"question": question}, "12 + 30 = 42")


CHAT = replace(CTX, chat=lambda turns: "|".join(turn["content"] for turn in turns))
#: The level at which each problem is first got right; 9: never.
FIRST = {"0": 0, "1": 1, "2": 3, "3": 9}


def test_failed_groups_rise_level_by_level() -> None:
    engine = Engine(lambda p, level: level >= FIRST[p], json.dumps(HINTS))
    batch = engine.drive(RisingHints("auto", 64).run(CHAT))
    drawn = [r for r in engine.requests if isinstance(r, Generate)]
    assert [[p.problem.id for p in r.prompts] for r in drawn] == [
        ["0", "1", "2", "3"], ["1", "2", "3"], ["1", "2", "3"], ["2", "3"], ["2", "3"]
    ]  # fmt: skip
    hints = drawn[1]
    assert (hints.n, hints.max_tokens) == (1, 64)
    assert all("12 + 30 = 42" in p.problem.prompt and p.rewritten for p in hints.prompts)
    assert drawn[2].prompts[0].problem.prompt == "Q: how many?\nHint: think A:"
    assert batch.group_B.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert batch.tags["level"].tolist() == [0.0] * 3 + [1.0] * 3 + [3.0] * 6
    assert batch.tags["extra"].tolist() == [0.0] * 3 + [1.0] * 9
    assert batch.correct_B.tolist() == [1.0, 0, 0, 1.0, 0, 0, 1.0, 0, 0, 0, 0, 0]


def test_hints_that_cannot_be_read_are_asked_for_three_times() -> None:
    engine = Engine(lambda p, level: level >= FIRST[p], "no hints")
    batch = engine.drive(RisingHints("auto", 64).run(CHAT))
    assert [r.n for r in engine.requests if isinstance(r, Generate)] == [3, 1, 1, 1]
    assert batch.tags["level"].tolist() == [0.0] * 12


def test_light_remembers_levels_and_hints() -> None:
    memory = HintMemory(0.1, 0.35, "released")
    program = RememberedHints("auto", 64, memory)
    levels = []
    for hints in (json.dumps(HINTS), json.dumps(HINTS), "lost", "lost"):
        engine = Engine(lambda p, level: level >= FIRST[p], hints)
        batch = engine.drive(program.run(CHAT))
        memory.before_update(batch, CHAT)
        levels.append(batch.tags["level"][:: CTX.group_size].tolist())
    # an accuracy of 1/3 keeps a level, 0 raises it
    assert levels == [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 2], [0, 1, 3, 3]]
    assert memory.visits["2"] == [3, pytest.approx(1 / 3)] and memory.hints["2"] == list(HINTS.values())
    again = HintMemory(0.1, 0.35, "released")
    again.load_state_dict(json.loads(json.dumps(memory.state_dict())))
    assert again.state_dict() == memory.state_dict() and again.level(problem("3")) == 3


def test_light_without_any_hint_uses_and_stores_level_0() -> None:
    memory = HintMemory(0.1, 0.35, "released")
    memory.visits = {"3": [2, 0.0]}
    engine = Engine(lambda p, level: False, "none")
    batch = engine.drive(RememberedHints("auto", 64, memory).run(CHAT))
    memory.before_update(batch, CHAT)
    assert batch.tags["level"].unique().tolist() == [0.0] and memory.visits["3"] == [0, 0.0]


def test_what_has_no_solution_is_refused() -> None:
    with pytest.raises(UserError, match=r"reference solution or answer.*data\.benchmark"):
        drive(RisingHints("auto", 8).run(CTX), lambda p, s: True)

    def no_chat(turns: Any) -> str:
        raise UserError("the chat template of base refuses it: none")

    engine = Engine(lambda p, level: False, "")
    with pytest.raises(UserError, match=r"refuses it: none; set method\.hints=solution"):
        engine.drive(RisingHints("auto", 8).run(replace(CTX, chat=no_chat)))


@cache
def micro_step() -> tuple[Trainer, Batch]:
    run = compose({
        "method": "sage@full", "model.path": "micro", "data.benchmark": "micro", "device": "cpu", "seed": 2,
        "rollout.prompts_per_step": 12, "rollout.group_size": 2, "train.minibatches": 2,
    })  # fmt: skip
    trainer = Trainer(run, load_policy(BASE_DIR), Micro(), run.method.stages())
    return trainer, trainer.rollouts.run_program(trainer.context())


def test_micro_groups_are_opened_with_their_solution() -> None:
    trainer, batch = micro_step()
    level = batch.tags["level"]
    assert len(batch) == 24 and {0.0, 1.0} < set(level.tolist())
    for row in (level > 0).nonzero().flatten().tolist():
        told = batch.problems[row]
        start = opening(trainer.policy.encode_inside(told.solution), int(level[row]))
        held = batch.prompt_BP[row][batch.prompt_mask_BP[row]].tolist()
        assert held == [*trainer.policy.encode(told.prompt), *start]
        assert batch.texts[row].startswith(trainer.policy.decode([list(start)])[0])
        assert trainer.benchmark.verify(told, batch.texts[row]) == (batch.verdicts or ())[row]


def test_micro_counts_what_it_throws_away_and_scores_with_the_hint() -> None:
    trainer, batch = micro_step()
    counters = trainer.counters
    assert counters.generated_tokens > int(batch.mask_BT.sum()) and counters.verifier_calls > len(batch)
    passed = trainer.policy.scores(batch, (LOGP,), 100)["logp"]
    torch.testing.assert_close(passed, batch.rollout_logp_BT, rtol=1e-4, atol=1e-5)
