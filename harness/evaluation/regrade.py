"""Judging stored samples again, with a newer grader or another one; nothing is generated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness.evaluation.draw import grade_again
from harness.evaluation.request import EvaluationRequest, parse
from harness.evaluation.samples import CorruptSamples, Sample, SampleStore, read_samples, write_samples
from harness.evaluation.scores import summary
from harness.evaluation.session import enter, folder_name, judge_of, open_sets
from harness.evaluation.sets import EvaluationSet, drawn, grader_version
from harness.util.errors import UserError
from harness.util.intact import read_sealed, write_sealed


def read_record(folder: Path) -> dict[str, Any]:
    """The record of an evaluation's folder.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    try:
        record = dict(json.loads(read_sealed(folder / "record.json")))
    except FileNotFoundError as error:
        raise UserError(f"{folder} is not an evaluation's folder (no record.json in it)") from error
    except ValueError as error:
        raise UserError(
            f"{folder / 'record.json'} cannot be read ({error}); restore it or evaluate again"
        ) from error
    if record.get("kind") != "evaluation":
        raise UserError(f"{folder / 'record.json'} is not the record of an evaluation")
    return record


def request_of(record: dict[str, Any], folder: Path, words: Sequence[str] = ()) -> EvaluationRequest:
    """The request behind a record, with ``words`` in place of its own settings of the same name."""
    replaced = {word.partition("=")[0] for word in words}
    kept = [w for w in record["request"] if w.partition("=")[0] not in replaced]
    return parse([*kept, *words, f"out={folder.parent}"])


def regrade(folder: Path, words: Sequence[str] = ()) -> tuple[dict[str, Any], Path, dict[str, int]]:
    """Judge the samples of an evaluation again.

    Args:
        words: ``grader=…`` gives another evaluation in a folder of its own; this one stays as it is.

    Returns:
        The record, its folder, and how many verdicts changed by set and sampling.

    Raises:
        UserError: no such evaluation, a samples file that cannot be read, or other data than was drawn from.
    """
    source = read_record(folder)
    allowed = {"grader", "data_dir", "accept_data", "k"}
    strange = [w for w in words if w.partition("=")[0] not in allowed]
    if strange:
        raise UserError(
            f"{strange[0]} would need new samples; with --regrade only {', '.join(sorted(allowed))} change"
        )
    request = request_of(source, folder, words)
    target, record = _target(source, folder, request)
    changed: dict[str, int] = {}
    with ExitStack() as stack:
        for chosen in open_sets(request):
            data = source["benchmarks"].get(chosen.name, {}).get("data", {})
            if data and data["digest"] != chosen.digest:
                raise UserError(
                    f"the samples of {chosen.name} were drawn for other problems ({data['source']}); "
                    "give that copy by data_dir="
                )
            judge = judge_of(chosen, request.profile, stack)
            for draws in drawn(request.profile, chosen):
                name = f"{chosen.stem(draws)}.parquet"
                before = _stored(folder / name, chosen, draws.n(chosen.small))
                after = grade_again(judge, chosen.problems, before, grader_version(request.profile, chosen))
                changed[f"{chosen.name} {draws.name}"] = sum(
                    old.status != new.status for old, new in zip(before, after, strict=True)
                )
                write_samples(target / name, after)
                body = source["benchmarks"].get(chosen.name, {}).get("draws", {}).get(draws.name, {})
                body = body | {"samples": name, "graded_by": grader_version(request.profile, chosen)}
                enter(target, record, chosen, draws, body | summary(after, chosen.problems))
    return record, target, changed


def _target(source: dict[str, Any], folder: Path, request: EvaluationRequest) -> tuple[Path, dict[str, Any]]:
    name = folder_name(request, source["model"]["label"], source["model"]["fingerprint"])
    if name == source["id"]:
        return folder, source
    record = source | {
        "id": name, "profile": request.profile.as_record(), "request": list(request.words), "benchmarks": {},
        "samples_of": source["id"],
    }  # fmt: skip
    target = folder.parent / name
    write_sealed(target / "record.json", record)
    return target, record


def _stored(path: Path, chosen: EvaluationSet, n: int) -> list[Sample]:
    if not path.exists():
        raise UserError(
            f"{path.name} is not complete yet; run the evaluation without --regrade to draw the rest first"
        )
    try:
        read_samples(path)
    except CorruptSamples as error:
        raise UserError(
            f"{error}; the evaluation without --regrade moves it aside and draws again"
        ) from error
    return SampleStore(path, [p.id for p in chosen.problems], n).samples()
