"""Evaluation: every sample kept, blocks that survive a stop, draws that depend on problem and sample only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from harness.evaluation import splits
from harness.evaluation.splits import COLUMNS, evaluate_problems, probe_entropy, summary
from harness.problems.problem import Problem, Verdict
from harness.rollout import sampler
from harness.stages.token_stats import ENTROPY, LOGP
from harness.util import progress
from tests.helpers.tiny import LetterBenchmark, make_batch, tiny_policy

BENCHMARK = LetterBenchmark()
PROBLEMS = BENCHMARK.problems("train")[:6]
OPTIONS: dict[str, Any] = {"n": 4, "temperature": 1.0, "max_tokens": 8, "seed": 7}


def evaluated(path: Path, **changes: Any) -> pd.DataFrame:
    return evaluate_problems(tiny_policy(), BENCHMARK, PROBLEMS, path, **OPTIONS | changes)


def test_all_samples_are_kept(tmp_path: Path) -> None:
    table = evaluated(tmp_path / "all.parquet")
    assert tuple(table.columns) == COLUMNS and len(table) == 24
    assert table["problem_id"].tolist() == [p.id for p in PROBLEMS for _ in range(4)]
    assert table["sample"].tolist() == [0, 1, 2, 3] * 6
    for row in table.itertuples():
        verdict = BENCHMARK.verify(next(p for p in PROBLEMS if p.id == row.problem_id), row.text)
        assert row.status == verdict.status
        assert (row.canonical if isinstance(row.canonical, str) else None) == verdict.canonical
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "all.parquet"), table)
    assert [p.name for p in tmp_path.iterdir()] == ["all.parquet"]


def test_log_prob_sums_are_those_of_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[sampler.Samples] = []
    original = sampler.sample

    def spying(*args: Any, **options: Any) -> sampler.Samples:
        drawn.append(original(*args, **options))
        return drawn[-1]

    monkeypatch.setattr(sampler, "sample", spying)
    table, policy = evaluated(tmp_path / "all.parquet"), tiny_policy()
    responses = [ids[m].tolist() for ids, m in zip(drawn[0].tokens_NT, drawn[0].mask_NT, strict=True)]
    assert policy.decode(responses) == table["text"].tolist()
    prompts = [policy.encode(p.prompt) for p in PROBLEMS for _ in range(4)]
    with torch.no_grad():
        logp = policy.stats(make_batch(policy, prompts, responses), [LOGP])["logp"].sum(1)
    assert table["logp_sum"].tolist() == pytest.approx(logp.tolist(), abs=1e-3)
    assert table["tokens"].tolist() == [len(r) for r in responses]
    assert table["truncated"].tolist() == [r[-1] not in policy.eos_ids for r in responses]


def test_draws_do_not_depend_on_the_blocks_or_the_other_problems(tmp_path: Path) -> None:
    whole = evaluated(tmp_path / "a.parquet")
    blocks = evaluated(tmp_path / "b.parquet", batch_rows=4)
    pd.testing.assert_frame_equal(whole.drop(columns="logp_sum"), blocks.drop(columns="logp_sum"))
    assert (whole["logp_sum"] - blocks["logp_sum"]).abs().max() < 1e-4
    other = evaluated(tmp_path / "c.parquet", seed=8)
    assert (other["text"] != whole["text"]).mean() > 0.9


class Interrupted(Exception):
    pass


def test_a_stopped_evaluation_goes_on_with_the_next_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluated(tmp_path / "whole" / "x.parquet", batch_rows=8)

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise Interrupted

    path = tmp_path / "x.parquet"
    with pytest.raises(Interrupted):
        evaluated(path, batch_rows=8, on_progress=stop)
    assert sorted(p.name for p in tmp_path.glob("*.parquet")) == [
        "x.part-000000.parquet", "x.part-000002.parquet",
    ]  # fmt: skip
    judged: list[str] = []
    verify = LetterBenchmark.verify

    def counting(self: LetterBenchmark, problem: Problem, text: str) -> Verdict:
        judged.append(problem.id)
        return verify(self, problem, text)

    monkeypatch.setattr(LetterBenchmark, "verify", counting)
    pd.testing.assert_frame_equal(evaluated(path, batch_rows=8), whole)
    assert len(judged) == 8  # the last block only
    (tmp_path / "x.part-000000.parquet").write_bytes(b"left behind")
    pd.testing.assert_frame_equal(evaluated(path, batch_rows=8), whole)
    assert [p.name for p in tmp_path.glob("*.parquet")] == ["x.parquet"]
    assert path.read_bytes() == (tmp_path / "whole" / "x.parquet").read_bytes()


@pytest.mark.parametrize(("unit_tokens", "drawn_again"), [(splits.UNIT_TOKENS, 6), (64, 4)])
def test_a_unit_that_was_begun_is_drawn_again_whole_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit_tokens: int, drawn_again: int
) -> None:
    """Blocks of two problems: one unit of three, or units of one block where they may have 64 tokens only."""
    monkeypatch.setattr(splits, "UNIT_TOKENS", unit_tokens)
    whole = evaluated(tmp_path / "whole" / "x.parquet", batch_rows=8)

    def stop(done: int, total: int) -> None:
        raise Interrupted

    path = tmp_path / "x.parquet"
    with pytest.raises(Interrupted):
        evaluated(path, batch_rows=8, on_progress=stop)
    assert [p.name for p in tmp_path.glob("*.parquet")] == ["x.part-000000.parquet"]
    drawn, told = list[int](), list[int]()
    original = sampler.sample

    def spying(policy: Any, prompts: Any, n: int, **options: Any) -> sampler.Samples:
        drawn.append(len(prompts))
        return original(policy, prompts, n, **options)

    monkeypatch.setattr(sampler, "sample", spying)
    listen = progress.listening(lambda phase, event: told.append(phase.done))
    with listen, progress.phase("evaluate", 24, "responses"):
        pd.testing.assert_frame_equal(evaluated(path, batch_rows=8), whole)
    assert sum(drawn) == drawn_again
    assert told == sorted(told) and 8 in told and told[-1] == 24
    assert path.read_bytes() == (tmp_path / "whole" / "x.parquet").read_bytes()


def test_summary_counts_per_problem() -> None:
    problems = [Problem("b", ""), Problem("a", "")]
    rows = [
        ("a", 1, "t", 3, False, "wrong", "2", -1.0), ("a", 0, "t", 5, True, "right", "1", -1.0),
        ("b", 0, "t", 4, False, "unparsed", None, -1.0), ("b", 1, "t", 4, False, "wrong", "9", -1.0),
        ("a", 2, "t", 3, False, "right", "1", -1.0), ("b", 2, "t", 5, False, "timeout", None, -1.0),
    ]  # fmt: skip
    got = summary(pd.DataFrame(rows, columns=list(COLUMNS)), problems, maj_k=(1, 8))
    assert got["n"] == 3 and got["problem_ids"] == ["b", "a"] and got["correct"] == [0, 2]
    assert got["distinct"] == [1, 2] and got["distinct_correct"] == [0, 1]
    assert list(got["maj"]) == ["1"]  # k = 8 exceeds n
    assert got["mean_length"] == 4 and got["truncated"] == pytest.approx(1 / 6)
    assert got["unparsed"] == pytest.approx(1 / 6) and got["timeout"] == pytest.approx(1 / 6)


def test_probe_entropy_is_that_of_temperature_one() -> None:
    """The probe ignores the loss temperature, and equals the exact entropy where it can be summed."""
    values = [
        probe_entropy(tiny_policy(temperature=t), PROBLEMS[:2], samples=3, max_tokens=6, seed=1, step=4)
        for t in (1.0, 0.5)
    ]
    assert values[0] == values[1]
    policy = tiny_policy()
    first = probe_entropy(policy, PROBLEMS[:2], samples=3, max_tokens=1, seed=1, step=4)
    prompts = [policy.encode(p.prompt) for p in PROBLEMS[:2]]
    with torch.no_grad():
        exact = policy.stats(make_batch(policy, prompts, [[5], [5]]), [ENTROPY])["entropy"].mean()
    assert first["probe_entropy"] == pytest.approx(float(exact), abs=1e-4)
    assert first["probe_entropy_seq"] == pytest.approx(float(exact), abs=1e-4)
    long = probe_entropy(policy, PROBLEMS[:2], samples=3, max_tokens=6, seed=1, step=4)
    assert long["probe_entropy_seq"] > 3 * long["probe_entropy"]
    other = probe_entropy(policy, PROBLEMS[:2], samples=3, max_tokens=6, seed=1, step=5)
    assert other != long
