"""Prompts that do not fit the context are known before the first step, and before a sweep is submitted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.config.schema import to_dict
from harness.problems.problem import Problem
from harness.registry import benchmarks as registry
from harness.rollout.settings import context_of
from harness.run import execute as runs
from harness.run.prompts import Fitting, Reader, fitting
from harness.run.set_up import open_run
from harness.stages.requests import Generate, Prompt
from harness.sweep import prompts as submitted
from harness.util.errors import UserError
from tests.helpers.execution import configured
from tests.helpers.math_files import write_sets
from tests.helpers.tiny import SMALL, LetterBenchmark, build_model, build_tokenizer, small_run, tiny_folder
from tests.helpers.tiny import tiny_trainer as trainer_of

#: More than 120 tokens of the tiny tokenizer and less than 128, which is what its model can hold.
LONG = (
    "the quick brown fox jumps over the lazy dog numbers are nothing " * 3
    + "the quick brown fox jumps over the lazy dog"
)


class Sometimes(LetterBenchmark):
    """Letters, of which some problems have a prompt of over 120 tokens."""

    name = "sometimes"
    long: Sequence[tuple[str, int]] = (("train", 3), ("train", 20))

    def problems(self, split: str) -> Sequence[Problem]:
        every = [
            Problem(p.id, LONG if (split, i) in self.long else p.prompt, p.answer)
            for i, p in enumerate(super().problems(split))
        ]
        return every * 3 if split == "validation" else every  # the same ids again


def words(*more: str) -> list[str]:
    given = {word.partition("=")[0] for word in (*more, "data.benchmark=")}
    base = [s for s in SMALL if s.partition("=")[0] not in given]
    return [f"model.path={tiny_folder()}", "method=grpo", "data.benchmark=sometimes", *base, *more]


@pytest.fixture
def sometimes(monkeypatch: pytest.MonkeyPatch) -> type[Sometimes]:
    names = registry.names
    monkeypatch.setitem(registry._instances, "sometimes", Sometimes())
    monkeypatch.setattr(registry, "names", lambda: [*names(), "sometimes"])
    monkeypatch.setattr(Sometimes, "long", Sometimes.long)  # put back after the test
    return Sometimes


def test_a_few_training_prompts_are_left_out_and_counted(
    sometimes: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # two passes over the training problems: each of them would have come
    run = configured(words("train.steps=12", f"runs_dir={tmp_path}", "eval.frontier_every=500"))
    folder = runs.execute(run)
    assert runs.result(folder).left_out == {"train": 2}
    said = "2 of 24 prompts of sometimes:train, up to "
    assert capsys.readouterr().err.count(said) == 1
    assert json.loads((folder / "status.json").read_text())["step"] == 12
    runs.execute(run)
    assert said not in capsys.readouterr().err


def test_nothing_is_left_out_where_everything_fits() -> None:
    run = configured(["model.path=micro", "method=grpo", "rollout.max_response_tokens=16"])
    policy, benchmark = open_run(run)
    assert type(benchmark) is type(registry.load("micro")) and policy.stop_texts == ()


def test_probe_and_frontier_do_without_them_too(sometimes: Any) -> None:
    sometimes.long = (("validation", 1),)
    with pytest.raises(UserError, match="3 of 12 prompts of sometimes:validation"):
        open_run(configured(words()))
    _, benchmark = open_run(configured(words("data.validation_split=train", "eval.splits=[test_id]")))
    assert len(benchmark.problems("train")) == 24
    sometimes.long = (("train", 2),)
    _, benchmark = open_run(configured(words("data.validation_split=train", "eval.splits=[train]")))
    assert isinstance(benchmark, Fitting) and benchmark.left_out == {"train": 1}
    assert len(benchmark.problems("train")) == 23 and len(benchmark.problems("validation")) == 12


@pytest.mark.parametrize(
    ("long", "message"),
    [
        ([("train", i) for i in range(3)], r"3 of 24 prompts of sometimes:train, up to \d+ tokens long"),
        ([("test_hard", 0)], r"1 of 4 prompts of sometimes:test_hard, up to \d+ tokens long"),
    ],
)
def test_too_many_or_a_test_problem_is_refused_before_any_step(
    sometimes: Any, long: Any, message: str, tmp_path: Path
) -> None:
    sometimes.long = long
    with pytest.raises(UserError, match=message) as error:
        runs.execute(configured(words(f"runs_dir={tmp_path}", "rollout.max_response_tokens=40")))
    assert "context of 128 with rollout.max_response_tokens=40" in str(error.value)
    room = int(str(error.value).partition("write rollout.max_response_tokens=")[2].split()[0])
    assert not list(tmp_path.glob("*/metrics.jsonl"))
    open_run(configured(words(f"rollout.max_response_tokens={room}")))
    with pytest.raises(UserError):
        open_run(configured(words(f"rollout.max_response_tokens={room + 1}")))


def test_a_token_budget_below_one_rollout_is_refused(sometimes: Any) -> None:
    with pytest.raises(UserError, match=r"a prompt of \d+ tokens with a response of \d+; write") as error:
        open_run(configured(words("train.micro_batch_tokens=60", "rollout.max_response_tokens=5")))
    enough = int(str(error.value).split()[-3])
    open_run(configured(words(f"train.micro_batch_tokens={enough}", "rollout.max_response_tokens=5")))


def test_a_response_limit_beyond_the_context_is_refused(sometimes: Any) -> None:
    with pytest.raises(UserError, match="24 of 24 prompts"):
        open_run(configured(words("rollout.max_response_tokens=128")))


def test_the_templates_stop_texts_come_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _sets(tmp_path, monkeypatch)
    given = words("data.template=r1", "data.benchmark=gsm8k", "eval.splits=[test]")
    tokenizer = build_tokenizer()
    build_model(tokenizer, max_position_embeddings=2048).save_pretrained(tmp_path / "long")
    tokenizer.save_pretrained(tmp_path / "long")
    policy, benchmark = open_run(configured([*given, f"model.path={tmp_path / 'long'}"]))
    assert policy.stop_texts == ("</answer>",)
    assert benchmark.problems("train")[0].prompt.endswith("Assistant: <think>")
    with pytest.raises(UserError, match="do not fit the context of 128"):  # the paragraph is longer than that
        open_run(configured(given))


def _sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accept = write_sets(tmp_path / "data", ("gsm8k", "aime24"), count=40)
    monkeypatch.setenv("ENTROBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ENTROBENCH_ACCEPT_DATA", accept)
    monkeypatch.setattr(registry, "_instances", {"sometimes": Sometimes()})


def test_prompts_of_the_benchmarks_are_read_before_training(
    sometimes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _sets(tmp_path, monkeypatch)
    changes = "eval.profile_settings=[max_tokens:{},template:{}]"
    fine = words("eval.benchmarks=[aime24]", changes.format(16, "bare"))
    open_run(configured(fine))
    with pytest.raises(UserError, match="prompt of aime24-.* which leaves .* lower max_tokens"):
        open_run(configured(words("eval.benchmarks=[aime24]", changes.format(16, "r1"))))
    with pytest.raises(UserError, match="'qwen-math' is written for models with the token"):
        open_run(configured(words("eval.benchmarks=[aime24]", changes.format(16, "qwen-math"))))


def test_submitting_tells_it_without_weights(sometimes: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_folder().iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    same = [to_dict(configured([*words(), f"model.path={folder}", f"seed={seed}"])) for seed in (1, 2, 3)]
    (line,) = submitted.left_out(same)
    assert line.startswith("2 of 24 prompts of sometimes:train") and line.endswith(": left out")
    sometimes.long = [("train", i) for i in range(12)]
    with pytest.raises(UserError, match="12 of 24 prompts"):
        list(submitted.left_out(same))


def test_submitting_refuses_before_anything_is_started(
    sometimes: Any, sweep_file: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sometimes.long = [("train", i) for i in range(12)]
    settings = dict(word.split("=", 1) for word in words() if not word.startswith(("method", "eval.s")))
    path = sweep_file(
        methods=["grpo"], seeds=[1], base_temperatures=[], model=None, settings=settings, tuning=None
    )
    assert main(["sweep", "submit", str(path)]) == 2
    told = capsys.readouterr()
    assert "12 of 24 prompts of sometimes:train" in told.err and len(told.err.strip().splitlines()) == 1
    assert "starting" not in told.out


class Cannot:
    """A tokenizer that nobody should have loaded."""

    def __call__(self) -> Any:
        raise AssertionError("short prompts need no tokenizer")


def test_short_prompts_are_not_tokenised() -> None:
    run = configured(["model.path=micro", "method=grpo"])
    micro = registry.load("micro")
    assert fitting(run, micro, Reader(Cannot(), 64)) is micro
    assert fitting(run, micro, Reader(Cannot(), None)) is micro


class Bytes:
    """A token for each byte."""

    eos_token_id = None

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": list(text.encode())}


def test_characters_that_take_several_tokens_are_counted() -> None:
    problems = [Problem("a", "e" * 30), Problem("b", "√" * 30)]
    reader = Reader(Bytes, 128)
    assert reader.longer_than(90, problems) == {}
    assert reader.longer_than(89, problems) == {"b": 90}
    assert reader.longer_than(29, problems) == {"a": 30, "b": 90}


def test_an_engine_with_a_smaller_context_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_run()
    assert context_of(run, 128) == 128 and context_of(run, None) is None
    run.rollout.engine, run.rollout.engine_settings = "vllm", ["max_positions:64"]
    assert context_of(run, 128) == context_of(run, None) == 64
    assert context_of(run, 32) == 32


def test_a_prefix_that_leaves_less_room_gets_less() -> None:
    trainer = trainer_of("rollout.max_response_tokens=100")
    problem = Problem("p", "the fox")
    room = 128 - len(trainer.policy.encode(problem.prompt))
    ctx = trainer.context()
    batch = trainer.rollouts.generate(Generate([Prompt(problem, 0, prefix=(5,) * 60)], 8), ctx)
    assert batch.response_BT.shape[1] <= room - 60
    with pytest.raises(UserError, match="fills the model's context of 128"):
        trainer.rollouts.generate(Generate([Prompt(problem, 0, prefix=(5,) * room)], 8), ctx)
