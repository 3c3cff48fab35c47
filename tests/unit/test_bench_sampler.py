"""The sampling benchmark: equal work on all sides, peers in processes of their own, absent peers told."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.helpers.tiny import tiny_policy
from tests.performance import bench_sampler, real_model
from tests.performance.bench_sampler import Generate, Ours, Vllm, compare, measure

PROMPTS = [[5, 6, 7], [8, 9]]
#: Answers as ``vllm_peer.py`` does, and ends at a prompt of one token.
PEER = """#!{python}
import json, sys
print(json.dumps({{"version": "9.9"}}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if len(asked["prompts"]) == 1:
        sys.exit("it fell over")
    tokens = len(asked["prompts"]) * asked["n"] * asked["max_tokens"]
    print(json.dumps({{"cpu_s": 0.5, "tokens": tokens}}), flush=True)
"""


@pytest.fixture()
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(real_model, "folder", lambda: str(tmp_path))
    path = tmp_path / "python"
    path.write_text(PEER.format(python=sys.executable))
    path.chmod(0o755)
    return path


def test_ours_and_generate_sample_to_the_limit() -> None:
    policy = tiny_policy()
    ours, theirs = Ours(policy), Generate(policy)
    assert theirs.choose(PROMPTS, 2).keys() == {"dynamic", "static"}
    assert ours(PROMPTS, 3, 20)[1] == theirs(PROMPTS, 3, 20)[1] == 2 * 3 * 20


def test_pairs_alternate_and_rows_are_seconds_a_token() -> None:
    called: list[str] = []

    def side(name: str, seconds: float) -> bench_sampler.Side:
        def work(prompts: Sequence[Sequence[int]], n: int, tokens: int) -> tuple[float, int]:
            called.append(name)
            return seconds, len(prompts) * n * tokens

        return work

    row = compare(side("ours", 1.0), side("peer", 2.0), PROMPTS, 2, 2)
    assert called == ["ours", "peer", "peer", "ours", "ours", "peer"]  # one short call each comes first
    assert row["ratio_median"] == 0.5 and row["tokens_per_s"] == {"ours": 256.0, "peer": 128.0}


def test_unequal_work_is_no_comparison() -> None:
    with pytest.raises(AssertionError, match="peer sampled 5 tokens"):
        compare(lambda p, n, t: (1.0, len(p) * n * t), lambda p, n, t: (1.0, 5), PROMPTS, 1, 1)


def test_vllm_is_asked_over_its_standard_input(peer: Path) -> None:
    with Vllm(peer, "float32", 4) as engine:
        assert engine.version == "9.9"
        assert engine(PROMPTS, 2, 3) == (0.5, 12)
        with pytest.raises(RuntimeError, match="it fell over"):
            engine([[1]], 1, 1)


def test_a_peer_that_is_not_there_and_a_type_that_the_processor_lacks_are_told(
    peer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tiny_policy()
    monkeypatch.setattr(real_model, "policy", lambda dtype: policy)
    monkeypatch.setattr(real_model, "problems", real_model.WordProblems)
    monkeypatch.setattr(real_model, "prompts", lambda of, count: PROMPTS)
    absent = measure("4x16", "float32", "vllm", 1, peer.with_name("nothing"))
    assert "vLLM cannot run here" in absent["missing"]
    monkeypatch.setattr(bench_sampler, "has_bf16", lambda: False)
    assert "no bfloat16" in measure("4x16", "bfloat16", "vllm", 1, peer)["missing"]


def test_word_problems_are_solved_by_their_answers() -> None:
    problems = real_model.WordProblems().problems("train")
    assert len({p.id for p in problems}) == len(problems) == 400
    first, other = problems[0], next(p for p in problems if p.answer != problems[0].answer)
    verdicts = real_model.WordProblems().verify_all(
        [first, first, first], [f"so \\boxed{{{first.answer}}}.", f"\\boxed{{{other.answer}}}", "no idea"]
    )
    assert [v.correct for v in verdicts] == [True, False, False]
