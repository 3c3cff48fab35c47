"""One benchmark in one evaluation: its problems with prompts, its samples files, its scores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.evaluation.draw import Progress, draw_missing, encode, grade_again
from harness.evaluation.judges import Judge
from harness.evaluation.profiles import Draws, Profile
from harness.evaluation.samples import SampleStore
from harness.evaluation.scores import summary
from harness.grading.graders import GRADERS
from harness.model.text import stop_ids as stop_ids
from harness.problems import templates
from harness.problems.problem import Benchmark, Problem
from harness.rollout.engines.base import Engine, Sampling
from harness.util.errors import UserError, unknown

if TYPE_CHECKING:
    from harness.distributed.world import World

Watch = Callable[[str], AbstractContextManager[Callable[[Progress], None]]]


@dataclass(frozen=True)
class EvaluationSet:
    """A benchmark's problems as this evaluation uses them.

    Attributes:
        digest: of the problems' ids, questions and answers.
        source: file or hub id they were read from.
        own_verifier: the benchmark judges by itself and its prompts are used as they are.
        of: problems that the set has in all.
        seed: the problems were drawn from it with this seed; None where they are the first ones, or all.
    """

    name: str
    benchmark: Benchmark
    problems: tuple[Problem, ...]
    small: bool
    digest: str
    source: str
    own_verifier: bool
    of: int = 0
    seed: int | None = None

    def stem(self, draws: Draws) -> str:
        """Name of the samples file; other content never meets these samples."""
        return f"{self.name.replace(':', '-')}-{self.digest[:8]}.{draws.name}"


def open_set(benchmark: Benchmark, profile: Profile, split: str = "") -> EvaluationSet:
    """Load the problems of ``benchmark`` that are evaluated: ``split``, by default ``test``.

    Raises:
        UserError: data that cannot be read or is not what it should be, a set without a test split, or more
            problems to draw than it has.
    """
    chosen = split or "test"
    if chosen not in benchmark.splits():
        raise unknown(
            f"split of {benchmark.name}", chosen, benchmark.splits(), f"(write {benchmark.name}:SPLIT)"
        )
    problems = tuple(benchmark.problems(chosen))
    own = getattr(benchmark, "own_prompts", False) or any("question" not in p.meta for p in problems)
    empty = next((p.id for p in problems if not own and not p.answer.strip()), None)
    if empty:
        raise UserError(f"problem {empty} of {benchmark.name} has an empty answer; fill it in or remove it")
    small = bool(getattr(benchmark, "small", len(problems) <= 100))
    loaded = getattr(benchmark, "loaded", None)
    total = len(problems)
    if profile.limit:
        problems = _limited(benchmark.name, problems, profile.limit, profile.limit_seed)
    text = "\0".join(f"{p.id}\1{p.meta.get('question', p.prompt)}\1{p.answer}" for p in problems)
    return EvaluationSet(
        name=f"{benchmark.name}:{split}" if split else benchmark.name,
        benchmark=benchmark, problems=problems, small=small,
        digest=hashlib.sha256(text.encode()).hexdigest()[:16],
        source=loaded(chosen).source if loaded else f"{benchmark.name}@{benchmark.version}",
        own_verifier=own, of=total,
        seed=profile.limit_seed,
    )  # fmt: skip


def _limited(name: str, problems: tuple[Problem, ...], limit: int, seed: int | None) -> tuple[Problem, ...]:
    """The first ``limit`` problems; with a seed, as many drawn by their ids, in the set's order.

    Which are drawn depends on the seed and the ids alone, and fewer of them are among more of them.
    """
    if seed is None:
        return problems[:limit]
    if limit > len(problems):
        raise UserError(
            f"limit={limit}@{seed}: {name} has {len(problems)} problems; say limit={len(problems)}@{seed} or "
            "less, or leave limit out for all of them"
        )
    keys = [hashlib.sha256(f"limit|{seed}|{problem.id}".encode()).digest() for problem in problems]
    kept = sorted(sorted(range(len(problems)), key=keys.__getitem__)[:limit])
    return tuple(problems[i] for i in kept)


def with_prompts(chosen: EvaluationSet, profile: Profile, tokenizer: Any) -> EvaluationSet:
    """The set with the profile's template around every question; a set with prompts of its own stays."""
    if chosen.own_verifier:
        return chosen
    template = templates.find(profile.template)
    template.check(tokenizer)
    rendered = (
        replace(p, prompt=template.render(str(p.meta["question"]), tokenizer)) for p in chosen.problems
    )
    return replace(chosen, problems=tuple(rendered))


def draw_set(
    chosen: EvaluationSet,
    draws: Draws,
    profile: Profile,
    folder: Path,
    *,
    engine: Engine,
    judge: Judge,
    stop_ids: Sequence[int],
    seed: int,
    watch: Watch = lambda label: nullcontext(lambda progress: None),
    warn: Callable[[str], None] = lambda text: None,
    here: World | None = None,
) -> dict[str, Any]:
    """Draw and judge what is missing of one set and sampling; returns the summary for the record.

    Samples stand in ``folder`` and are never drawn twice. With ``here``, several processes that hold the same
    model share the problems; all of them get the summary.
    """
    n = draws.n(chosen.small)
    limit = profile.tokens(engine.max_positions)
    path, graded_by = folder / f"{chosen.stem(draws)}.parquet", grader_version(profile, chosen)
    ids = [problem.id for problem in chosen.problems]
    if here is None or here.is_main:
        _judge_stale(SampleStore(path, ids, n, warn), judge, chosen, graded_by)
    if here is not None:
        here.wait()
    together = here is not None and here.size > 1
    store = SampleStore(path, ids, n, warn, writer=f".{here.rank}" if here is not None and together else "")
    encoded = encode(engine, chosen.problems, limit)
    # asked once: the parts that others begin to write change what a process finds
    if not (store.complete if here is None else here.run_on_main(lambda: store.complete)):
        sampling = Sampling(
            temperature=draws.temperature, top_p=draws.top_p, max_tokens=limit, stop_ids=tuple(stop_ids),
            stop_texts=(*templates.find(profile.template).stop_texts, *profile.stop_texts),
        )  # fmt: skip
        mine = encoded if here is None else [encoded[i] for i in here.span(len(encoded))]
        with watch(f"{chosen.name} {draws.name}@{n}") as on_progress:
            draw = partial(
                draw_missing, engine, judge, mine, store, sampling=sampling, on_progress=on_progress,
                key=("evaluation", draws.name, seed), graded_by=graded_by,
            )  # fmt: skip
            if here is None:
                draw()
            else:
                here.run_locally(draw)

    def conclude() -> dict[str, Any]:
        whole = SampleStore(path, ids, n, warn) if together else store
        if not path.exists():
            whole.finish()
        return {
            "temperature": draws.temperature, "top_p": draws.top_p, "max_tokens": limit,
            "shortened": sum(e.max_tokens < limit for e in encoded), "prompts": _prompts_digest(chosen),
            "example_prompt": chosen.problems[0].prompt, "stop_ids": list(stop_ids), "samples": path.name,
            "graded_by": graded_by, **summary(whole.samples(), chosen.problems),
        }  # fmt: skip

    if here is None:
        return conclude()
    here.wait()  # until every part is written
    return here.run_on_main(conclude)


def _judge_stale(store: SampleStore, judge: Judge, chosen: EvaluationSet, graded_by: str) -> None:
    """Judge samples of an older grader again: verdicts of two graders are never mixed."""
    stale = [sample for sample in store.samples() if sample.graded_by != graded_by]
    if stale:
        store.regraded(grade_again(judge, chosen.problems, stale, graded_by))


def grader_version(profile: Profile, chosen: EvaluationSet) -> str:
    """Who judges a set, with the version."""
    if chosen.own_verifier:
        return f"{chosen.benchmark.name}@{chosen.benchmark.version}"
    return str(GRADERS[profile.grader].version)


def score_draws(profile: Profile, chosen: EvaluationSet) -> Draws:
    """The sampling that pass@k is read off: ``pass`` where the profile has it, else its only one."""
    return drawn(profile, chosen)[-1]


def _prompts_digest(chosen: EvaluationSet) -> str:
    return hashlib.sha256("\0".join(p.prompt for p in chosen.problems).encode()).hexdigest()[:16]


def drawn(profile: Profile, chosen: EvaluationSet) -> Sequence[Draws]:
    """The ways of sampling that apply to a set."""
    return [draws for draws in profile.draws if draws.n(chosen.small)]
