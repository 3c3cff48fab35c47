"""Do the numbers of a record follow from its samples? They are graded again, by today's verifiers.

A record and its samples may come from anywhere: what ties them together is the digest of the responses that
the record holds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from harness.evaluation.draw import grade_again
from harness.evaluation.in_run import profile_of
from harness.evaluation.samples import CorruptSamples, read_samples
from harness.evaluation.scores import summary
from harness.evaluation.session import judge_of
from harness.evaluation.sets import drawn, grader_version, open_set
from harness.problems.problem import verify_all
from harness.records.load import load_records, read_result
from harness.records.record import Evaluation, PassSamples, Record, as_record
from harness.registry import benchmarks
from harness.util.errors import UserError

HOLDS, DIFFERS, MISSING = "holds", "differs", "cannot be checked"
#: Counts that must agree exactly, and means that must but for the last bits.
_EXACT = ("n", "problem_ids", "correct", "distinct", "distinct_correct")
_MEANS = ("mean_length", "truncated", "unparsed", "timeout")


@dataclass(frozen=True)
class Finding:
    """What was found about one evaluation set of one run; ``state`` is one of the three words above."""

    run_id: str
    name: str
    state: str
    detail: str


def records_at(source: Path, run: str = "") -> list[Record]:
    """The records in a file or folder: ``records.jsonl``, a run's ``result.json``, or a folder with either.

    Args:
        run: only those whose run id begins so.

    Raises:
        UserError: nothing there, a record that cannot be read, or none of that name.
    """
    path = source
    if source.is_dir():
        found = [source / name for name in ("records.jsonl", "result.json") if (source / name).exists()]
        if not found:
            raise UserError(f"{source} has neither records.jsonl nor result.json")
        path = found[0]
    if path.suffix == ".jsonl":
        loaded = load_records(path)
        if loaded.left_out:
            raise UserError("; ".join(loaded.left_out))
        records = list(loaded.records)
    else:
        try:
            records = [as_record(read_result(path.read_bytes()))]
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is not a result record: {error}") from error
    chosen = [record for record in records if record.run_id.startswith(run)]
    if not chosen:
        raise UserError(f"no record in {path} of a run that begins with '{run}'")
    return chosen


def samples_folder(record: Record, source: Path, given: Path | None, runs_dir: Path) -> Path:
    """Where the samples of ``record`` are: ``given``, beside the record, or in the run's own folder.

    ``given`` holds the files themselves, or a folder per run.
    """
    run_id = record.run_id
    beside = source if source.is_dir() else source.parent
    roots = [given] if given else [beside, runs_dir]
    for root in roots:
        for folder in (root / run_id / "eval", root / run_id, root / "eval", root):
            if any(folder.glob("*.parquet")):
                return folder
    return roots[-1] / run_id / "eval"


def verify_record(record: Record, folder: Path) -> Iterator[Finding]:
    """Grade the samples in ``folder`` again and compare; a finding for each evaluation set."""
    for name, entry in record.evals.items():
        try:
            if entry.profile is not None:
                state, detail = _benchmark(record, name, entry, folder)
            else:
                state, detail = _split(record, name, entry, folder)
        except UserError as error:
            state, detail = MISSING, str(error)
        yield Finding(record.run_id, name, state, detail)


def _split(record: Record, name: str, entry: Evaluation, folder: Path) -> tuple[str, str]:
    """A split of the training problems, judged by their benchmark's own verifier."""
    from harness.evaluation.splits import read_table, summary

    path = _existing(folder / f"{name}.parquet")
    family, _, version = record.benchmark.partition("@")
    benchmark = benchmarks.load(family)
    if benchmark.version != version or record.data_hash not in (None, benchmark.fingerprint()):
        raise UserError(
            f"made with other problems: {record.benchmark}, here is {family}@{benchmark.version}; "
            f"check it with commit {record.commit or 'unknown'}"
        )
    problems = {problem.id: problem for problem in benchmark.problems(name)}
    try:
        table = read_table(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    _same_problems(path, table["problem_id"], problems, entry)
    verdicts = verify_all(benchmark, [problems[i] for i in table["problem_id"]], table["text"].tolist())
    before = table["status"].tolist()
    table["status"] = [verdict.status for verdict in verdicts]
    table["canonical"] = [verdict.canonical for verdict in verdicts]
    found = summary(table, [problems[i] for i in entry.problem_ids or ()])
    changed = sum(old != new for old, new in zip(before, table["status"], strict=True))
    return _told(entry, found, len(table), changed)


def _benchmark(record: Record, name: str, entry: Evaluation, folder: Path) -> tuple[str, str]:
    """A set that was evaluated by a profile."""
    settings = _evaluation_settings(record, folder)
    profile = profile_of(SimpleNamespace(eval=SimpleNamespace(**settings)))  # type: ignore[arg-type]
    if profile.hash != entry.profile_hash:
        raise UserError(
            f"profile {entry.profile} is {profile.hash} here and was {entry.profile_hash}; "
            f"check it with commit {record.commit or 'unknown'}"
        )
    family, _, split = name.partition(":")
    chosen = open_set(benchmarks.load(family), profile, split)
    problems = {problem.id: problem for problem in chosen.problems}
    told: list[tuple[str, str]] = []
    with ExitStack() as stack:
        judge = judge_of(chosen, profile, stack)
        for index, draws in enumerate(drawn(profile, chosen)):
            own = entry if index == 0 else entry.passes
            if own is None:
                raise UserError(
                    "the record lacks the numbers of its samples for pass@k; collect the run again"
                )
            path = _existing(folder / f"{chosen.stem(draws)}.parquet")
            try:
                samples = read_samples(path)
            except CorruptSamples as error:
                raise UserError(str(error)) from error
            _same_problems(path, [s.problem_id for s in samples], problems, own)
            after = grade_again(judge, chosen.problems, samples, grader_version(profile, chosen))
            changed = sum(a.status != b.status for a, b in zip(samples, after, strict=True))
            told.append(_told(own, summary(after, chosen.problems), len(samples), changed))
    worst = next((pair for pair in told if pair[0] != HOLDS), told[0])
    return worst


def _evaluation_settings(record: Record, folder: Path) -> dict[str, Any]:
    """``profile`` and ``profile_settings`` of the run: in the record, or in the folder it comes from."""
    found = record.settings.eval
    config = folder.parent / "config.json"
    if not found and config.exists():
        found = json.loads(config.read_text(encoding="utf-8"))["config"]["eval"]
    if not found:
        raise UserError("the record does not say by which profile settings; collect the run again")
    return {key: found[key] for key in ("profile", "profile_settings")}


def _existing(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"no samples at {path}; say where they are: samples=FOLDER")
    return path


def _same_problems(
    path: Path, ids: Sequence[str], problems: Mapping[str, Any], entry: Evaluation | PassSamples
) -> None:
    strange = sorted({*ids, *(entry.problem_ids or ())} - set(problems))
    absent = sorted(set(entry.problem_ids or ()) - set(ids))
    if strange or absent:
        what = f"'{strange[0]}', which the set has not" if strange else f"no samples of '{absent[0]}'"
        raise UserError(f"{path} and the record are not of one evaluation: {what}")


def _told(
    entry: Evaluation | PassSamples, found: Mapping[str, Any], samples: int, changed: int
) -> tuple[str, str]:
    """Whether recorded and recomputed numbers agree, and what to say."""
    said = msgspec.structs.asdict(entry)
    wrong = [
        _difference(key, said[key], found[key])
        for key in _EXACT
        if said.get(key) is not None and said[key] != found[key]
    ]
    for key in _MEANS:
        if said.get(key) is not None and not math.isclose(said[key], found[key], rel_tol=1e-9, abs_tol=1e-12):
            wrong.append(f"{key} is {said[key]:.6g} and should be {found[key]:.6g}")
    for k, value in said.get("maj", {}).items():
        again = (found.get("maj") or {}).get(k)
        if again is None or value is None:
            continue
        if not math.isclose(value, again, rel_tol=1e-9, abs_tol=1e-12):
            wrong.append(f"maj@{k} is {value:.6g} and should be {again:.6g}")
    digest = said.get("samples_sha256")
    if digest and digest != found["samples_sha256"]:
        wrong.insert(0, "the samples are not those of the record (samples_sha256)")
    note = f"{samples} samples graded again" + (f", {changed} verdicts changed" if changed else "")
    if not digest:
        note += "; the record has no digest of its samples"
    return (DIFFERS, "; ".join(wrong)) if wrong else (HOLDS, note)


def _difference(key: str, recorded: Any, found: Any) -> str:
    if isinstance(recorded, list) and len(recorded) == len(found):
        other = [i for i, pair in enumerate(zip(recorded, found, strict=True)) if pair[0] != pair[1]]
        first = f"{recorded[other[0]]} and should be {found[other[0]]}"
        return f"{key} of {len(other)} of {len(found)} problems (the first is {first})"
    return f"{key} is {str(recorded)[:40]} and should be {str(found)[:40]}"
