"""One evaluation from request to record: everything is checked, then sets are drawn one after the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from harness.config.schema import slug
from harness.evaluation.draw import encode
from harness.evaluation.judges import Judge, OwnJudge, PoolJudge
from harness.evaluation.model import Weights, find_weights, vocabulary
from harness.evaluation.profiles import Draws, Profile, check_ks
from harness.evaluation.request import EvaluationRequest
from harness.evaluation.sets import (
    EvaluationSet,
    Watch,
    draw_set,
    drawn,
    grader_version,
    open_set,
    score_draws,
    with_prompts,
)
from harness.grading.grader import Grader
from harness.model.memory.machine import check_drawing
from harness.model.text import load_tokenizer, stop_ids
from harness.registry import benchmarks
from harness.rollout.engines.base import Engine, choose_device, open_engine
from harness.util.environment import commit, hardware, versions
from harness.util.errors import UserError
from harness.util.intact import read_sealed, write_sealed
from harness.util.locks import holder, lock_path, locked
from harness.util.progress import phase

SCHEMA = 1


class Session:
    """An evaluation whose request has been checked against its data and its model.

    Raises:
        UserError: data, model, tokenizer, template or ks that do not go together; nothing was written yet.
    """

    def __init__(self, request: EvaluationRequest, warn: Callable[[str], None] = lambda text: None) -> None:
        self.request, self.profile, self._warn = request, request.profile, warn
        registry = benchmarks
        self.weights: Weights = find_weights(request.model, request.revision, registry.shipped_models())
        self.sets = open_sets(request)
        check_all_ks(request, self.sets)
        self.tokenizer = load_tokenizer(self.weights.path, self.weights.revision)
        self.sets = [with_prompts(chosen, self.profile, self.tokenizer) for chosen in self.sets]
        self.stop_ids = stop_ids(self.tokenizer, vocabulary(self.weights))
        self.folder = Path(request.out).expanduser() / self.name

    @property
    def name(self) -> str:
        """``<model>-<profile>-<hash of model, profile, engine and seed>``."""
        return folder_name(self.request, self.weights.label, self.weights.fingerprint)

    def run(
        self,
        watch: Watch = lambda label: nullcontext(lambda progress: None),
        on_start: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """Draw what is missing and write the record after every set; returns the record.

        Args:
            watch: makes the display of one set's progress from its label.
            on_start: called when everything is checked and drawing begins.

        Raises:
            UserError: another process is at it, or a prompt does not fit the model's context.
            EngineDied: the engine ended; what was finished is kept.
        """
        with locked(lock_path(self.folder), wait=False) as ours, ExitStack() as stack:
            if not ours:
                raise UserError(f"process {holder(lock_path(self.folder))} is working on {self.folder}")
            record = self._read_record()
            engine: Engine | None = None
            for chosen in self.sets:
                judge = judge_of(chosen, self.profile, stack)
                for draws in drawn(self.profile, chosen):
                    if self._has(record, chosen, draws):
                        continue
                    if engine is None:
                        with phase(f"load {self.weights.label}", announce=True):
                            engine = self._open_engine()
                        stack.callback(engine.close)
                        for each in self.sets:  # a prompt that does not fit is found before anything is drawn
                            encode(engine, each.problems, self.profile.tokens(engine.max_positions))
                        record["engine"] = engine.describe()
                        record["request"] = _joined(record["request"], self.request.words)
                        write_sealed(self.folder / "record.json", record)
                        on_start()
                    body = draw_set(
                        chosen, draws, self.profile, self.folder, engine=engine, judge=judge, watch=watch,
                        stop_ids=self.stop_ids, seed=self.request.seed, warn=self._warn,
                    )  # fmt: skip
                    made_by = {"engine": record["engine"], "commit": commit()}
                    enter(self.folder, record, chosen, draws, body | made_by)
            return record

    def _has(self, record: dict[str, Any], chosen: EvaluationSet, draws: Draws) -> bool:
        entry = record["benchmarks"].get(chosen.name, {})
        body = entry.get("draws", {}).get(draws.name)
        return bool(
            body
            and entry["data"]["digest"] == chosen.digest
            and (self.folder / body["samples"]).exists()
            and body["graded_by"] == grader_version(self.profile, chosen)
        )

    def _open_engine(self) -> Engine:
        request = self.request
        _check_memory(request, self.weights)
        engine = open_engine(
            request.engine, self.weights.path, revision=self.weights.revision, dtype=request.dtype,
            device=request.device, **request.engine_options,
        )  # fmt: skip
        weights = self.weights.load()
        if weights is not None:
            engine.load_weights(weights.items())
        return engine

    def _read_record(self) -> dict[str, Any]:
        path = self.folder / "record.json"
        if path.exists():
            try:
                return dict(json.loads(read_sealed(path)))
            except ValueError as error:
                raise UserError(
                    f"{path} cannot be read ({error}); move it away: it is made again from the samples"
                ) from error
        return new_record(self)


def enter(
    folder: Path, record: dict[str, Any], chosen: EvaluationSet, draws: Draws, body: dict[str, Any]
) -> None:
    """Put one set and sampling into the record and write it."""
    entry = record["benchmarks"].setdefault(chosen.name, {})
    if entry.get("data", {}).get("digest") != chosen.digest:
        entry.clear()
    entry["data"] = {
        "source": chosen.source, "digest": chosen.digest, "problems": len(chosen.problems),
        "fingerprint": chosen.benchmark.fingerprint(), "version": chosen.benchmark.version,
    }  # fmt: skip
    if chosen.seed is not None:
        entry["data"] |= {"drawn_of": chosen.of, "drawn_with_seed": chosen.seed}
    entry.setdefault("draws", {})[draws.name] = body
    write_sealed(folder / "record.json", record)


def folder_name(request: EvaluationRequest, label: str, fingerprint: str) -> str:
    """What an evaluation's folder is called: two with the same name would draw the same samples."""
    parts = [
        fingerprint, request.profile.hash, request.engine, request.dtype, request.device, request.seed,
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
    return f"{slug(label)}-{slug(request.profile.label)}-{digest}"


def check_all_ks(request: EvaluationRequest, sets: Sequence[EvaluationSet]) -> None:
    """Refuse a k that a set's samples cannot tell."""
    for chosen in sets:
        draws = score_draws(request.profile, chosen)
        check_ks(request.ks, draws.n(chosen.small), f"{chosen.name} ({draws.name})")


def _check_memory(request: EvaluationRequest, weights: Weights) -> None:
    """Refuse a model that the memory of this machine does not hold, where a CPU draws."""
    if choose_device(request.device) == "cpu":
        given = request.engine_options.get("kv_cache_gib", 4.0)
        cache = float(given) if request.engine == "vllm" and isinstance(given, (int, float)) else 0.0
        check_drawing(weights.label, weights.path, weights.revision, request.dtype, cache)


def check_stored_ks(record: dict[str, Any], ks: Sequence[int]) -> None:
    """Refuse a k that the samples behind a record cannot tell."""
    for name, entry in record["benchmarks"].items():
        draws = entry.get("draws", {})
        body = draws.get("pass") or next(iter(draws.values()), None)
        if body:
            check_ks(ks, int(body["n"]), name)


def judge_of(chosen: EvaluationSet, profile: Profile, stack: ExitStack) -> Judge:
    """Who judges a set; its worker processes end with ``stack``."""
    if chosen.own_verifier:
        return OwnJudge(chosen.benchmark)
    grader = stack.enter_context(Grader(profile.grader))
    grader.start()  # while the engine loads
    return PoolJudge(grader)


def open_sets(request: EvaluationRequest) -> list[EvaluationSet]:
    """The problems of every set of the request, loaded and checked."""
    return [_open(request, name) for name in request.benchmarks]


def _open(request: EvaluationRequest, name: str) -> EvaluationSet:
    name, _, split = name.partition(":")
    benchmark = benchmarks.load_from(name, request.data_dir, request.accept_data)
    return open_set(benchmark, request.profile, split)


def new_record(session: Session) -> dict[str, Any]:
    """The frame of an evaluation's record: the whole protocol, no scores yet."""
    return {
        "schema": SCHEMA, "kind": "evaluation", "id": session.name,
        "model": {"label": session.weights.label, **session.weights.describe()},
        "profile": session.profile.as_record(), "engine": {}, "seed": session.request.seed,
        "request": list(session.request.words), "commit": commit(), "hardware": hardware(),
        "versions": versions("entrobench", "torch", "transformers", "math-verify"),
        "benchmarks": {},
    }  # fmt: skip


def _joined(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """The words asked for now, with the sets of both: an evaluation's folder may grow set by set."""
    sets = {name: None for words in (before, now) for name in _sets(words)}
    return [f"benchmark={','.join(sets)}" if w.startswith("benchmark=") else w for w in now]


def _sets(words: Sequence[str]) -> list[str]:
    named = next((w.partition("=")[2] for w in words if w.startswith("benchmark=")), "")
    return [name.strip() for name in named.split(",") if name.strip()]
