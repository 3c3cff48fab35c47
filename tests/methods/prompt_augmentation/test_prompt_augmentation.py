"""Prompt augmentation by hand, its prompts, and that passes condition on the template that was drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.micro.testbed import BASE_DIR, Micro
from harness.model.policy import load_policy
from harness.problems.problem import Problem, Verdict
from harness.run.compose import compose
from harness.stages.requests import Generate
from harness.stages.token_stats import LOGP
from harness.train.trainer import Trainer
from harness.util.errors import UserError
from methods.prompt_augmentation import (
    FORMS,
    MARKS,
    NAMES,
    PAPERS,
    AugmentedRollout,
    FormReward,
    format_reward,
)
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.golden import make_batch
from tests.methods.support.programs import CTX, drive

QUESTION = Problem("q", "Q: two and one?", "3", {"question": "two and one?", "grader": "math-dapo"})


def test_marks_by_hand() -> None:
    half = "<think>\nA\n</think>\n\\boxed{3}"
    assert format_reward(half, PAPERS["open-r1"].marks) == 0.5
    assert format_reward("A</think><answer>3</answer>", PAPERS["deepseek-r1-teacher"].marks) == 1.0
    assert format_reward("anything", PAPERS["formal"].marks) == 1.0
    batch = make_batch(torch.ones(2, 3)).with_(
        texts=(half, half),
        verdicts=(Verdict("right", "3"), Verdict("wrong", "4")),
        tags={"template": torch.full((2,), float(NAMES.index("open-r1")))},
    )
    out = FormReward()(batch, CTX)
    assert out.value.tolist() == [1.5, 0.5] and out.metrics["prompt_augmentation/format"] == 0.5


def test_thirteen_templates_and_what_opens_the_answer() -> None:
    assert len(PAPERS) == 13
    for name, form in PAPERS.items():
        prompt = form.prompt(QUESTION)
        assert prompt.count("two and one?") == 1 and prompt.startswith("<|im_start|>system\n")
        assert prompt.endswith("<|im_start|>assistant\n" + form.opened)
        if name.endswith("-teacher"):
            plain = PAPERS[name.removesuffix("-teacher")]
            assert (form.opened, *form.marks) == plain.marks and form.system == plain.system
    judged = AugmentedRollout().in_form(QUESTION, PAPERS["abel"])
    assert judged.meta["grader"] == "math-verify" and (judged.id, judged.answer) == ("q", "3")
    assert FORMS["doubled"].prompt(Problem("m", "S67/4=")) == "S67/4=="


def micro_trainer() -> Trainer:
    run = compose({
        "method": "prompt-augmentation", "model.path": "micro", "data.benchmark": "micro", "device": "cpu",
        "rollout.prompts_per_step": 8, "rollout.group_size": 4, "train.minibatches": 2,
    })  # fmt: skip
    return Trainer(run, load_policy(BASE_DIR), Micro(), run.method.stages())


def program(family: str, step: int = 1) -> tuple[list[str], list[float], list[str]]:
    """Prompts, their template numbers and the rows' problems of one step of formal problems."""
    ctx = replace(CTX, step=step, encode=lambda text: [0])
    batch, requests = drive(AugmentedRollout(family).run(ctx), lambda p, s: s == 0)
    (request,) = (r for r in requests if isinstance(r, Generate))
    assert all(p.rewritten for p in request.prompts)
    return (
        [p.problem.prompt for p in request.prompts],
        batch.tags["template"].tolist(),
        [p.prompt for p in batch.problems],
    )


def test_a_template_for_each_prompt_and_step() -> None:
    seen = set()
    for step in range(1, 7):
        prompts, numbers, rows = program("auto", step)
        assert rows == [prompt for prompt in prompts for _ in range(CTX.group_size)]
        forms = [FORMS[NAMES[int(n)]] for n in numbers[:: CTX.group_size]]
        assert prompts == [form.prompt(Problem("", "?")) for form in forms]
        assert numbers == [n for n in numbers[:: CTX.group_size] for _ in range(CTX.group_size)]
        assert program("auto", step) == (prompts, numbers, rows)
        seen.add(tuple(numbers))
    assert len(seen) > 3  # the same problem returns in other templates
    assert all("<|im_start|>" in prompt for prompt in program("papers")[0])


def test_a_tokenizer_without_chatml_is_refused() -> None:
    ctx = replace(CTX, encode=lambda text: list(range(len(text))))
    with pytest.raises(UserError, match=r"<\|im_start\|>.*method.templates=marks"):
        drive(AugmentedRollout("papers").run(ctx), lambda p, s: True)


def test_passes_condition_on_the_template() -> None:
    """Sampled with the prompt that was drawn, and so is every later pass."""
    trainer = micro_trainer()
    batch = trainer.rollouts.run_program(trainer.context())
    own = {p.id: p.prompt for p in trainer.benchmark.problems("train")}
    names = [NAMES[int(number)] for number in batch.tags["template"]]
    assert len(set(names)) > 1 and set(names) <= set(MARKS)
    held = [row[mask].tolist() for row, mask in zip(batch.prompt_BP, batch.prompt_mask_BP, strict=True)]
    for name, problem, ids in zip(names, batch.problems, held, strict=True):
        expected = MARKS[name].user.replace("{question}", own[problem.id])
        assert problem.prompt == expected and ids == trainer.policy.encode(expected)
    again = trainer.policy.scores(batch, (LOGP,), 100)["logp"]
    torch.testing.assert_close(again, batch.rollout_logp_BT, rtol=1e-4, atol=1e-5)


def test_a_format_reward_of_the_whole_group_cancels() -> None:
    """A free template moves every reward by one, and no advantage."""
    trainer = tiny_trainer(method="prompt-augmentation")
    batch = trainer.rollouts.run_program(trainer.context())
    for number, group in enumerate(batch.group_B.unique()):
        rows = batch.rows(batch.group_B == group).with_tags(
            template=torch.full((4,), float(NAMES.index("bare")))
        )
        reward = FormReward()(rows, CTX).value
        assert torch.equal(reward - rows.correct_B, torch.ones(4)), number
