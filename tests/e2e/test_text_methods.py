"""Methods that work on text, as their papers have them, on a small language model: five short steps each.

A row of ``CASES`` is an entry, its settings, and what shows that it really acted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from torch import Tensor

from harness.model.policy import Policy
from harness.problems.problem import Benchmark
from harness.run.compose import compose
from harness.run.set_up import open_run, stages_of
from harness.stages.batch import Batch
from harness.stages.token_stats import LOGP
from harness.train.trainer import Trainer
from methods.prompt_augmentation import NAMES, PAPERS
from methods.r3 import WORDS
from tests.helpers.real import fetched

pytestmark = [pytest.mark.slow, pytest.mark.fetches, pytest.mark.timeout(900)]
MODEL, STEPS = "smollm2-135m", 5
SETTINGS = {
    "model.path": MODEL, "data.benchmark": "words", "device": "cpu", "seed": 3, "train.steps": STEPS,
    "train.minibatches": 1, "train.epochs": 1, "train.lr": 1e-5, "train.warmup_steps": 0,
    "rollout.prompts_per_step": 2, "rollout.group_size": 4, "rollout.max_response_tokens": 16,
}  # fmt: skip
#: Of a trainer after its steps, their metrics, and their rollouts.
Proof = Callable[[Trainer, Sequence[Mapping[str, float]], Sequence[Batch]], bool]


def failures_were_shown(
    trainer: Trainer, metrics: Sequence[Mapping[str, float]], batches: Sequence[Batch]
) -> bool:
    """From the second pass on questions come with a wrong answer and the request to reflect on it, too."""
    front, _, behind = WORDS.partition("{quote}")
    shown = 0
    for step, batch in enumerate(batches):
        read = trainer.policy.encode
        for row, problem in enumerate(batch.problems):
            asked = front in problem.prompt and behind in problem.prompt
            assert asked == bool(batch.tags["reflection"][row] > 0) and (step > 0 or not asked)
            held = batch.prompt_BP[row][batch.prompt_mask_BP[row]].tolist()
            assert held == read(problem.prompt)
            shown += asked
    return shown > 0 and trainer.counters.generated_tokens == sum(int(b.mask_BT.sum()) for b in batches)


def successes_were_replayed(
    trainer: Trainer, metrics: Sequence[Mapping[str, float]], batches: Sequence[Batch]
) -> bool:
    """A replay is an optimiser step more, of stored rows that were right."""
    rows = [int(row["spear/rows"]) for row in metrics]
    plain = min(row["updates"] for row in metrics)
    assert all((row["updates"] > plain) == (n > 0) for row, n in zip(metrics, rows, strict=True))
    return sum(rows) > 0


def verdicts_choose(
    trainer: Trainer, metrics: Sequence[Mapping[str, float]], batches: Sequence[Batch]
) -> bool:
    source: Any = trainer.stages.prompts
    seen = {problem.id for batch in batches for problem in batch.problems}
    counts = source.right_N + source.wrong_N
    return 2 < len(seen) == int((counts > 0).sum()) and float(source.right_N.sum()) >= 0


def branched_within(
    trainer: Trainer, metrics: Sequence[Mapping[str, float]], batches: Sequence[Batch]
) -> bool:
    """Some branch goes on behind a part of a response, and its text begins with what that was."""
    read = trainer.policy.decode
    shown = 0
    for batch in batches:
        for row in (batch.tag("cut") > 0).nonzero().flatten().tolist():
            prompt = batch.prompt_BP[row][batch.prompt_mask_BP[row]].tolist()
            kept = prompt[len(prompt) - int(batch.tags["cut"][row]) :]
            assert (
                batch.texts[row] == read([[*kept, *batch.response_BT[row][batch.mask_BT[row]].tolist()]])[0]
            )
            shown += 1
    return shown > STEPS and trainer.counters.generated_tokens >= sum(int(b.mask_BT.sum()) for b in batches)


def segments_were_valued(
    trainer: Trainer, metrics: Sequence[Mapping[str, float]], batches: Sequence[Batch]
) -> bool:
    begun = sum(int(batch.token_tags["segment_begins"].sum()) for batch in batches)
    own = sum(len(batch) for batch in batches)
    return begun > own and trainer.counters.verifier_calls == own + 3 * begun


def edges_waited(trainer: Trainer, metrics: Sequence[Mapping[str, float]], batches: Sequence[Batch]) -> bool:
    assert branched_within(trainer, metrics, batches)
    return all(bool((batch.tags["level"] == 2).any()) for batch in batches)


def stands_in_templates(
    trainer: Trainer, metrics: Sequence[Mapping[str, float]], batches: Sequence[Batch]
) -> bool:
    """Prompts are the question in the template of their tag, in the tokens that were sampled from."""
    drawn = set()
    for batch in batches:
        for row, problem in enumerate(batch.problems):
            name = NAMES[int(batch.tags["template"][row])]
            assert problem.prompt == PAPERS[name].prompt(problem)
            held = batch.prompt_BP[row][batch.prompt_mask_BP[row]].tolist()
            assert held == trainer.policy.encode(problem.prompt)
            drawn.add(name)
    return len(drawn) > 3 and any(0 < row["prompt_augmentation/format"] < 1 for row in metrics)


def hints_were_given(
    trainer: Trainer, metrics: Sequence[Mapping[str, float]], batches: Sequence[Batch]
) -> bool:
    """Groups that failed stand behind hints that the policy wrote; what was thrown away is counted."""
    shown = 0
    for batch in batches:
        for row, problem in enumerate(batch.problems):
            hinted = f"{problem.meta['question']}\nHint: " in problem.prompt
            assert hinted == bool(batch.tags["level"][row] > 0)
            shown += hinted
    trained = sum(int(batch.mask_BT.sum()) for batch in batches)
    return shown > 0 and trainer.counters.generated_tokens > 2 * trained


def limits_swung(trainer: Trainer, metrics: Sequence[Mapping[str, float]], batches: Sequence[Batch]) -> bool:
    limits = [int(row["siri/limit"]) for row in metrics]
    assert all(int(batch.length_B.max()) <= limit for batch, limit in zip(batches, limits, strict=True))
    return limits == [16, 13, 8, 8, 13] and any(bool(batch.truncated_B.any()) for batch in batches)


def answers_were_forced(
    trainer: Trainer, metrics: Sequence[Mapping[str, float]], batches: Sequence[Batch]
) -> bool:
    moved = sum(int((batch.token_tags["gain"] != 0).sum()) for batch in batches)
    spent = trainer.counters.extra_forward_tokens
    return moved > sum(map(len, batches)) and spent > trainer.counters.generated_tokens


def groups_were_refilled(
    trainer: Trainer, metrics: Sequence[Mapping[str, float]], batches: Sequence[Batch]
) -> bool:
    kept = [row["data_filters/kept_groups"] for row in metrics]
    drawn = trainer.counters.verifier_calls
    return max(kept) > 0 and drawn > sum(map(len, batches)) >= 8 * STEPS * (min(kept) > 1)


def right_answers_were_learnt(
    trainer: Trainer, metrics: Sequence[Mapping[str, float]], batches: Sequence[Batch]
) -> bool:
    """Every row is a right answer in English, ended as the turns of its prompt are; nothing was generated."""
    (end,) = trainer.policy.tokenizer("<|im_end|>", add_special_tokens=False)["input_ids"]
    for batch in batches:
        assert len(batch) == 2
        for row, problem in enumerate(batch.problems):
            ids = batch.response_BT[row][batch.mask_BT[row]].tolist()
            assert (
                ids[-1] == end and trainer.benchmark.verify(problem, trainer.policy.decode([ids])[0]).correct
            )
    first = batches[0]
    after = -trainer.policy.scores(first, (LOGP,), 4)["logp"][first.mask_BT].mean()
    return float(after) < 0.9 * metrics[0]["demonstration_nll"] and trainer.counters.generated_tokens == 0


def a_teacher_followed(
    trainer: Trainer, metrics: Sequence[Mapping[str, float]], batches: Sequence[Batch]
) -> bool:
    assert right_answers_were_learnt(trainer, metrics, batches)
    shown = sum(int(batch.mask_BT.sum()) for batch in batches)
    return trainer.moved_reference is not None and trainer.counters.extra_forward_tokens == shown


def an_expert_drew(
    trainer: Trainer, metrics: Sequence[Mapping[str, float]], batches: Sequence[Batch]
) -> bool:
    mixed = sum(int(batch.tags["is_expert"].sum()) for batch in batches)
    share = [row["mentor/expert_share"] for row in metrics]
    return (
        mixed == STEPS * 2 * 2 and share[0] < 0.05 < share[-1] and trainer.counters.extra_forward_tokens > 0
    )


def tasks_were_solved(
    trainer: Trainer, metrics: Sequence[Mapping[str, float]], batches: Sequence[Batch]
) -> bool:
    """Three tasks a step are proposed and three are set; so small a model solves none, but it is judged."""
    rows = [
        (p, float(role)) for b in batches for p, role in zip(b.problems, b.tags["role_task"], strict=True)
    ]
    proposing = [p.prompt for p, role in rows if role < 3]
    solving = [p.prompt for p, role in rows if role >= 3]
    assert len(proposing) == len(solving) == STEPS * 3
    assert all("Program:" in prompt for prompt in proposing)
    assert all(row["azr/tasks"] >= 3 and "azr/solve_reward" in row for row in metrics)
    return trainer.counters.verifier_calls == len(rows)


TWO = {"rollout.group_size": 1, "train.lr": 2e-5}
#: Prompts are most of the tokens.
ONE = {"rollout.prompts_per_step": 1}
CASES: dict[str, tuple[dict[str, Any], Proof]] = {
    "cure": ({**ONE, "method.dynamic_sampling": False}, branched_within),
    # two demonstrations a step: their prompts differ, so no pass is shared
    "curiosft": ({**TWO, "method.sync_every": 2}, a_teacher_followed),
    "data-filters": ({"method.gen_factor": 1.0, "method.max_gen_batches": 3}, groups_were_refilled),
    "ettrl": ({**ONE, "method.forks": 1, "method.branches": 1, "method.train_share": 1.0}, branched_within),
    "igpo@paper": ({**ONE, "method.segments": 3}, answers_were_forced),
    # the same model again stands for an expert: none with this tokenizer is packaged
    "mentor": ({"method.expert": MODEL, "method.mixed": 2, "method.form": "think"}, an_expert_drew),
    "prompt-augmentation": ({}, stands_in_templates),
    "psft": ({**TWO, "train.minibatches": 2}, right_answers_were_learnt),
    "r3": ({"method.pool": 2, "method.reflect_below": 1.0}, failures_were_shown),
    "sage@full": ({**ONE, "method.hint_tokens": 64}, hints_were_given),
    # six prompts a step
    "self-play-azr": (
        {"method.tasks": "text", "method.references": 1, **ONE},
        tasks_were_solved,
    ),
    "sft": (TWO, right_answers_were_learnt),
    "siri": ({**ONE, "method.cycles": 1.0}, limits_swung),
    "spear": (
        {
            "method.replay_share": 0.1, "method.keep_groups": 1.0, "method.drop_overlong": False,
            "rollout.group_size": 8, **ONE,
        },
        successes_were_replayed,
    ),
    "spo@chain": ({**ONE, "method.value_samples": 3}, segments_were_valued),
    "spo@tree": ({**ONE, "method.branches": "2-2-2", "method.segment_share": 0.25}, edges_waited),
    "tool-light": ({**ONE, "method.prefix_lengths": "2-4-8", "method.step_end": r"[.,\n]"}, branched_within),
    "vade": ({}, verdicts_choose),
}  # fmt: skip


@pytest.fixture(scope="module")
def opened() -> Iterator[tuple[Policy, Benchmark, dict[str, Tensor]]]:
    """The model and its problems, loaded once, and the weights that every case begins with."""
    fetched()
    policy, benchmark = open_run(compose({**SETTINGS, "method": "grpo"}))
    yield policy, benchmark, {name: value.clone() for name, value in policy.weights().items()}


#: What runs in every full test: a program that asks twice. The others take ten minutes: make test-text.
OFTEN = {"cure"}


@pytest.mark.parametrize(
    "name", [n if n in OFTEN else pytest.param(n, marks=pytest.mark.by_hand) for n in CASES]
)
def test_it_acts_on_a_language_model(name: str, opened: tuple[Policy, Benchmark, dict[str, Tensor]]) -> None:
    policy, benchmark, weights = opened
    values, proof = CASES[name]
    run = compose({**SETTINGS, "method": name, **values})
    policy.load_weights(weights)
    trainer = Trainer(run, policy, benchmark, stages_of(run))
    batches: list[Batch] = []
    program = trainer.rollouts.run_program

    def kept(ctx: Any) -> Batch:
        batches.append(program(ctx))
        return batches[-1]

    trainer.rollouts.run_program = kept  # type: ignore[method-assign]
    metrics = [trainer.step() for _ in range(STEPS)]
    assert proof(trainer, metrics, batches)
