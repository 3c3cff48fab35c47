"""The analyses on a small real model, in the words that the papers use. It has to be prefetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.analyses.second_answer import answer_twice, asking_of
from harness.analyses.subject import problems_of
from harness.cli import main
from harness.model.gguf.cache import is_there
from harness.model.gguf.packages import PACKAGED
from harness.model.policy import load_policy
from harness.model.source import resolve_model
from harness.registry import benchmarks
from harness.rollout.engines.hf import HfEngine
from harness.util.files import read_json

MODEL = "smollm2-135m"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not is_there(PACKAGED[MODEL].folder), reason=f"not here: entrobench prefetch-model {MODEL}"
    ),
]


def test_the_request_for_another_answer_is_in_the_user_s_turn() -> None:
    policy = load_policy(resolve_model(MODEL, {}))
    problems = problems_of("words:train")[:2]
    ask = asking_of(benchmarks.load("words"))
    answers = answer_twice(HfEngine(policy), problems, [ask] * 2, max_tokens=16, top=50)
    for problem, each in zip(problems, answers, strict=True):
        asked = policy.tokenizer.decode(each.second.request.prompt_ids)
        turn = asked.rpartition(str(problem.meta["question"]))[2]
        before_the_answer = turn.partition("<|im_end|>")[0]
        assert each.first.text in before_the_answer and "Give another response" in before_the_answer
        assert asked.endswith("<|im_start|>assistant\n")
        assert 1 <= len(each.first.entropies) <= 16 and 1 <= len(each.second.entropies) <= 32
        assert all(0 <= h < 12 for one in (each.first, each.second) for h in one.entropies)


def test_both_commands_take_a_model(tmp_path: Path) -> None:
    place = ["members=words:train", "others=words:validation", "n=2", "max_tokens=16", "--to", str(tmp_path)]
    assert main(["analyse", "self-critique-mia", MODEL, *place]) == 0
    (point,) = read_json(tmp_path / f"self-critique-mia-{MODEL}.json")["points"]
    assert len(point["problems"]) == 4 and 0 <= point["auc"] <= 1 and point["generated_tokens"] > 8
    words = ["problems=words:validation", "texts=24", "--to", str(tmp_path)]
    assert main(["analyse", "representation-geometry", MODEL, *words]) == 0
    found = read_json(tmp_path / f"representation-geometry-{MODEL}.json")
    assert (found["features"], found["texts"], found["fit"]) == (576, 24, [2, 10])
    assert 1 < found["points"][0]["rankme"] < 23
