"""Demonstrations as rows: their tokens, their end, and what is refused before the first step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.micro.testbed import BASE_DIR, SPLITS, Micro
from benchmarks.words.problems import Words
from harness.model.policy import Policy, load_policy
from harness.rollout.demonstrations import Demonstrations
from harness.run.compose import compose
from harness.util.errors import UserError
from tests.helpers.tiny import LetterBenchmark, small_run, tiny_policy, tiny_trainer


@pytest.fixture(scope="module")
def micro() -> Policy:
    return load_policy(BASE_DIR)


@pytest.fixture
def policy() -> Policy:
    return tiny_policy()


def written(folder: Path, *lines: dict[str, Any] | str) -> str:
    path = folder / "shown.jsonl"
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(text) + "\n")
    return str(path)


def read(policy: Policy, path: str, *overrides: str) -> Demonstrations:
    run = small_run("train.steps=1", *overrides, method="sft")
    run.data.demonstrations = path
    return Demonstrations(run, policy, LetterBenchmark())


def shown(prompt: str = "say", response: str = "the word") -> dict[str, Any]:
    return {"prompt": prompt, "response": response}


def test_a_response_is_the_text_and_one_end_token(policy: Policy, tmp_path: Path) -> None:
    found = read(policy, written(tmp_path, shown(), shown("say it", "the lazy dog")))
    prompt, response = found.tokens(found.problems[0])
    assert prompt == policy.encode("say")
    assert response == [*policy.tokenizer("the word", add_special_tokens=False)["input_ids"], policy.eos_id]
    batch = found.batch(found.problems)
    lengths = [len(found.tokens(problem)[1]) for problem in found.problems]
    assert batch.mask_BT.sum(1).tolist() == lengths and batch.response_BT.shape == (2, max(lengths))
    assert batch.response_BT[batch.mask_BT].tolist() == [
        token for problem in found.problems for token in found.tokens(problem)[1]
    ]
    assert batch.group_B.tolist() == [0, 1] and batch.tags["demonstration"].tolist() == [1, 1]
    assert any(repr("<|end|>") in line for line in found.told)


def test_what_ends_a_turn_in_the_prompt_ends_the_response(policy: Policy, tmp_path: Path) -> None:
    """ChatML's end after the prompt's turns, the tokenizer's own where the prompt has none."""

    class TwoEnds(Policy):
        @property
        def eos_ids(self) -> tuple[int, ...]:
            return (policy.tokenizer.convert_tokens_to_ids("<|user|>"), policy.eos_id)

    two = TwoEnds(policy.model, policy.tokenizer)
    found = read(two, written(tmp_path, shown("hi<|user|>say"), shown("hi say")))
    turn = policy.tokenizer.convert_tokens_to_ids("<|user|>")
    assert [found.tokens(p)[1][-1] for p in found.problems] == [turn, policy.eos_id]


def test_a_text_that_says_the_end_itself_ends_there(policy: Policy, tmp_path: Path) -> None:
    found = read(policy, written(tmp_path, shown(response="the word<|end|> and more")))
    response = found.tokens(found.problems[0])[1]
    assert response.count(policy.eos_id) == 1 and response[-1] == policy.eos_id
    assert policy.decode([response]) == ["the word"]


def test_a_template_makes_the_prompt_of_the_question(policy: Policy, tmp_path: Path) -> None:
    found = read(policy, written(tmp_path, shown("2 and 2?")), "data.template=plain")
    assert found.problems[0].prompt.startswith("Problem: 2 and 2?\n")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "holds no demonstrations"),
        (["{not json"], r"shown.jsonl:1 is no demonstration"),
        ([shown(), {"prompt": "x"}], r"shown.jsonl:2 is no demonstration"),
        ([shown(response="  ")], r"shown.jsonl:1 is no demonstration"),
        (['["prompt", "response"]'], r"shown.jsonl:1 is no demonstration"),
        ([shown(response="yes<|im_end|>")], "another tokenizer"),
        ([shown(response="the word " * 200)], "1 of 1 demonstrations .* longer than the context of 128"),
    ],
)
def test_what_cannot_be_learnt_is_refused(policy: Policy, tmp_path: Path, lines: list, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(policy, written(tmp_path, *lines))


def test_a_missing_file_is_named(policy: Policy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read data.demonstrations="):
        read(policy, str(tmp_path / "none.jsonl"))


def test_a_few_that_are_too_long_are_left_out_and_counted(policy: Policy, tmp_path: Path) -> None:
    lines = [shown(f"say {i}") for i in range(10)]
    found = read(policy, written(tmp_path, *lines, shown(response="the word " * 200)))
    assert len(found.problems) == 10 and found.left_out == 1
    assert found.told[1].startswith("1 more are longer than the context of 128 tokens")


def test_the_limit_is_the_context_to_the_token(policy: Policy, tmp_path: Path) -> None:
    """127 tokens and the end fit, one more does not."""
    room = 128 - len(policy.encode("say")) - 1
    text = "0 " * (room // 2) + "0" * (room % 2)
    found = read(policy, written(tmp_path, shown(response=text)))
    assert sum(map(len, found.tokens(found.problems[0]))) == 128
    with pytest.raises(UserError, match="longer than the context"):
        read(policy, written(tmp_path, shown(response=text + "0")))


def test_a_problem_that_the_run_is_measured_on_is_refused(policy: Policy, tmp_path: Path) -> None:
    asked = LetterBenchmark().problems("validation")[0].prompt
    with pytest.raises(UserError, match=r"1 problems of letters:validation are among the demonstrations"):
        read(policy, written(tmp_path, shown(), shown(asked)))


def test_characters_that_the_tokenizer_does_not_know_are_refused(micro: Policy, tmp_path: Path) -> None:
    run = compose({"method": "sft", "data.demonstrations": written(tmp_path, shown("1+1=", "2 apples"))})
    with pytest.raises(UserError, match="demonstrations with ' ', which the tokenizer .* does not know"):
        Demonstrations(run, micro, Micro())


def test_a_benchmark_without_answers_names_the_remedy(policy: Policy) -> None:
    class Silent(LetterBenchmark):
        demonstration = None  # type: ignore[assignment]

    with pytest.raises(UserError, match="'letters' has no right answers of its own; .* data.demonstrations="):
        Demonstrations(small_run(method="sft"), policy, Silent())


@pytest.mark.parametrize("benchmark", [Micro(), Words()], ids=["micro", "words"])
def test_own_demonstrations_are_right_and_of_training_problems_alone(benchmark: Any) -> None:
    shown = benchmark.problems("train")
    for problem in shown[:: len(shown) // 60]:
        text = benchmark.demonstration(problem)
        assert benchmark.verify(problem, text).correct, (problem.prompt, text)
    asked = {problem.prompt for problem in shown}
    tested = [split for split in benchmark.splits() if split != "train"]
    assert len(tested) >= 3
    for split in tested:
        assert not asked & {problem.prompt for problem in benchmark.problems(split)}
    assert {benchmark.recipes[split][0] for split in tested} <= {"validation", "test"}
    assert SPLITS["train"][0] == "train"


def test_own_demonstrations_do_not_hang_on_what_was_asked_before() -> None:
    problem = Micro().problems("train")[7]
    said = Micro().demonstration(problem)
    Micro._made.pop((Micro, "train"))
    assert Micro().demonstration(problem) == said


def test_a_step_on_demonstrations_generates_and_judges_nothing() -> None:
    trainer = tiny_trainer("train.steps=2", method="sft")
    metrics = trainer.step()
    counters = trainer.counters
    assert (counters.generated_tokens, counters.verifier_calls) == (0, 0)
    assert metrics["demonstrations"] == 16 and metrics["rollouts"] == 0
    assert counters.train_tokens == 2 * metrics["length"] * 16  # two epochs
    assert metrics["activity"] == 1.0
    assert not {"accuracy", "reward", "rollout_mismatch", "equal_groups"} & metrics.keys()


def test_the_nll_falls_on_what_is_shown() -> None:
    trainer = tiny_trainer("train.steps=6", "train.lr=1e-2", method="sft")
    course = [trainer.step()["demonstration_nll"] for _ in range(6)]
    assert course[-1] < 0.6 * course[0]


def test_the_loss_is_the_mean_of_minus_log_probs() -> None:
    """Of one update of all rows: the logged loss is the logged likelihood."""
    trainer = tiny_trainer("train.minibatches=1", "train.epochs=1", method="sft", dtype=torch.float64)
    metrics = trainer.step()
    assert metrics["loss"] == pytest.approx(metrics["demonstration_nll"], rel=1e-6)
