"""A training run's own evaluation on benchmarks, with the code and profiles of ``entrobench eval``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.distributed.world import world
from harness.evaluation import profiles
from harness.evaluation.draw import Progress, Reads, encode
from harness.evaluation.scores import majority_values
from harness.evaluation.session import judge_of
from harness.evaluation.sets import EvaluationSet, draw_set, drawn, open_set, with_prompts
from harness.model.text import stop_ids
from harness.problems import templates
from harness.registry import benchmarks
from harness.util import progress
from harness.util.errors import UserError, unknown
from harness.util.files import read_json, write_json

if TYPE_CHECKING:
    from harness.config.schema import RunConfig
    from harness.model.policy import Policy
    from harness.rollout.engine_sampler import EngineSampler

#: maj@k is kept in the result for these k, where there are enough samples.
MAJORITIES = (8, 32)
#: Seconds between two reports of progress: each is a file written to disk.
TELL_S = 2.0


def profile_of(run: RunConfig) -> profiles.Profile:
    """The profile that a run's ``eval.profile`` and ``eval.profile_settings`` name, checked."""
    changes = {}
    for word in run.eval.profile_settings:
        key, sign, value = word.partition("=" if "=" in word else ":")
        if not sign:
            raise UserError(
                f"'{word}' in eval.profile_settings is not a setting; write e.g. [n:8,max_tokens:2048]"
            )
        changes[key.strip()] = value.strip()
    return profiles.find(run.eval.profile, changes)


def evaluation_parts(run: RunConfig) -> list[str]:
    """What a run's evaluation on benchmarks depends on besides the run itself; empty without benchmarks."""
    if not run.eval.benchmarks:
        return []
    registry = benchmarks
    names = [name.partition(":")[0] for name in run.eval.benchmarks]
    return [profile_of(run).hash, *(registry.load(name).fingerprint() for name in names)]


def evaluate_benchmarks(
    run: RunConfig, policy: Policy, folder: Path, *, seed: int,
    on_progress: Callable[[str, int, int], None], by: EngineSampler | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Draw and judge what is missing; ``{set: summary}`` with the profile in each.

    Args:
        folder: gets the samples and a summary per set and sampling, which are never made twice.
        on_progress: called with (set, problems done, problems).
        by: the run's own engine, when it draws; by default the policy itself does.

    Several processes that train together share the problems; the first writes and all get the result.
    """
    from harness.rollout.engines.hf import HfEngine

    profile = profile_of(run)
    here = world()
    stops = stop_ids(policy.tokenizer, policy.model.get_input_embeddings().num_embeddings)
    evals: dict[str, Any] = {}
    with by.awake() if by else policy.network.gathered(), ExitStack() as stack:
        # log-probs of samples are those at T 1
        engine: Any = (
            by.engine if by else HfEngine(policy.at_temperature(1.0), batch_rows=run.eval.batch_rows)
        )
        for name in run.eval.benchmarks:
            chosen = _open(name, profile, policy.tokenizer)
            bodies = {}
            for draws in drawn(profile, chosen):
                done = folder / f"{chosen.stem(draws)}.json"
                body = here.run_on_main(partial(_read_if_there, done))
                if body is None:
                    judge, watch = judge_of(chosen, profile, stack), _watch(chosen.name, on_progress)
                    samples = draws.n(chosen.small) * len(chosen.problems)
                    with progress.phase(f"evaluate {chosen.name}", samples, "responses", announce=True):
                        body = draw_set(
                            chosen, draws, profile, folder, engine=engine, judge=judge,
                            stop_ids=stops, seed=seed, watch=watch, here=here,
                        )  # fmt: skip
                    if here.is_main:
                        write_json(done, body)
                bodies[draws.name] = body
            evals[chosen.name] = _entry(bodies) | {"profile": profile.label, "profile_hash": profile.hash}
    return evals


class _Reader(Reads, Protocol):
    @property
    def tokenizer(self) -> Any: ...


def check_prompts(run: RunConfig, read: _Reader) -> None:
    """Refuse prompts of a run's benchmarks that its model cannot be given, before anything is trained.

    Raises:
        UserError: a template that is not for this model, or a prompt that leaves no room for a response.
    """
    for name in run.eval.benchmarks:
        profile = profile_of(run)
        chosen = _open(name, profile, read.tokenizer)
        encode(read, chosen.problems, profile.tokens(read.max_positions))


def _open(name: str, profile: profiles.Profile, tokenizer: Any) -> EvaluationSet:
    name, _, split = name.partition(":")
    return with_prompts(open_set(benchmarks.load(name), profile, split), profile, tokenizer)


def _read_if_there(path: Path) -> dict[str, Any] | None:
    return dict(read_json(path)) if path.exists() else None


def _entry(bodies: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A result's entry of one set: the first sampling's summary, with the one for pass@k in ``pass``."""
    first = bodies["avg"] if "avg" in bodies else next(iter(bodies.values()))
    entry = {k: v for k, v in first.items() if k not in ("example_prompt", "stop_ids", "answers")}
    n = int(first["n"])
    entry["maj"] = {
        str(k): sum(values) / len(values)
        for k in MAJORITIES
        if k <= n
        for values in [majority_values(first, k)]
    }
    if "pass" in bodies:
        kept = ("n", "correct", "problem_ids", "temperature", "top_p")
        entry["pass"] = {k: bodies["pass"][k] for k in kept}
    return entry


def _watch(
    name: str, on_progress: Callable[[str, int, int], None]
) -> Callable[[str], AbstractContextManager[Callable[[Progress], None]]]:
    last = [float("-inf")]

    def tell(now: Progress) -> None:
        progress.reach(now.samples_done, found=now.samples_done - now.drawn)
        if time.monotonic() - last[0] >= TELL_S:
            last[0] = time.monotonic()
            on_progress(name, now.problems_done, now.problems)

    @contextmanager
    def watch(label: str) -> Iterator[Callable[[Progress], None]]:
        yield tell

    return watch


def evaluation_tokens(run: Any) -> int:
    """The most tokens that a run's test splits and benchmarks generate at its end; reads no data.

    Sets that do not say how many problems they have count as none. A response without a limit of its own
    counts with the most that a profile gives it.

    Args:
        run: sections of a configuration as attributes.
    """
    own = benchmarks.load(run.data.benchmark)
    samples = sum(_size(own, split) for split in run.eval.splits) * run.eval.n
    tokens = samples * run.rollout.max_response_tokens
    for word in run.eval.benchmarks:
        name, _, split = word.partition(":")
        profile, other = profile_of(run), benchmarks.load(name)
        problems = min(_size(other, split or "test"), profile.limit or sys.maxsize)
        small = bool(getattr(other, "small", problems <= 100))  # as open_set has it
        samples = sum(draws.n(small) for draws in profile.draws)
        tokens += problems * samples * profile.tokens(None)
    return int(tokens)


def _size(benchmark: Any, split: str) -> int:
    said = getattr(benchmark, "size", None)
    return (said(split) or 0) if said is not None else 0


def check_run(run: RunConfig, benchmarks: Sequence[str]) -> None:
    """Refuse a mistyped benchmark, profile or template of a run.

    Raises:
        UserError: names the nearest valid ones.
    """
    for name in run.eval.benchmarks:
        if name.partition(":")[0] not in benchmarks:
            raise unknown("benchmark", name.partition(":")[0], benchmarks)
    if run.eval.benchmarks:
        profile_of(run)
    if run.data.template:
        templates.find(run.data.template)
