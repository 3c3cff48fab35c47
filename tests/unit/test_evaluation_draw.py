"""Drawing: only what is missing, judged beside the engine, and kept when it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from harness.evaluation.draw import Progress, draw_missing, encode, grade_again
from harness.evaluation.judges import OwnJudge, PoolJudge
from harness.evaluation.samples import SampleStore, read_samples
from harness.grading.grader import Grader
from harness.problems.problem import Problem, Verdict
from harness.rollout.engines.base import Completion, GenerationRequest, Sampling
from harness.util import progress
from harness.util.errors import UserError
from tests.helpers.engines import ScriptedEngine

PROBLEMS = [Problem(f"sum-{i}", f"what is {i} + {i + 2} ?", str(2 * i + 2)) for i in range(4)]
SAMPLING = Sampling(0.6, 0.95, 16, stop_texts=("</answer>",))


class Exact:
    """A benchmark's own verifier."""

    def verify(self, problem: Problem, text: str) -> Verdict:
        return Verdict("right" if problem.answer in text else "wrong", text)


def draw(engine: Any, judge: Any, store: SampleStore, **options: Any) -> None:
    encoded = encode(engine, PROBLEMS, SAMPLING.max_tokens)
    draw_missing(engine, judge, encoded, store, sampling=SAMPLING, key=("e", 1), graded_by="g@1", **options)


def store_in(folder: Path, n: int = 4) -> SampleStore:
    return SampleStore(folder / "x.parquet", [p.id for p in PROBLEMS], n)


def test_samples_are_judged_and_kept(tmp_path: Path) -> None:
    engine, store = ScriptedEngine(), store_in(tmp_path)
    with Grader() as grader:
        draw(engine, PoolJudge(grader), store)
    assert store.complete
    for sample in store.samples():
        expected = ["unparsed", "right", "wrong", "right"][sample.sample % 4]
        assert (sample.status, sample.second) == (expected, expected), sample
        assert sample.graded_by == "g@1" and sample.logp_sum == -0.5 * sample.tokens
    assert {request.key for request, _ in engine.asked} == {
        ("e", 1, p.id, i) for p in PROBLEMS for i in range(4)
    }
    assert all(sampling == SAMPLING for _, sampling in engine.asked)


class SlowJudge:
    """Verdicts arrive half a second after everything was submitted."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.submitted_before_any_verdict = 0

    def submit(self, problem: Problem, text: str, tag: Any) -> None:
        self.waiting.append(tag)

    def finished(self, *, wait: bool = False) -> Iterator[tuple[Any, Verdict, str]]:
        if wait:
            self.submitted_before_any_verdict = len(self.waiting)
            time.sleep(0.5)
            done, self.waiting = self.waiting, []
            for tag in done:
                yield tag, Verdict("wrong", "1"), "wrong"


def test_the_engine_never_waits_for_the_judge(tmp_path: Path) -> None:
    engine, judge, store = ScriptedEngine(), SlowJudge(), store_in(tmp_path)
    draw(engine, judge, store)
    assert judge.submitted_before_any_verdict == engine.yielded == 16 and store.complete


def test_a_hard_answer_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    bomb = "\\boxed{9^{9^{9^{9^{9}}}}}"
    engine = ScriptedEngine(lambda key: bomb if key[-2:] == ("sum-0", 0) else f"\\boxed{{{key[-1]}}}")
    seen: list[Progress] = []
    store = store_in(tmp_path)
    with Grader(workers=1, wall_s=2.0) as grader:
        start = time.monotonic()
        draw(engine, PoolJudge(grader), store, on_progress=seen.append)
        assert time.monotonic() - start < 30
    assert engine.yielded == 16 and store.complete
    last_generated = max(i for i, p in enumerate(seen) if p.tokens < seen[-1].tokens)
    assert seen[last_generated].samples_done >= 10  # plain numbers were done while the bomb was looked at
    assert {s.status for s in store.samples() if s.problem_id == "sum-0" and s.sample == 0} <= {
        "timeout",
        "wrong",
    }


def test_an_interrupted_draw_keeps_what_is_judged_and_draws_the_rest(tmp_path: Path) -> None:
    whole = store_in(tmp_path / "whole")
    draw(ScriptedEngine(), OwnJudge(Exact()), whole)  # type: ignore[arg-type]
    store, engine = store_in(tmp_path), ScriptedEngine()

    def stop(progress: Progress) -> None:
        if progress.samples_done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(engine, OwnJudge(Exact()), store, on_progress=stop)  # type: ignore[arg-type]
    assert engine.pulled < 16  # requests are read as the engine has room for them
    again, engine = store_in(tmp_path), ScriptedEngine()
    assert len(again) >= 7
    kept = len(again)
    draw(engine, OwnJudge(Exact()), again)  # type: ignore[arg-type]
    assert engine.pulled == 16 - kept
    assert again.samples() == whole.samples()


class LateJudge(OwnJudge):
    """Has no verdict before ``ready``."""

    ready = False

    def finished(self, *, wait: bool = False) -> Iterator[tuple[Any, Verdict, str]]:
        return super().finished() if self.ready or wait else iter(())


def test_a_block_is_on_disk_while_the_next_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``hf`` hands over a block at a time; a kill in the middle of the next, hours later, loses that one."""
    now, kept = [0.0], list[int]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    judge = LateJudge(Exact())  # type: ignore[arg-type]

    class Blocks(ScriptedEngine):
        def generate(self, requests: Iterable[GenerationRequest], sampling: Sampling) -> Iterator[Completion]:
            waiting = iter(requests)
            while block := list(islice(waiting, 8)):
                judge.ready = True
                for _ in range(3):  # tokens
                    now[0] += 11.0
                    progress.tell(0, len(block))
                kept.append(sum(len(read_samples(part)) for part in tmp_path.glob("x.parts/*.parquet")))
                judge.ready = False
                yield from super().generate(block, sampling)

    store = store_in(tmp_path)
    draw(Blocks(), judge, store)
    assert kept == [0, 8] and store.complete


def test_progress_counts_problems_samples_and_right_ones(tmp_path: Path) -> None:
    seen: list[Progress] = []
    draw(ScriptedEngine(), OwnJudge(Exact()), store_in(tmp_path), on_progress=seen.append)  # type: ignore[arg-type]
    last = seen[-1]
    assert (last.problems, last.problems_done, last.samples, last.samples_done) == (4, 4, 16, 16)
    assert last.right == sum(s.status == "right" for s in store_in(tmp_path).samples()) > 0
    assert last.drawn == 16 and last.tokens > 0


def test_prompts_that_do_not_fit_are_refused_before_anything_is_drawn() -> None:
    engine = ScriptedEngine(max_positions=24)
    long = Problem("long", "word " * 20, "1")
    with pytest.raises(
        UserError, match="the prompt of long has 20 tokens of the model's context of 24, which leaves 4"
    ):
        encode(engine, [*PROBLEMS, long], 20)
    with pytest.raises(
        UserError, match="max_tokens=24 does not fit the model's context of 24.*max_tokens=18"
    ):
        encode(engine, PROBLEMS, 24)
    assert engine.pulled == 0
    shortened = encode(engine, [*PROBLEMS, long], 16)
    assert [e.max_tokens for e in shortened] == [16, 16, 16, 16, 4]
    assert [e.max_tokens for e in encode(ScriptedEngine(max_positions=None), [long], 9000)] == [9000]


def test_shortened_responses_get_their_own_limit(tmp_path: Path) -> None:
    engine = ScriptedEngine(max_positions=24)
    problems = [*PROBLEMS[:1], Problem("long-1", "word " * 18, "4"), *PROBLEMS[1:]]
    store = SampleStore(tmp_path / "x.parquet", [p.id for p in problems], 2)
    encoded = encode(engine, problems, 16)
    judge: Any = OwnJudge(Exact())  # type: ignore[arg-type]
    draw_missing(engine, judge, encoded, store, sampling=SAMPLING, key=(), graded_by="g")
    limits = {request.tag[0].id: sampling.max_tokens for request, sampling in engine.asked}
    assert limits["long-1"] == 6 and {limits[p.id] for p in PROBLEMS} == {16} and store.complete


def test_grading_again_changes_verdicts_only(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    draw(ScriptedEngine(), OwnJudge(Exact()), store)  # type: ignore[arg-type]
    before = store.samples()
    with Grader("math-dapo") as grader:
        after = grade_again(PoolJudge(grader), PROBLEMS, before, "math-dapo@1")
    assert [s.text for s in after] == [s.text for s in before]
    assert {s.status for s in after} == {"unparsed"} and {s.graded_by for s in after} == {"math-dapo@1"}
